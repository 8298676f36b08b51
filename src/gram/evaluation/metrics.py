"""What the records say, in numbers: accuracy, calibration, and the difference between two models.

Pure functions of arrays; only ``paired_difference`` knows records, to see that two runs judged the same
items. A tie of the model counts half in every count of right answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gram.errors import DataError
from gram.evaluation.records import Record
from gram.types import FloatArray

Z95 = 1.959963984540054
BINS = 15


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of ``n`` items with its 95% interval. Without items the value is NaN."""

    value: float
    low: float
    high: float
    n: int


def accuracy(correct: FloatArray) -> Estimate:
    """Mean of (n,) values 0, 0.5 or 1, with its Wilson interval.

    Half credits vary less than the binomial that Wilson assumes, so with ties of the model the interval is
    on the wide side.
    """
    n = len(correct)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    value = float(np.mean(correct))
    return Estimate(value, *wilson(value, n), n)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95% score interval of a share seen on ``n`` items (Wilson, 1927).

    Unlike the normal interval it stays inside [0, 1] and is sound at shares of 0 and 1.
    """
    z2 = Z95**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def weighted(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """The weighted mean of independent estimates, with an interval made from theirs.

    The distances from the parts' values to their ends are added in squares, weight by weight (the method of
    variance estimates recovery; Zou and Donner, 2008). With Wilson intervals it stays sound at 0 and 1,
    where a normal interval has no width. Weights need not add up to 1; parts without items count nothing.
    """
    parts = [(weight, part) for weight, part in parts if part.n and weight > 0]
    total = sum(weight for weight, _ in parts)
    if not total:
        return Estimate(math.nan, 0.0, 1.0, 0)
    value = sum(weight * part.value for weight, part in parts) / total
    below = math.sqrt(sum((weight / total * (part.value - part.low)) ** 2 for weight, part in parts))
    above = math.sqrt(sum((weight / total * (part.high - part.value)) ** 2 for weight, part in parts))
    return Estimate(value, value - below, value + above, sum(part.n for _, part in parts))


def mean(values: FloatArray, *, seed: int = 0, resamples: int = 2_000) -> Estimate:
    """Mean of (n,) values of any scale, with a 95% bootstrap interval (percentiles)."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    low, high = paired_bootstrap(values, np.zeros(n), seed=seed, resamples=resamples)
    return Estimate(float(np.mean(values)), low, high, n)


def credit(p_a: FloatArray, labels: FloatArray) -> FloatArray:
    """(n,) probability, by the label, that the answer preferred by ``p_a`` is the better one.

    For hard labels: 1 if right, 0 if wrong, 0.5 if ``p_a`` is 0.5.
    """
    choice = 0.5 * (1.0 + np.sign(p_a - 0.5))
    return choice * labels + (1.0 - choice) * (1.0 - labels)


def brier(p_a: FloatArray, labels: FloatArray) -> float:
    """Mean squared error of (n,) probabilities against labels in [0, 1]: 0.25 for always saying 0.5."""
    return float(np.mean((p_a - labels) ** 2))


def log_loss(p_a: FloatArray, labels: FloatArray) -> float:
    """Mean cross-entropy in nats: log 2 for always saying 0.5."""
    return float(np.mean(log_losses(p_a, labels)))


