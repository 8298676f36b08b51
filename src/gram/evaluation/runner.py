"""Asks a model about items, and keeps what it said: one record per comparison.

Does not know what kind of model it is, which benchmark the items come from, or what will be made of the
records. The way items are cut into calls is fixed by the items alone, so a run that was killed and goes on
asks exactly what an uninterrupted one asks, and gets the same numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gram.errors import DataError, ScoringError
from gram.evaluation.items import Item, shown_first
from gram.evaluation.records import Record
from gram.evaluation.texts import repetition
from gram.files import Journal
from gram.progress import parts_with_progress
from gram.types import Chat, FloatArray, PreferenceModel, RewardModel, ScalarModel, Usage, Verdicts

# Stands for certainty in the records: sigmoid is 0 or 1 in double precision long before.
MAX_LOG_ODDS = 1000.0

CHUNK = 256


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every record of a run carries: fingerprints of run and template, and the seed."""

    run: str = ""
    template: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    item: Item
    i: int
    j: int

    @property
    def name(self) -> str:
        return f"{self.item.id} (answers {self.i} and {self.j})"


def evaluate(
    model: PreferenceModel | ScalarModel,
    items: Sequence[Item],
    *,
    stamp: Stamp | None = None,
    journal: Journal | None = None,
    both_orders: bool = True,
    chunk: int = CHUNK,
    shard: tuple[int, int] = (1, 1),
    progress: bool = True,
) -> list[Record]:
    """Asks about every comparison of every item, in order.

    Args:
        model: compares pairs, or scores single answers; one that does both is asked for scores, each answer
            of a call once, and its log-odds are their difference times the slope of a ``RewardModel``, or 1.
        items: the questions; their labels are not shown to the model.
        stamp: goes into every record.
        journal: what is on file there is not asked again, and new records are added call by call. The
            caller finishes it.
        both_orders: as in ``Asking``; False shows the answers in one order only, picked by a hash of the
            item's id.
        chunk: about how many comparisons to a call, and to a write: what a kill can cost. Items stay whole.
        shard: (i, n): of the calls only every n-th, from the i-th on. The calls stay what they are, so the
            records of all shards, merged, are those of one whole run.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        ScoringError: the model gave no number for a comparison, or not one per comparison.
        DataError: the journal holds records of other items.
    """
    stamp = stamp or Stamp()
    parts = list(_parts(items, chunk))[shard[0] - 1 :: shard[1]]
    records = _resume(journal, parts) if journal is not None else []
    ends = np.cumsum([len(part) for part in parts])
    begun = int(np.searchsorted(ends, len(records), side="right"))  # calls whose records are all there
    for part in parts_with_progress(parts, start=begun, title="judging", show=progress):
        kept = len(records) - int(
            ends[begun - 1] if begun else 0
        )  # of a torn call: ask it whole, add the rest
        judged = _judge(model, part, stamp, both_orders)[kept:]
        if journal is not None:
            journal.append(record.to_dict() for record in judged)
        records += judged
        begun += 1
    return records


def comparisons(items: Sequence[Item]) -> int:
    """How many records the items make."""
    return sum(len(item.comparisons) for item in items)


def _parts(items: Sequence[Item], chunk: int) -> Iterator[list[Comparison]]:
    part: list[Comparison] = []
    for item in items:
        part += [Comparison(item, i, j) for i, j in item.comparisons]
        if len(part) >= chunk:
            yield part
            part = []
    if part:
        yield part


def _resume(journal: Journal, parts: Sequence[Sequence[Comparison]]) -> list[Record]:
    records = [Record.from_dict(row) for row in journal.records()]
    wanted = [(c.item.source, c.item.id, c.item.variant, c.i, c.j) for part in parts for c in part]
    if [record.place for record in records] != wanted[: len(records)]:
        raise DataError("holds records of other rows; remove it", file=str(journal.partial))
    return records


