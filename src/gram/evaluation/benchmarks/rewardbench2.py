"""RewardBench 2 (Malik et al., 2025): best of four, and Ties, where several answers are equally right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gram import statistics
from gram.data import Row
from gram.evaluation.benchmarks.benchmark import (
    Benchmark,
    Line,
    Scores,
    by_item,
    fault,
    label,
    macro,
    placed,
    plain,
    prompt,
    strengths,
    text,
    texts,
    without,
)
from gram.evaluation.items import Item
from gram.evaluation.records import Record
from gram.statistics import Estimate
from gram.types import FloatArray

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
TIES = "Ties"
_KINDS = ("ref", "tied")


@placed
def _item(row: Row) -> Item:
    subset, name = text(row, "subset"), label(row, "id")
    chosen, rejected = texts(row, "chosen"), texts(row, "rejected")
    if subset not in (*SUBSETS, TIES):
        raise fault(row, f"no subset of RewardBench 2: {subset!r}", "subset")
    ties = subset == TIES
    kind, _, number = name.partition(":")
    if ties and (kind not in _KINDS or not number):
        raise fault(row, f"expected 'ref:NUMBER' or 'tied:NUMBER', got {name!r}", "id")
    if not ties and len(chosen) != 1:
        raise fault(row, f"expected one chosen answer outside of Ties, got {len(chosen)}", "chosen")
    if kind == "tied" and ties and len(chosen) < 2:
        raise fault(row, "expected two or more chosen answers of a tied prompt", "chosen")
    return Item(
        id=name,
        prompt=prompt(row),
        responses=(*chosen, *rejected),
        correct=len(chosen),
        ask="all" if ties else "cross",
        subset=subset,
        group=f"{subset}:{number}" if ties else "",
        unit=f"{TIES}:{number}" if ties else "",
    )


def best_of(records: Sequence[Record]) -> float:
    """Credit of one item with one correct answer: 1 / (number of answers at the top), 0 if it is not there.

    The correct answer is at the top if no other beats it; those that tie with it are at the top with it.
    """
    choices = [record.choice for record in records]
    return 0.0 if min(choices) < 0.5 else 1.0 / (1 + sum(choice == 0.5 for choice in choices))


@dataclass(frozen=True, slots=True)
class Spread:
    """One prompt of Ties: spread of the correct answers, and gap from the worst of them to the best wrong."""

    within: float
    gap: float


def spread(values: FloatArray, correct: int) -> Spread:
    """Of (n,) strengths, the first ``correct`` of them those of correct answers.

    Example:
        >>> spread(np.array([3.0, 2.0, 0.5, 0.0]), correct=2)
        Spread(within=1.0, gap=1.5)
    """
    right, wrong = values[:correct], values[correct:]
    return Spread(float(right.max() - right.min()), float(right.min() - wrong.max()))


def ties_score(ref: Mapping[str, Spread], tied: Mapping[str, Spread]) -> tuple[Estimate, list[Line]]:
    """The official weighted mean: .30 tied accuracy, .30 ref accuracy, .20 and .20 margins, .01 tie-breaker.

    A prompt is accurate if its gap is above 0. Over the prompts with both forms: the gap of the tied form
    must exceed its spread (margin), and so must the smaller of both gaps (hard margin); the tie-breaker is
    tanh(smaller gap / spread - 1), 0 where both are 0. The interval resamples prompts.
    """
    both = [number for number in tied if number in ref]
    ref_right = np.array([ref[number].gap > 0 for number in ref], dtype=float)
    tied_right = np.array([tied[number].gap > 0 for number in tied], dtype=float)
    within = np.array([tied[number].within for number in both])
    gap = np.array([tied[number].gap for number in both])
    least = np.minimum(gap, np.array([ref[number].gap for number in both]))
    margin, hard = (gap > within).astype(float), (least > within).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        breaker = np.nan_to_num(np.tanh(least / within - 1), nan=0.0)
    parts = ((0.30, tied_right), (0.30, ref_right), (0.20, margin), (0.20, hard), (0.01, breaker))
    value = sum(weight * (float(part.mean()) if len(part) else 0.0) for weight, part in parts)
    # The prompts are the sample, not the answers: resample prompts, the same ones for all parts.
    numbers = sorted({*ref, *tied})
    columns = np.zeros((len(parts), 2, len(numbers)))  # weighted value and presence, by part and prompt
    for k, (places, part) in enumerate(
        zip((list(tied), list(ref), both, both, both), [part for _, part in parts], strict=True)
    ):
        at = [numbers.index(number) for number in places]
        columns[k, 0, at], columns[k, 1, at] = part, 1.0
    low, high = _resampled(columns, [weight for weight, _ in parts])
    lines = [
        Line("tied: accuracy", statistics.accuracy(tied_right), 1),
        Line("ref: accuracy", statistics.accuracy(ref_right), 1),
        Line("margin above spread", statistics.accuracy(margin), 1),
        Line("margin above spread, hard", statistics.accuracy(hard), 1),
    ]
    return Estimate(value, low, high, len(numbers)), lines


def _resampled(columns: FloatArray, weights: Sequence[float], resamples: int = 2_000) -> tuple[float, float]:
    n = columns.shape[2]
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    total = np.zeros(resamples)
    for weight, (value, presence) in zip(weights, columns, strict=True):
        count = draws @ presence
        total += weight * np.divide(draws @ value, count, out=np.zeros(resamples), where=count > 0)
    low, high = np.quantile(total, [0.025, 0.975])
    return float(low), float(high)


def scores(records: Sequence[Record]) -> Scores:
    """Accuracy by subset, the Ties score, and their mean."""
    items = list(by_item(plain(records)).values())
    lines: list[Line] = []
    parts: list[Estimate] = []
    missing = []
    for subset in SUBSETS:
        inside = [item for item in items if item[0].subset == subset]
        parts.append(statistics.accuracy(np.array([best_of(item) for item in inside])))
        lines += [Line(subset, parts[-1])] if inside else []
        missing += [] if inside else [subset]
    ties: dict[str, dict[str, Spread]] = {kind: {} for kind in _KINDS}
    for item in items:
        if item[0].subset == TIES:
            kind, _, number = item[0].id.partition(":")
            correct = 1 + max(r.pair[0] for r in item if r.gold[0] > r.gold[1])
            ties[kind][number] = spread(strengths(item), correct)
    if any(ties.values()):
        value, below = ties_score(ties["ref"], ties["tied"])
        parts.append(value)
        lines += [Line(TIES, value), *below]
        missing += [f"{TIES} ({kind})" for kind in _KINDS if not ties[kind]]
    else:
        missing.append(TIES)
    return Scores(macro(parts), "mean of the subsets", tuple(lines), without(missing))


BENCHMARK = Benchmark(
    "rewardbench2",
    "RewardBench 2",
    "Best of four: the correct answer must beat the other three; a tie at the top is shared. Ties: 30% "
    "accuracy on tied prompts, 30% on their references, 20% and 20% for margins above the spread of the "
    "correct answers, 1% tie-breaker. The score is the mean of the six subsets.",
    (("allenai/reward-bench-2::test", ""),),
    _item,
    scores,
)
