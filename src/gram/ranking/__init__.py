"""Which of several answers is best: schedules of comparisons, Bradley-Terry strengths, best-of-n.

Knows models only as ``PreferenceModel``; loads no torch.
"""

from __future__ import annotations

from gram.ranking.driver import best_of_n, check_schedule, rank, rank_many
from gram.ranking.mining import MinedPair, mine
from gram.ranking.schedules import SCHEDULES, Schedule
from gram.ranking.table import Ranking, cyclic_share

__all__ = [
    "SCHEDULES",
    "MinedPair",
    "Ranking",
    "Schedule",
    "best_of_n",
    "check_schedule",
    "cyclic_share",
    "mine",
    "rank",
    "rank_many",
]
