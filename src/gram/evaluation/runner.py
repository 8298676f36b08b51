"""Asks a model about items, and writes one record per comparison.

Does not know what kind of model it is, which benchmark the items come from, or what is computed from the
records. The items alone decide how they are cut into calls, so a run that was killed and goes on makes the
same calls as an uninterrupted one, and gets the same numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gram.errors import DataError, ScoringError
from gram.evaluation.items import Item, shown_first
from gram.evaluation.records import Place, Record
from gram.evaluation.texts import repetition
from gram.journal import Journal
from gram.progress import parts_with_progress
from gram.types import Chat, FloatArray, PreferenceModel, RewardModel, ScalarModel, Usage, Verdicts
from gram.workers import Alone, Workers

# Log-odds in the records of a model that is certain, for JSON has no infinity; finite ones stay as they are.
CERTAIN = 1000.0

CHUNK = 256


@dataclass(frozen=True, slots=True)
class Stamp:
    """Fields that are equal in all records of a run: fingerprints of run and template, and the seed."""

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

    @property
    def place(self) -> Place:
        return (self.item.source, self.item.id, self.item.variant, self.i, self.j)


def evaluate(
    model: PreferenceModel | ScalarModel | Workers[PreferenceModel | ScalarModel],
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
            Or ``Workers`` that have one each.
        items: the questions; their labels are not shown to the model.
        stamp: goes into every record.
        journal: comparisons whose records are in it are not asked again, and new records are added call by
            call. The caller finishes it.
        both_orders: as in ``Asking``; False shows the answers in one order only, picked by a hash of the
            item's id.
        chunk: about how many comparisons to a call, and to a write: what a kill can cost. Items stay whole.
        shard: (i, n): of the calls only every n-th, from the i-th on. The calls are those of a whole run, so
            the merged records of all shards are those of one whole run.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        ScoringError: the model gave no number for a comparison, or not one per comparison.
        DataError: the journal holds records of other items.

    Example:
        >>> class Longest:
        ...     def compare(self, pairs):
        ...         log_odds = np.array([[float(len(x.a) - len(x.b))] * 2 for x in pairs])
        ...         return Verdicts(log_odds, np.ones_like(log_odds))
        >>> [record] = evaluate(Longest(), [Item("q1", prompt=(), responses=("Yes, it is.", "No."))])
        >>> record.log_odds, record.correct
        ((8.0, 8.0), 1.0)
    """
    stamp = stamp or Stamp()
    parts = _parts(items, chunk, shard)
    records = _resume(journal, parts) if journal is not None else []
    ends = np.cumsum([len(part) for part in parts])
    place = int(np.searchsorted(ends, len(records), side="right"))  # of the first call with records missing
    workers = model if isinstance(model, Workers) else Alone(model)
    judged = workers.map(partial(_judge, stamp=stamp, both_orders=both_orders), parts[place:])
    bar = parts_with_progress(parts, start=place, title="judging", show=progress)
    for _, records_of_part in zip(bar, judged, strict=True):
        # A call of which some records are on file is made again as a whole, and only the others are added.
        on_file = len(records) - int(ends[place - 1] if place else 0)
        new = records_of_part[on_file:]
        if journal is not None:
            journal.append(record.to_dict() for record in new)
        records += new
        place += 1
    return records


def comparisons(items: Sequence[Item]) -> int:
    """How many comparisons, and so records, the items make.

    Example:
        >>> comparisons([Item("q1", prompt=(), responses=("4", "5", "6"))])
        2
    """
    return sum(len(item.comparisons) for item in items)


def places(items: Sequence[Item], shard: tuple[int, int] = (1, 1), chunk: int = CHUNK) -> list[Place]:
    """The places of the records that ``evaluate`` gives, in their order.

    Example:
        >>> places([Item("q1", prompt=(), responses=("4", "5", "6"))])
        [('', 'q1', '', 0, 1), ('', 'q1', '', 0, 2)]
    """
    return [comparison.place for part in _parts(items, chunk, shard) for comparison in part]


def _parts(items: Sequence[Item], chunk: int, shard: tuple[int, int]) -> list[list[Comparison]]:
    return list(_calls(items, chunk))[shard[0] - 1 :: shard[1]]


def _calls(items: Sequence[Item], chunk: int) -> Iterator[list[Comparison]]:
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
    expected = [comparison.place for part in parts for comparison in part]
    if [record.place for record in records] != expected[: len(records)]:
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
    bounded = verdicts.bounded if verdicts.bounded is not None else np.zeros((len(part), 2), bool)
    finite = np.nan_to_num(verdicts.log_odds, nan=np.nan, posinf=CERTAIN, neginf=-CERTAIN)
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
            bounded=(bool(bounded[k, 0]), bool(bounded[k, 1])),
        )
        for k, c in enumerate(part)
    ]


def _from_comparisons(model: PreferenceModel, part: Sequence[Comparison], both_orders: bool) -> Verdicts:
    is_swapped = np.array([not both_orders and shown_first(c.item, c.i, c.j) != c.i for c in part])
    pairs = [
        c.item.pair(c.j, c.i) if t else c.item.pair(c.i, c.j) for c, t in zip(part, is_swapped, strict=True)
    ]
    verdicts = model.compare(pairs)
    if len(verdicts) != len(part):
        raise ScoringError(f"the model gave {len(verdicts)} verdicts on {len(part)} pairs")
    log_odds, mass = verdicts.log_odds.copy(), verdicts.mass.copy()
    if not both_orders:  # a model may answer in both orders all the same: keep the first one only
        log_odds[:, 1] = mass[:, 1] = np.nan
    back = Verdicts(log_odds, mass).swapped()
    log_odds[is_swapped], mass[is_swapped] = back.log_odds[is_swapped], back.mass[is_swapped]
    bounded = verdicts.bounded
    if bounded is not None:
        bounded = np.where(is_swapped[:, None], bounded[:, ::-1], bounded) & ~np.isnan(log_odds)
    silent = np.flatnonzero(np.isnan(log_odds).all(axis=1))
    if silent.size:
        raise ScoringError(f"the model gave no verdict on item {part[silent[0]].name}: NaN in every order")
    return Verdicts(log_odds, mass, bounded=bounded)


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
    scores = np.asarray(model.score(prompts, responses), dtype=np.float64)
    if scores.shape != (len(prompts),):
        raise ScoringError(f"the model gave scores of shape {scores.shape} for {len(prompts)} answers")
    pairs = np.array([[answers[id(c.item), c.i], answers[id(c.item), c.j]] for c in part])
    table: FloatArray = scores[pairs]
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
    """Tokens cut per comparison; computed only if the model's ``usage`` shows that any prompt was cut."""
    if not isinstance(model, RewardModel):
        return [None] * len(part)
    if model.usage.truncated == before.truncated:
        return [0] * len(part)
    return model.tokens_cut([c.item.pair(c.i, c.j) for c in part]) or [None] * len(part)
