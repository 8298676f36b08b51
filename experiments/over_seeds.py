"""A mean over seeds and its 95% interval (Student's t), as all experiments state it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

from gram.evaluation import Estimate

T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed; of a single seed without an interval (NaN)."""
    half = T_95[len(values)] * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(mean(values), mean(values) - half, mean(values) + half, len(values))
