"""Numbers about numbers: means with intervals, tests of a difference, calibration.

Pure functions of arrays; knows no records, models or files. A tie of a model counts half in every count of
right answers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gram.types import FloatArray, Verdicts

Z95 = 1.959963984540054
BINS = 15
Clusters: TypeAlias = Sequence[Hashable] | None  # (n,) names: values of one name are not independent
LOWEST, HIGHEST = 1e-6, 1e6  # ends of the range in which a temperature is looked for

_T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
_GRID = 181
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of ``n`` items with its 95% interval. Without items the value is NaN."""

    value: float
    low: float
    high: float
    n: int


def accuracy(correct: FloatArray, clusters: Clusters = None) -> Estimate:
    """Mean of (n,) values 0, 0.5 or 1, with its Wilson interval.

    With half credits it is on the wide side. With ``clusters`` it is that of as many independent values as
    tell as much (``effective_number``).

    Example:
        >>> estimate = accuracy(np.array([1.0, 1.0, 1.0, 0.0]))
        >>> estimate.value, round(estimate.low, 2), round(estimate.high, 2)
        (0.75, 0.3, 0.95)
    """
    n = len(correct)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    value = float(np.mean(correct))
    return Estimate(value, *wilson(value, effective_number(correct, clusters)), n)


def effective_number(values: FloatArray, clusters: Clusters = None) -> float:
    """How many independent values tell as much about the mean as these n shares in clusters.

    n over the design effect: the variance of the mean by ``clustered_error`` over that of independent values
    (Kish, 1965; Korn and Graubard, 1998). Where all are 0, or all 1, each cluster counts as one value.
    """
    n = len(values)
    index = numbered(clusters) if clusters is not None else np.arange(n)
    groups = len(np.unique(index))
    if groups == n:
        return n
    value = float(np.mean(values))
    independent = value * (1.0 - value)
    if independent == 0.0:
        return groups
    error = clustered_error(values, index)
    return max(1.0, min(float(n), independent / error**2 if error else float(n)))


def numbered(names: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """(n,) number of each name, from 0 in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def wilson(share: float, n: float) -> tuple[float, float]:
    """95% score interval of a share seen on ``n`` items (Wilson, 1927); sound at shares of 0 and 1."""
    z2 = Z95**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def weighted(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """The weighted mean of independent estimates, with an interval made from theirs.

    The distances from the parts' values to their ends are added in squares, weight by weight (Zou and Donner,
    2008); with Wilson intervals it stays sound at 0 and 1. Parts without items count nothing.
    """
    parts = [(weight, part) for weight, part in parts if part.n and weight > 0]
    total = sum(weight for weight, _ in parts)
    if not total:
        return Estimate(math.nan, 0.0, 1.0, 0)
    value = sum(weight * part.value for weight, part in parts) / total
    below = math.sqrt(sum((weight / total * (part.value - part.low)) ** 2 for weight, part in parts))
    above = math.sqrt(sum((weight / total * (part.high - part.value)) ** 2 for weight, part in parts))
    return Estimate(value, value - below, value + above, sum(part.n for _, part in parts))


def mean(values: FloatArray, clusters: Clusters = None, *, seed: int = 0, resamples: int = 2_000) -> Estimate:
    """Mean of (n,) values of any scale, with a 95% bootstrap interval (percentiles); clusters stay whole."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    low, high = paired_bootstrap(values, np.zeros(n), clusters, seed=seed, resamples=resamples)
    return Estimate(float(np.mean(values)), low, high, n)


def mean_by_group(
    values: FloatArray, groups: npt.NDArray[Any], *, seed: int = 0, resamples: int = 4_000
) -> Estimate:
    """Mean of (n,) values with a 95% bootstrap interval that draws whole groups, whose rows depend."""
    index = np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(index, weights=values), np.bincount(index).astype(float)
    share = np.full(len(counts), 1 / len(counts))
    drawn = np.random.default_rng(seed).multinomial(len(counts), share, resamples)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of one value per seed, ten at most, with Student's t; of a single seed no interval (NaN)."""
    middle, half = statistics.mean(values), math.nan
    if len(values) > 1:
        half = _T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(middle, middle - half, middle + half, len(values))


