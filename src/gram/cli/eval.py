"""``gram eval``: a model measured on preference data, with intervals, biases and floors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gram.cli.options import ModelOptions
from gram.errors import DataError

if TYPE_CHECKING:
    from gram.types import FloatArray, Preference

_FLOOR_ROWS = 5000  # training rows per source for the bag of words; more do not help it


@dataclass(frozen=True, kw_only=True)
class Config(ModelOptions):
    """Measure a model on preference data: accuracy with 95% intervals, by subset, beside the floors.

    Writes records.jsonl (what the model said on every row), results.json and report.md. A killed run goes
    on where it stopped when the same command is given again.
    """

    data: list[str]
    """Preference data: files, dataset folders or Hub names. Several of them are the table's subsets."""
    output: Path
    """Folder for the records and the report."""
    split: str | None = None
    """Use only this split."""
    max_per_source: int | None = None
    """Take at most this many rows from each source (a seeded sample)."""
    seed: int = 0
    """Seed of that sample."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT/rejects.jsonl and go on."""


def run(config: Config) -> dict[str, Any]:
    """Evaluate; returns the overall numbers."""
    from gram.data import read_preferences
    from gram.data.journal import Journal
    from gram.evaluation import evaluate, summarize, write_report

    began = time.monotonic()
    rows = read_preferences(
        config.data,
        split=config.split,
        on_error=config.on_error,
        rejects=config.output / "rejects.jsonl",
        max_per_source=config.max_per_source,
        seed=config.seed,
    )
    preferences = list(rows.records)
    counts = [source.records for source in rows.sources]
    if len(counts) > 1:
        names = np.repeat([Path(source.name).name.partition(".")[0] for source in rows.sources], counts)
        preferences = [replace(p, subset=str(name)) for p, name in zip(preferences, names, strict=True)]
    if config.single_order:
        preferences = [_shown_by_hash(preference) for preference in preferences]

    model = config.load_model()
    header = config.fingerprint() | {"data": [source.sha256 for source in rows.sources]}
    journal = Journal(config.output / "records.jsonl", header)
    resumed = journal.done
    records = evaluate(model, preferences, journal=journal)
    journal.finish()
    summary = summarize(records, _floors(config, preferences, counts))
    about = {
        "model": config.model,
        "data": [
            {"name": s.name, "split": s.split, "records": s.records, "sha256": s.sha256} for s in rows.sources
        ],
        "single_order": config.single_order,
        "truncated_prompts": model.truncated,
        "rejected": rows.rejected,
    }
    title = f"{Path(config.model).name} on {', '.join(Path(source.name).name for source in rows.sources)}"
    results, report = write_report(config.output, summary, about=about, title=title)
    overall = summary.to_dict()["overall"]
    return {
        "output": str(config.output),
        "report": str(report),
        "results": str(results),
        "rows": len(records),
        "resumed": resumed,
        "accuracy": overall["accuracy"],
        "consistency": overall["consistency"],
        "floors": overall["floors"],
        "truncated_prompts": model.truncated,
        "rejected": rows.rejected,
        "seconds": round(time.monotonic() - began, 2),
    }


def _shown_by_hash(preference: Preference) -> Preference:
    """With one order only, which answer stands first must not depend on the label: let the texts decide."""
    from hashlib import sha256

    first, second = sorted((preference.pair.a, preference.pair.b))
    even = sha256(f"{first}\0{second}".encode()).digest()[0] % 2 == 0
    return preference if (preference.pair.a == first) == even else preference.swapped()


def _floors(
    config: Config, preferences: Sequence[Preference], counts: Sequence[int]
) -> dict[str, FloatArray]:
    """The floors of each source; its own training rows teach the bag of words, where it has any."""
    from gram.evaluation import floors

    parts, start = [], 0
    for source, count in zip(config.data, counts, strict=True):
        parts.append(floors(preferences[start : start + count], _training_rows(config, source)))
        start += count
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _training_rows(config: Config, source: str) -> Sequence[Preference]:
    from gram.data import read_preferences

    base, _, own = source.partition("::")
    if (own or config.split) in (None, "", "train"):
        return ()  # all rows are judged, or the training rows themselves: cross-validate on them
    try:
        rows = read_preferences(
            f"{base}::train", on_error=config.on_error, max_per_source=_FLOOR_ROWS, seed=config.seed
        )
    except DataError:
        return ()  # this source has no training rows
    return rows.records
