"""Scores of single answers, and the verdicts that follow from them. Knows numbers; no model, and no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gram.errors import ScoringError
from gram.types import Chat, FloatArray, Pair, Usage, Verdicts


def both_answers(pairs: Sequence[Pair]) -> tuple[list[Chat], list[str]]:
    """Prompts and answers of n pairs as 2n answers to score: all ``a``, then all ``b``.

    Example:
        >>> both_answers([Pair("Which?", a="this", b="that"), Pair("Who?", a="you", b="me")])[1]
        ['this', 'you', 'that', 'me']
    """
    prompts = [pair.prompt for pair in pairs]
    return prompts * 2, [pair.a for pair in pairs] + [pair.b for pair in pairs]


def verdicts_of(scores: FloatArray, slope: float, usage: Usage) -> Verdicts:
    """Verdicts on n pairs from the (2n,) scores of ``both_answers``: the same log-odds in both orders.

    Args:
        slope: log-odds per unit of score.

    Example:
        >>> verdicts_of(np.array([3.0, 1.0, 2.0, 1.5]), slope=2.0, usage=Usage()).log_odds.tolist()
        [[2.0, 2.0], [-1.0, -1.0]]
    """
    n = len(scores) // 2
    difference = slope * (scores[:n] - scores[n:])
    return Verdicts(np.stack([difference, difference], axis=1), np.ones((n, 2)), usage)


def finite_scores(scores: FloatArray) -> FloatArray:
    """``scores``, if all are numbers.

    Raises:
        ScoringError: a score is not finite; the message names the first one.
    """
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ScoringError(f"the model gave no finite score for answer {row} of this call")
    return scores
