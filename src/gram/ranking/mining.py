"""Training pairs from rankings: two candidates whose strengths differ enough become chosen and rejected.

Knows rankings and numbers; knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from gram.bounds import Within, check_number
from gram.errors import ConfigError
from gram.ranking.table import Ranking
from gram.types import Contest

Rule: TypeAlias = Literal["best_worst", "margin"]


@dataclass(frozen=True, slots=True)
class MinedPair:
    """A chosen and a rejected candidate; ``margin`` is the difference of their strengths (log-odds)."""

    chosen: str
    rejected: str
    margin: float


def mine(
    contest: Contest,
    ranking: Ranking,
    rule: Rule = "best_worst",
    *,
    margin: float = 0.0,
    limit: int | None = None,
) -> list[MinedPair]:
    """The pairs of one contest, widest margin first; none where no difference of strengths is large enough.

    Args:
        rule: ``best_worst``: the first of the order against the last. ``margin``: every two candidates.
        margin: the difference of strengths must be above this.
        limit: most pairs, with the rule ``margin``.

    Raises:
        ConfigError: a margin that is no number or negative, a limit that is no positive integer, or no such
            rule.

    Example:
        >>> import numpy as np
        >>> from gram.ranking import rank
        >>> from gram.types import Verdicts
        >>> class Longest:
        ...     def compare(self, pairs):
        ...         log_odds = np.array([[float(len(x.a) - len(x.b))] * 2 for x in pairs])
        ...         return Verdicts(log_odds, np.ones_like(log_odds))
        >>> contest = Contest((), ("a", "ccc", "bb"))
        >>> [(pair.chosen, pair.rejected) for pair in mine(contest, rank(Longest(), "", contest.responses))]
        [('ccc', 'a')]
    """
    check_rule(rule, margin, limit)
    places: Sequence[tuple[int, int]] = (
        [(ranking.order[0], ranking.order[-1])]
        if rule == "best_worst"
        else list(combinations(ranking.order, 2))
    )
    pairs = {}
    for chosen, rejected in places:
        difference = float(ranking.strengths[chosen] - ranking.strengths[rejected])
        texts = contest.responses[chosen], contest.responses[rejected]
        if difference > margin and texts[0].strip() != texts[1].strip():
            pairs.setdefault(texts, MinedPair(*texts, difference))
    return sorted(pairs.values(), key=lambda pair: -pair.margin)[:limit]


def check_rule(rule: Rule, margin: float, limit: int | None) -> None:
    """Check the options of ``mine`` before any work is done.

    Raises:
        ConfigError: see ``mine``.
    """
    if rule not in ("best_worst", "margin"):
        raise ConfigError(f"rule must be best_worst or margin, got '{rule}'")
    check_number("margin", margin, float, Within(0))
    if limit is not None:
        check_number("limit", limit, int, Within(1))