def log_losses(p_a: FloatArray, labels: FloatArray) -> FloatArray:
    """(n,) cross-entropies in nats. Probabilities are kept 1e-12 off 0 and 1."""
    p = np.clip(p_a, 1e-12, 1 - 1e-12)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy, in the bins that hold any item.

    Attributes:
        confidence: (k,) mean of max(p, 1-p) in a bin.
        accuracy: (k,) share of right answers in it.
        count: (k,) items in it.
    """

    confidence: FloatArray
    accuracy: FloatArray
    count: FloatArray

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |accuracy - confidence|, weighted by the items of a bin."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.count))


def reliability(p_a: FloatArray, labels: FloatArray, bins: int = BINS) -> Reliability:
    """Sorts (n,) verdicts into equal-width bins of confidence between 0.5 and 1.

    Confidence, not ``p_a`` itself, is binned: which answer of a pair is called a means nothing, so nothing
    may depend on it. n must be at least 1.
    """
    confidence = np.maximum(p_a, 1 - p_a)
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins).astype(float)
    used = count > 0
    total = np.bincount(index, weights=confidence, minlength=bins)
    right = np.bincount(index, weights=credit(p_a, labels), minlength=bins)
    return Reliability((total[used] / count[used]), (right[used] / count[used]), count[used])


def paired_bootstrap(
    x: FloatArray, y: FloatArray, *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """95% percentile interval of mean(x - y), for (n,) results of two models on the same items.

    Items are drawn with replacement. As only how often each difference was drawn matters, the counts are
    drawn at once from the multinomial, which is the same distribution and needs no (resamples, n) table.
    """
    values, counts = np.unique(x - y, return_counts=True)
    n = len(x)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    low, high = np.quantile(drawn @ values / n, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(x: FloatArray, y: FloatArray) -> float:
    """Exact two-sided p-value that two models are right equally often, from (n,) results on the same items.

    McNemar's test in its binomial form: of the items where one does better, each does on half of them. With
    half credits it is the sign test.
    """
    wins, losses = int(np.sum(x > y)), int(np.sum(x < y))
    n, least = wins + losses, min(wins, losses)
    term = total = 1
    for k in range(least):
        term = term * (n - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / 2**n)


@dataclass(frozen=True, slots=True)
class Band:
    """What remains of the verdicts if those near 0.5 are read as ties.

    Attributes:
        width: a verdict within this distance of 0.5 is a tie.
        tied: share of all verdicts that are.
        accuracy: of the others, on rows that have a right answer.
        found: share of the rows labeled a tie that are read as one; NaN without such rows.
    """

    width: float
    tied: float
    accuracy: Estimate
    found: float


def tie_band(p_a: FloatArray, labels: FloatArray, width: float) -> Band:
    """(n,) probabilities and labels, read with a band of ``width`` around 0.5 in which the model abstains."""
    tied = np.abs(p_a - 0.5) <= width
    said = ~tied & (labels != 0.5)
    hard = (labels[said] > 0.5).astype(float)
    ties = tied[labels == 0.5]
    return Band(
        width,
        float(np.mean(tied)) if len(tied) else math.nan,
        accuracy(credit(p_a[said], hard)),
        float(np.mean(ties)) if len(ties) else math.nan,
    )


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Accuracy of one model minus that of another on the same ``n`` items.

    Attributes:
        difference: above 0 if the first is better.
        low: lower end of the 95% interval (paired bootstrap).
        high: upper end of it.
        p_value: of McNemar's exact test.
        n: items with a right answer.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def same_items(first: Sequence[Record], second: Sequence[Record], names: tuple[str, str] = ("", "")) -> None:
    """Nothing, if two runs compared the same answers in the same order.

    Raises:
        DataError: they did not; names the first difference, and the runs by ``names``.
    """
    runs = f"{names[0]} and {names[1]}" if any(names) else "runs"
    if len(first) != len(second):
        raise DataError(f"cannot compare {runs} over {len(first)} and {len(second)} rows")
    for number, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        if (a.place, a.label, a.length_a, a.length_b) != (b.place, b.label, b.length_a, b.length_b):
            raise DataError(
                f"cannot compare {runs} over different rows: number {number} is '{a.id}' and '{b.id}'"
                + (", with other answers" if a.id == b.id else "")
            )


def paired_difference(
    first: Sequence[Record], second: Sequence[Record], *, seed: int = 0, resamples: int = 10_000
) -> PairedDifference:
    """Compares two runs over the same rows.

    Raises:
        DataError: the runs judged different rows, or no row has a right answer.
    """
    same_items(first, second)
    x = np.array([a.correct for a in first if a.correct is not None])
    y = np.array([b.correct for b in second if b.correct is not None])
    if not len(x):
        raise DataError("cannot compare runs in which no row has a right answer")
    low, high = paired_bootstrap(x, y, seed=seed, resamples=resamples)
    return PairedDifference(float(np.mean(x - y)), low, high, mcnemar(x, y), len(x))
