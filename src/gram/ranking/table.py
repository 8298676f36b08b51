"""What is known of one contest: verdicts on its different texts, and the ranking of its candidates.

Knows numbers; knows no model, no schedule and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gram.errors import ScoringError
from gram.ranking import bradley_terry
from gram.ranking.schedules import Meeting, best_first
from gram.types import FloatArray, Verdicts


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The outcome of one contest between n candidates.

    Attributes:
        order: n indices, best first; ties go to the first index, and copies of a text stand together.
        strengths: (n,) Bradley-Terry strengths in natural-log odds, of mean 0 over the different texts.
        stderr: (n,) their standard errors.
        p_best: (n,) probability of being the best, given these errors; copies of a text share its.
        wins: (n,) mean probability of beating the other texts that were met; 0.5 without any.
        p: (n, n) probability that i beats j, both orders averaged; NaN: did not meet; 0.5 on the diagonal
            and between copies.
        comparisons: pairs the model was asked about (it may look at each in both orders).
        ties: how many of these the model did not decide: its two orders named different winners, or the
            probability is exactly 0.5.
        cyclic: share of cyclic triples (i beats j beats k beats i) among the triples of different texts that
            met in full and without a tie; NaN where there are none.
        position_gap: mean of P(shown first wins) between the two orders, see ``Verdicts``; NaN: not known.
        bounded: how many comparisons a server gave as bounds, in one order at least, see ``Verdicts``.
    """

    order: list[int]
    strengths: FloatArray
    stderr: FloatArray
    p_best: FloatArray
    wins: FloatArray
    p: FloatArray
    comparisons: int
    ties: int
    cyclic: float
    position_gap: float
    bounded: int = 0


class Table:
    """What is known of one contest's different texts.

    Args:
        candidates: the index of each text among the candidates, which errors name.
        name: of the contest.
    """

    def __init__(self, candidates: Sequence[int], name: str) -> None:
        n = len(candidates)
        self._candidates = candidates
        self.p = np.full((n, n), np.nan)
        np.fill_diagonal(self.p, 0.5)
        self.comparisons = self.ties = self.bounded = 0
        self._name = name
        self._gaps: list[float] = []

    def unknown(self, meetings: Sequence[Meeting]) -> list[Meeting]:
        """The meetings without a probability so far, each once, whichever candidate is named first."""
        return list({(min(m), max(m)): m for m in meetings if np.isnan(self.p[m])}.values())

    def enter(self, meetings: Sequence[Meeting], verdicts: Verdicts) -> None:
        p_a = verdicts.p_a
        for (i, j), p_ij in zip(meetings, p_a, strict=True):
            if np.isnan(p_ij):
                first, second = self._candidates[i], self._candidates[j]
                raise ScoringError(f"no verdict on candidates {first} and {second} of contest {self._name}")
            self.p[i, j], self.p[j, i] = p_ij, 1.0 - p_ij
        orders_differ = verdicts.log_odds[:, 0] * verdicts.log_odds[:, 1] < 0  # False where one is NaN
        self.ties += int(np.sum(orders_differ | (p_a == 0.5)))
        self.comparisons += len(meetings)
        if verdicts.bounded is not None:
            self.bounded += int(verdicts.bounded.any(axis=1).sum())
        self._gaps += [float(gap) for gap in verdicts.position_gap if not np.isnan(gap)]

    def ranking(self, order: list[int] | None) -> Ranking:
        """The outcome; without ``order``, that of the strengths."""
        p = self.p
        met = ~np.isnan(p)
        np.fill_diagonal(met, False)
        opponents = met.sum(axis=1)
        total = np.where(met, p, 0.0).sum(axis=1)
        wins = np.divide(total, opponents, out=np.full(len(p), 0.5), where=opponents > 0)
        strengths = bradley_terry.fit_strengths(p)
        return Ranking(
            order=best_first(strengths.value) if order is None else order,
            strengths=strengths.value,
            stderr=strengths.stderr,
            p_best=bradley_terry.probability_best(strengths),
            wins=wins,
            p=p,
            comparisons=self.comparisons,
            ties=self.ties,
            cyclic=cyclic_share(p),
            position_gap=float(np.mean(self._gaps)) if self._gaps else float("nan"),
            bounded=self.bounded,
        )


def with_copies(ranking: Ranking, text_of: Sequence[int]) -> Ranking:
    """The ranking of candidates i, where ``ranking`` is that of their texts ``text_of[i]``."""
    copies: list[list[int]] = [[] for _ in ranking.order]
    for i, text in enumerate(text_of):
        copies[text].append(i)
    counts = np.array([len(candidates) for candidates in copies])
    return replace(
        ranking,
        order=[i for text in ranking.order for i in copies[text]],
        strengths=ranking.strengths[text_of],
        stderr=ranking.stderr[text_of],
        p_best=(ranking.p_best / counts)[text_of],
        wins=ranking.wins[text_of],
        p=ranking.p[np.ix_(text_of, text_of)],
    )


def cyclic_share(p: FloatArray) -> float:
    """Share of cyclic triples in an (n, n) matrix of win probabilities; NaN where no triple met in full.

    A triple counts if all three pairs met and none tied. Of three decided pairs, two results in eight make a
    cycle: verdicts by coin give 0.25.

    Example:
        >>> cyclic_share(np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]]))
        1.0
    """
    beats = np.where(np.isnan(p), False, np.round(p, 9) > 0.5).astype(np.float64)
    decided = beats + beats.T
    triples = np.trace(decided @ decided @ decided) / 6
    cycles = np.trace(beats @ beats @ beats) / 3
    return float(cycles / triples) if triples else float("nan")
