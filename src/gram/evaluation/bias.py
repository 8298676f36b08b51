"""What besides quality moves a model: position, length, style, repetition, truncation, dressing-up.

Pure functions of records. The numbers describe a bias; they do not explain where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gram.evaluation.records import Record
from gram.evaluation.shares import accuracy, credits_of, share
from gram.statistics import Z95, Estimate, PairedDifference, numbered, paired_difference

EDGES = (-1.0, -0.5, -0.1, 0.1, 0.5, 1.0)
LOOPING = 0.2
NOTABLE = 0.1


@dataclass(frozen=True, slots=True)
class LengthBin:
    """Accuracy where the better answer is that much longer: (longer - shorter) / longer, with its sign."""

    low: float
    high: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Bias:
    """How far verdicts depend on other things than quality.

    Attributes:
        first_place: share of the single verdicts that favour the answer shown first; 0.5 is fair.
        longer: share of the verdicts that favour the longer answer, where the lengths differ.
        slope: change of the log-odds when an answer becomes twice as long, at equal quality (least squares
            of the margin on log2 of the length ratio, with an intercept for quality); NaN: cannot be fitted.
        slope_low, slope_high: ends of its 95% interval; NaN: all rows are of one cluster.
        by_length: accuracy by length difference; the bins that hold any row.
        repetitive: answers of which a fifth or more repeats.
        more_repetitive: share of the verdicts that favour the more repetitive answer, where that differs by
            a tenth or more.
        truncated: comparisons whose prompt was cut; NaN if the model does not count them.
        tokens_cut: tokens lost by that.
        accuracy_cut: accuracy on them.
    """

    first_place: Estimate
    longer: Estimate
    slope: float
    slope_low: float
    slope_high: float
    by_length: tuple[LengthBin, ...]
    repetitive: int
    more_repetitive: Estimate
    truncated: float
    tokens_cut: float
    accuracy_cut: Estimate


def bias(records: Sequence[Record]) -> Bias:
    """The biases of at least one record; rows labeled ties count where no right answer is needed.

    Example:
        >>> record = Record("q1", "", 1.0, log_odds=(2.0, 1.0), mass=(1.0, 1.0), length_a=9, length_b=4)
        >>> bias([record]).longer.value, bias([record]).first_place.value
        (1.0, 0.5)
    """
    slope, slope_low, slope_high = _slope(records)
    has_counts = all(record.truncated is not None for record in records)
    cut = [record for record in records if record.truncated]
    return Bias(
        first_place=_first_place(records),
        longer=_favours(records, [r.length_a - r.length_b for r in records], 1),
        slope=slope,
        slope_low=slope_low,
        slope_high=slope_high,
        by_length=_by_length(records),
        repetitive=len(
            {
                (*r.place[:3], place)
                for r in records
                for place, x in zip(r.pair, r.repetition, strict=True)
                if x >= LOOPING
            }
        ),
        more_repetitive=_favours(records, [r.repetition[0] - r.repetition[1] for r in records], NOTABLE),
        truncated=float(len(cut)) if has_counts else math.nan,
        tokens_cut=float(sum(r.truncated or 0 for r in cut)) if has_counts else math.nan,
        accuracy_cut=accuracy(cut),
    )


@dataclass(frozen=True, slots=True)
class Degradation:
    """How accuracy changes when the worse answers are changed by a perturbation.

    Attributes:
        name: of the perturbation.
        before: accuracy on the same rows as they came.
        after: accuracy with the worse answers changed.
        difference: after minus before, paired.
        margin: mean change of the log-odds for the better answer.
    """

    name: str
    before: Estimate
    after: Estimate
    difference: PairedDifference
    margin: float


def degradation(records: Sequence[Record]) -> list[Degradation]:
    """One entry per variant among the records, in their order; each row is paired with its unchanged form."""
    plain = {(r.source, r.id, r.pair): r for r in records if not r.variant}
    entries = []
    for name in dict.fromkeys(r.variant for r in records if r.variant):
        changed = [r for r in records if r.variant == name and r.correct is not None]
        originals = [plain[r.source, r.id, r.pair] for r in changed]
        if not changed:
            continue
        clusters = [r.cluster for r in changed]
        difference = paired_difference(credits_of(changed), credits_of(originals), clusters)
        shifts = [a.margin - b.margin for a, b in zip(changed, originals, strict=True)]
        entries.append(
            Degradation(name, accuracy(originals), accuracy(changed), difference, float(np.mean(shifts)))
        )
    return entries


@dataclass(frozen=True, slots=True)
class Cell:
    """Accuracy where a better answer in one style meets a worse one in another."""

    better: str
    worse: str
    accuracy: Estimate


def styles(records: Sequence[Record]) -> list[Cell]:
    """One cell per two styles that met, in the order in which the styles first appear."""
    order = list(dict.fromkeys(style for r in records for style in r.styles if style))
    cells = {(x, y): [r for r in records if r.styles == (x, y)] for x in order for y in order}
    return [Cell(x, y, accuracy(part)) for (x, y), part in cells.items() if part]


def _first_place(records: Sequence[Record]) -> Estimate:
    """Share of the single verdicts that favour the answer shown first (a in column 0, b in column 1)."""
    signs = np.sign(np.array([r.log_odds for r in records])) * np.array([1.0, -1.0])
    rows, columns = np.nonzero(~np.isnan(signs))
    return share([records[row] for row in rows.tolist()], 0.5 * (1.0 + signs[rows, columns]))


def _favours(records: Sequence[Record], difference: Sequence[float], least: float) -> Estimate:
    """Of the records whose a and b differ by ``least`` or more: how often the one with more wins."""
    apart = [(r, d) for r, d in zip(records, difference, strict=True) if abs(d) >= least]
    return share([r for r, _ in apart], np.array([r.choice if d > 0 else 1.0 - r.choice for r, d in apart]))


def _by_length(records: Sequence[Record]) -> tuple[LengthBin, ...]:
    decided = [r for r in records if r.correct is not None]
    relative = np.array([(r.length_a - r.length_b) / max(r.length_a, r.length_b, 1) for r in decided])
    index = np.clip(np.searchsorted(EDGES, relative, side="right") - 1, 0, len(EDGES) - 2)
    return tuple(
        LengthBin(
            EDGES[k],
            EDGES[k + 1],
            accuracy([decided[place] for place in np.flatnonzero(index == k).tolist()]),
        )
        for k in range(len(EDGES) - 1)
        if np.any(index == k)
    )


def _slope(records: Sequence[Record]) -> tuple[float, float, float]:
    """Least squares with an intercept; the interval allows for unequal variance, and for records that are not
    independent: what one cluster contributes is summed before it is squared (Liang and Zeger, 1986).

    The factor for few clusters g of n records, g / (g - 1) * (n - 1) / (n - 2), is White's (1980) n / (n - 2)
    where every record is a cluster. A single cluster has no interval: NaN.
    """
    nonempty = [r for r in records if r.length_a > 0 and r.length_b > 0]
    x = np.array([math.log2(r.length_a / r.length_b) for r in nonempty])
    y = np.array([r.margin for r in nonempty])
    n = len(x)
    spread = float(np.sum((x - x.mean()) ** 2)) if n else 0.0
    if n < 3 or spread < 1e-12:
        return math.nan, math.nan, math.nan
    centred = x - x.mean()
    slope = float(centred @ y / spread)
    residual = y - y.mean() - slope * centred
    sums = np.bincount(numbered([r.cluster for r in nonempty]), weights=centred * residual)
    g = len(sums)
    if g < 2:
        return slope, math.nan, math.nan
    half = Z95 * math.sqrt(float(np.sum(sums**2)) * g / (g - 1) * (n - 1) / (n - 2)) / spread
    return slope, slope - half, slope + half
