"""Options of ranking and mining, as commands show them. Knows no model and no row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from gram.bounds import Count, Seed, Within
from gram.ranking.rows import ScheduleOptions


@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """How candidates are ranked."""

    schedule: Literal["round_robin", "linear", "knockout", "swiss", "merge"] = "round_robin"
    """Which candidates meet. round_robin: all of them; linear and knockout: n-1 comparisons, made to find the
    best; swiss: about n/2 log2 n; merge: the whole order in about n log2 n."""
    seed: Seed = 0
    """Of the order in which candidates enter the schedule."""
    budget: Count | None = None
    """Most comparisons per prompt. Default: as many as the schedule wants."""

    @property
    def schedule_options(self) -> ScheduleOptions:
        """Which candidates are compared, and how often."""
        return ScheduleOptions(self.schedule, self.seed, self.budget)


@dataclass(frozen=True, kw_only=True)
class MiningOptions:
    """Which ranked candidates become pairs."""

    pairs: Literal["best_worst", "margin"] = "best_worst"
    """best_worst: one pair per prompt. margin: every two candidates that stand far enough apart."""
    margin: Annotated[float, Within(0)] = 0.0
    """The strengths (natural-log odds) of chosen and rejected must differ by more than this."""
    limit: Count | None = None
    """margin: most pairs per prompt, widest margin first. Default: all."""
