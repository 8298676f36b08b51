"""Asks a model about preferences, and keeps what it said.

Does not know what kind of model it is, where the rows came from, or what will be made of the records.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gram.data.journal import Journal
from gram.errors import DataError, ScoringError
from gram.evaluation.records import Record
from gram.progress import chunks_with_progress
from gram.types import Preference, PreferenceModel

# Stands for certainty in the records: sigmoid is 0 or 1 in double precision long before.
MAX_LOG_ODDS = 1000.0


def evaluate(
    model: PreferenceModel,
    preferences: Sequence[Preference],
    *,
    journal: Journal | None = None,
    chunk: int = 256,
    progress: bool = True,
) -> list[Record]:
    """Judges every preference, in order.

    Args:
        model: asked ``chunk`` pairs at a time.
        preferences: the rows; their labels are not shown to the model.
        journal: what is on file there is not asked again, and new records are added chunk by chunk. The
            caller finishes it.
        chunk: pairs per call, and per write to the journal: what a kill can cost.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        ScoringError: the model gave no verdict on a row in either order, or not one verdict per pair.
        DataError: the journal holds records of other rows.
    """
    records = _resume(journal, preferences) if journal is not None else []
    chunks = chunks_with_progress(preferences, chunk, start=len(records), title="judging", show=progress)
    for part in chunks:
        judged = _judge(model, part, len(records))
        if journal is not None:
            journal.append(record.to_dict() for record in judged)
        records += judged
    return records


def _resume(journal: Journal, preferences: Sequence[Preference]) -> list[Record]:
    records = [Record.from_dict(row) for row in journal.records()]
    ids = [preference.id for preference in preferences[: len(records)]]
    if [record.id for record in records] != ids:
        raise DataError("holds records of other rows; remove it", file=str(journal.partial))
    return records


def _judge(model: PreferenceModel, preferences: Sequence[Preference], start: int) -> list[Record]:
    verdicts = model.compare([preference.pair for preference in preferences])
    if len(verdicts) != len(preferences):
        raise ScoringError(f"the model gave {len(verdicts)} verdicts on {len(preferences)} pairs")
    silent = np.flatnonzero(np.isnan(verdicts.log_odds).all(axis=1))
    if silent.size:
        row = int(silent[0])
        name = preferences[row].id or f"number {start + row + 1}"
        raise ScoringError(f"the model gave no verdict on row {name} (NaN in both orders)")
    finite = np.clip(verdicts.log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return [
        Record(
            id=preference.id,
            subset=preference.subset,
            label=preference.p_a,
            log_odds=(float(log_odds[0]), float(log_odds[1])),
            mass=(float(mass[0]), float(mass[1])),
            length_a=len(preference.pair.a),
            length_b=len(preference.pair.b),
        )
        for preference, log_odds, mass in zip(preferences, finite, verdicts.mass, strict=True)
    ]
