"""In which order candidates meet: generators that ask for comparisons and end with a ranking.

Knows numbers of candidates and probabilities; knows neither models nor texts, so a schedule can be tested
with any matrix of probabilities, and many of them can run in lockstep.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from itertools import combinations
from typing import TypeAlias

import numpy as np

from gram.types import FloatArray

Comparison: TypeAlias = tuple[int, int]
Schedule: TypeAlias = Generator[list[Comparison], FloatArray, list[int]]
"""Yields comparisons (i, j), i != j, receives the (k,) probabilities that i beats j, returns best first."""


def round_robin(n: int) -> Schedule:
    """Everyone meets everyone: n(n-1)/2 comparisons in one round, ordered by mean win probability.

    This is also the order of the Bradley-Terry strengths: when all meet all, the likelihood depends on the
    number of wins alone and the strength grows with it (Ford, 1957). Ties go to the first index.
    """
    wins = np.zeros(n)
    if n > 1:
        meetings = list(combinations(range(n), 2))
        p = yield meetings
        first, second = np.array(meetings).T
        np.add.at(wins, first, p)
        np.add.at(wins, second, 1.0 - p)
    return best_first(wins)


def best_first(values: FloatArray) -> list[int]:
    """Indices by falling value; equal values keep their order, also when they differ by rounding only."""
    return [int(i) for i in np.argsort(-np.round(values, 9), kind="stable")]


SCHEDULES: Mapping[str, Callable[[int], Schedule]] = {"round_robin": round_robin}
