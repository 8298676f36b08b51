"""Verdicts near 0.5 read as ties: how good is a model that may abstain? Knows probabilities and labels."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from gram.statistics import Estimate, accuracy, credit
from gram.types import FloatArray


@dataclass(frozen=True, slots=True)
class Band:
    """The quality of a model whose verdicts near 0.5 are read as ties.

    Attributes:
        width: a verdict within this distance of 0.5 is a tie.
        tied: share of all verdicts that are ties by this rule.
        accuracy: of the other verdicts, on rows that have a right answer.
        found: share of the rows labeled a tie that are read as one; NaN without such rows.
    """

    width: float
    tied: float
    accuracy: Estimate
    found: float


def tie_band(
    p_a: FloatArray, labels: FloatArray, width: float, clusters: Sequence[Hashable] | None = None
) -> Band:
    """(n,) probabilities and labels, read with a band of ``width`` around 0.5 in which the model abstains.

    Args:
        clusters: n names; rows of one name are not independent.

    Example:
        >>> band = tie_band(np.array([0.9, 0.52]), labels=np.array([1.0, 1.0]), width=0.1)
        >>> band.tied, band.accuracy.value
        (0.5, 1.0)
    """
    tied = np.abs(p_a - 0.5) <= width
    decided = ~tied & (labels != 0.5)
    hard = (labels[decided] > 0.5).astype(float)
    names = None if clusters is None else [clusters[place] for place in np.flatnonzero(decided).tolist()]
    ties = tied[labels == 0.5]
    return Band(
        width,
        float(np.mean(tied)) if len(tied) else math.nan,
        accuracy(credit(p_a[decided], hard), names),
        float(np.mean(ties)) if len(ties) else math.nan,
    )
