"""Shares of records, with intervals that know which records are not independent. Knows records only."""

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
    """Share of right answers, a tie of the model counting half; rows labeled ties have none."""
    decided = [record for record in records if record.correct is not None]
    return share(decided, credits_of(decided))


def credits_of(records: Sequence[Record]) -> FloatArray:
    """1, 0, or 0.5 for a tie of the model; rows labeled ties have none."""
    return np.array([record.correct for record in records if record.correct is not None])
