"""Rankings as rows: the output rows of ``gram rank`` and ``gram mine``, and the cost of a run.

Knows contests, rankings and numbers; knows no file and no command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gram.progress import chunks, parts_with_progress
from gram.ranking.driver import rank_many
from gram.ranking.mining import MinedPair, mine
from gram.ranking.table import Ranking
from gram.types import Contest, PreferenceModel
from gram.workers import Workers

CHUNK = 16
"""Prompts ranked together."""


@dataclass(frozen=True)
class ScheduleOptions:
    """Which candidates are compared: the options of ``rank_many``."""

    schedule: str = "round_robin"
    seed: int = 0
    budget: int | None = None


def rankings(
    workers: Workers[PreferenceModel], contests: Sequence[Contest], how: ScheduleOptions, *, start: int = 0
) -> Iterator[list[tuple[Contest, Ranking]]]:
    """The contests from ``start`` on with their rankings, in order and by chunks: what is ranked together.

    A run that goes on must start at a whole chunk: what a model says depends, in the last bit, on what else
    is in its call.
    """
    parts = chunks(contests, CHUNK, start=start)
    ranked = workers.map(partial(_rank_chunk, how=how), parts)
    for chunk, its_rankings in zip(
        parts_with_progress(parts, done=start, title="ranking"), ranked, strict=True
    ):
        yield list(zip(chunk, its_rankings, strict=True))


def _rank_chunk(model: PreferenceModel, chunk: Sequence[Contest], how: ScheduleOptions) -> list[Ranking]:
    return rank_many(model, chunk, how.schedule, seed=how.seed, budget=how.budget)


def ranking_row(contest: Contest, ranking: Ranking) -> dict[str, Any]:
    """One output row of ``gram rank``."""
    return (
        ({"id": contest.id} if contest.id else {})
        | {
            "order": list(ranking.order),
            "best": contest.responses[ranking.order[0]],
            "strengths": [float(x) for x in ranking.strengths],
            "stderr": [float(x) for x in ranking.stderr],
            "p_best": [float(x) for x in ranking.p_best],
            "wins": [float(x) for x in ranking.wins],
            "comparisons": ranking.comparisons,
            "ties": ranking.ties,
            "cyclic": ranking.cyclic,
            "position_gap": ranking.position_gap,
        }
        | ({"bounded": ranking.bounded} if ranking.bounded else {})
    )


def preference_row(contest: Contest, pair: MinedPair) -> dict[str, Any]:
    """One output row of ``gram mine``, in TRL's conversational preference format."""
    return ({"id": contest.id} if contest.id else {}) | {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in contest.prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "margin": pair.margin,
    }


def mined_row(contest: Contest, ranking: Ranking, **how: Any) -> dict[str, Any]:
    """``ranking_row`` with the ``pairs`` that are mined from it: rows of ``preference_row``.

    Args:
        how: see ``mine``.
    """
    pairs = mine(contest, ranking, **how)
    return ranking_row(contest, ranking) | {"pairs": [preference_row(contest, pair) for pair in pairs]}


def cost(rows: Sequence[dict[str, Any]], resumed: int, tokens: int) -> dict[str, Any]:
    """What rankings cost: comparisons of all prompts, tokens of those ranked in this run.

    Args:
        rows: of all prompts, as ``ranking_row`` makes them.
        resumed: how many of them were on file from an earlier run.
        tokens: read for the others.

    Example:
        >>> row = {"comparisons": 3, "ties": 0, "cyclic": 0.0}
        >>> summary = cost([row, row], resumed=1, tokens=120)
        >>> summary["comparisons"], summary["tokens_per_prompt"]
        (6, 120)
    """
    new = len(rows) - resumed
    cycles = [row["cyclic"] for row in rows if row["cyclic"] is not None]
    shares = [share for share in cycles if share == share]  # without NaN
    return {
        "comparisons": sum(row["comparisons"] for row in rows),
        "ties": sum(row["ties"] for row in rows),
        "cyclic_triples": round(sum(shares) / len(shares), 4) if shares else None,
        "tokens": tokens,
        "tokens_per_prompt": round(tokens / new) if new else None,
    }
