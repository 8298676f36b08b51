"""A mean over rows with an interval that knows that rows of one question are not independent."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gram.evaluation import Estimate
from gram.types import FloatArray

RESAMPLES = 4_000


def by_group(values: FloatArray, groups: npt.NDArray[Any], seed: int = 0) -> Estimate:
    """The mean of (n,) values with a 95% interval: a bootstrap that draws whole groups."""
    names, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index).astype(float)
    share = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), share, RESAMPLES)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), len(values))
