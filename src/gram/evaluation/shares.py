"""Shares of records, with intervals that allow for records that are not independent. Knows records only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gram import statistics
from gram.evaluation.records import Record
from gram.statistics import Estimate
from gram.types import FloatArray


def share(records: Sequence[Record], values: FloatArray) -> Estimate:
    """Mean of n values between 0 and 1, one per record; records of one cluster are not independent."""
    return statistics.accuracy(values, [record.cluster for record in records])


def accuracy(records: Sequence[Record]) -> Estimate:
    """Share of rows on which the model is right, its ties counting half; rows labeled ties are left out.

    Example:
        >>> right = Record("q1", "", 1.0, log_odds=(2.0, 2.0), mass=(1.0, 1.0), length_a=1, length_b=1)
        >>> accuracy([right]).value
        1.0
    """
    decided = [record for record in records if record.correct is not None]
    return share(decided, credits_of(decided))


def credits_of(records: Sequence[Record]) -> FloatArray:
    """1 where the model is right, 0 where it is wrong, 0.5 where it ties; rows labeled ties are left out."""
    return np.array([record.correct for record in records if record.correct is not None])