def _judge(
    model: PreferenceModel | ScalarModel, part: Sequence[Comparison], stamp: Stamp, both_orders: bool
) -> list[Record]:
    before = model.usage if isinstance(model, RewardModel) else Usage()
    scores: list[tuple[float, float]] | None = None
    if isinstance(model, ScalarModel):
        scores, verdicts = _from_scores(model, part)
    else:
        verdicts = _from_comparisons(model, part, both_orders)
    cut = _tokens_cut(model, part, before)
    finite = np.clip(verdicts.log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return [
        Record(
            id=c.item.id,
            subset=c.item.subset,
            label=c.item.label_of(c.i, c.j),
            log_odds=(float(finite[k, 0]), float(finite[k, 1])),
            mass=(float(verdicts.mass[k, 0]), float(verdicts.mass[k, 1])),
            length_a=len(c.item.responses[c.i]),
            length_b=len(c.item.responses[c.j]),
            source=c.item.source,
            unit=c.item.block,
            group=c.item.group,
            variant=c.item.variant,
            pair=(c.i, c.j),
            gold=(c.item.gold_of(c.i), c.item.gold_of(c.j)),
            styles=(c.item.style_of(c.i), c.item.style_of(c.j)),
            scores=scores[k] if scores else None,
            repetition=(repetition(c.item.responses[c.i]), repetition(c.item.responses[c.j])),
            truncated=cut[k],
            run=stamp.run,
            template=stamp.template,
            seed=stamp.seed,
        )
        for k, c in enumerate(part)
    ]


def _from_comparisons(model: PreferenceModel, part: Sequence[Comparison], both_orders: bool) -> Verdicts:
    turned = np.array([not both_orders and shown_first(c.item, c.i, c.j) != c.i for c in part])
    pairs = [c.item.pair(c.j, c.i) if t else c.item.pair(c.i, c.j) for c, t in zip(part, turned, strict=True)]
    said = model.compare(pairs)
    if len(said) != len(part):
        raise ScoringError(f"the model gave {len(said)} verdicts on {len(part)} pairs")
    log_odds, mass = said.log_odds.copy(), said.mass.copy()
    if not both_orders:  # whatever else the model says, only the order that was meant is kept
        log_odds[:, 1] = mass[:, 1] = np.nan
    back = Verdicts(log_odds, mass).swapped()
    log_odds[turned], mass[turned] = back.log_odds[turned], back.mass[turned]
    silent = np.flatnonzero(np.isnan(log_odds).all(axis=1))
    if silent.size:
        raise ScoringError(f"the model gave no verdict on item {part[silent[0]].name}: NaN in every order")
    return Verdicts(log_odds, mass)


def _from_scores(
    model: ScalarModel, part: Sequence[Comparison]
) -> tuple[list[tuple[float, float]], Verdicts]:
    answers: dict[tuple[int, int], int] = {}  # (item by identity, place) -> row of the call
    prompts: list[Chat] = []
    responses: list[str] = []
    for c in part:
        for place in (c.i, c.j):
            if answers.setdefault((id(c.item), place), len(prompts)) == len(prompts):
                prompts.append(c.item.prompt)
                responses.append(c.item.responses[place])
    said = np.asarray(model.score(prompts, responses), dtype=np.float64)
    if said.shape != (len(prompts),):
        raise ScoringError(f"the model gave scores of shape {said.shape} for {len(prompts)} answers")
    pairs = np.array([[answers[id(c.item), c.i], answers[id(c.item), c.j]] for c in part])
    table: FloatArray = said[pairs]
    bad = np.argwhere(~np.isfinite(table))
    if bad.size:
        c = part[bad[0, 0]]
        raise ScoringError(
            f"the model gave no finite score for answer {(c.i, c.j)[bad[0, 1]]} of item {c.item.id}"
        )
    slope = model.slope if isinstance(model, RewardModel) else 1.0
    log_odds = slope * (table[:, 0] - table[:, 1])
    both = np.stack([log_odds, log_odds], axis=1)
    return [(float(a), float(b)) for a, b in table], Verdicts(both, np.ones_like(both))


def _tokens_cut(
    model: PreferenceModel | ScalarModel, part: Sequence[Comparison], before: Usage
) -> Sequence[int | None]:
    """Tokens cut per comparison; looked up only where the model's own count says that any were."""
    if not isinstance(model, RewardModel):
        return [None] * len(part)
    if model.usage.truncated == before.truncated:
        return [0] * len(part)
    return model.tokens_cut([c.item.pair(c.i, c.j) for c in part]) or [None] * len(part)