def clustered_error(values: FloatArray, cluster: npt.NDArray[np.int64]) -> float:
    """Standard error of the mean of (n,) values that are independent between clusters only.

    Deviations are summed per cluster before they are squared (Liang and Zeger, 1986), with the factor
    g / (g - 1) for g clusters; infinite for one cluster.
    """
    sums = np.bincount(cluster, weights=values - np.mean(values))
    present = len(np.unique(cluster))
    if present < 2:
        return math.inf
    return math.sqrt(present / (present - 1) * float(np.sum(sums**2))) / len(values)


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

    Confidence, not ``p_a``, is binned: which answer is called a means nothing. n must be at least 1.
    """
    confidence = np.maximum(p_a, 1 - p_a)
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins).astype(float)
    used = count > 0
    total = np.bincount(index, weights=confidence, minlength=bins)
    right = np.bincount(index, weights=credit(p_a, labels), minlength=bins)
    return Reliability((total[used] / count[used]), (right[used] / count[used]), count[used])


def best_temperature(log_odds: FloatArray, labels: FloatArray) -> float:
    """The temperature with the lowest log loss of ``tempered``, to (n,) labels in [0, 1].

    ``LOWEST`` where no verdict is wrong; ``HIGHEST`` where always saying 0.5 is better than any temperature.
    The (n, 2) log-odds are finite; NaN: not asked.
    """

    def loss(logarithm: float) -> float:
        scaled = log_odds * math.exp(-logarithm)
        return -float(np.mean(labels * _log_mean(scaled) + (1 - labels) * _log_mean(-scaled)))

    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), _GRID)
    best = int(np.argmin([loss(place) for place in grid]))
    if best in (0, _GRID - 1):
        return HIGHEST if best else LOWEST
    low, high = grid[best - 1], grid[best + 1]
    for _ in range(40):  # golden section: the bracket shrinks by 0.618 each time, to 1e-9 of its width
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def _log_mean(log_odds: FloatArray) -> FloatArray:
    """(n,) logarithm of P(a), averaged over the orders asked; exact where P(a) itself would be 0 or 1."""
    asked = ~np.isnan(log_odds)
    losses = np.logaddexp(0.0, -log_odds, where=asked, out=np.full(log_odds.shape, np.inf))
    return np.logaddexp.reduce(-losses, axis=1) - np.log(np.sum(asked, axis=1))


def tempered(log_odds: FloatArray, temperature: float) -> FloatArray:
    """(n,) P(a) of (n, 2) log-odds divided by ``temperature``, averaged over the orders asked."""
    return Verdicts(log_odds / temperature, np.ones_like(log_odds)).p_a


def paired_bootstrap(
    x: FloatArray, y: FloatArray, clusters: Clusters = None, *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """95% percentile interval of mean(x - y), for (n,) results of two models on the same items.

    Items are drawn with replacement, those of one name in ``clusters`` together. As only how often each
    difference was drawn matters, the counts are drawn at once from the multinomial.
    """
    if clusters is not None and len(set(clusters)) < len(x):
        by_cluster = mean_by_group(x - y, numbered(clusters), seed=seed, resamples=resamples)
        return by_cluster.low, by_cluster.high
    values, counts = np.unique(x - y, return_counts=True)
    n = len(x)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    low, high = np.quantile(drawn @ values / n, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(x: FloatArray, y: FloatArray) -> float:
    """Exact two-sided p-value that two models are right equally often, from (n,) results on the same items.

    McNemar's test in its binomial form; with half credits it is the sign test.
    """
    wins, losses = int(np.sum(x > y)), int(np.sum(x < y))
    n, least = wins + losses, min(wins, losses)
    term = total = 1
    for k in range(least):
        term = term * (n - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / 2**n)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Accuracy of one model minus that of another on the same ``n`` items.

    Attributes:
        difference, low, high: above 0 if the first is better; its interval (paired bootstrap of clusters).
        p_value: of McNemar's exact test, which takes the items for independent.
        n: items with a right answer.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def paired_difference(
    x: FloatArray, y: FloatArray, clusters: Clusters = None, *, seed: int = 0, resamples: int = 10_000
) -> PairedDifference:
    """Mean of (n,) ``x`` minus mean of ``y``, results on the same items, with interval and p-value."""
    low, high = paired_bootstrap(x, y, clusters, seed=seed, resamples=resamples)
    return PairedDifference(float(np.mean(x - y)), low, high, mcnemar(x, y), len(x))
