"""Reward inside the group of answers to one prompt, also where the group is split over processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from gram.errors import ConfigError
from gram.ranking import SCHEDULES, Ranking, rank_many
from gram.rl.processes import Processes, Torch
from gram.rl.reward import FAILURE_LIMIT, Reward, Rewards, as_chats
from gram.rl.shaping import Shaping
from gram.types import Chat, Contest, PreferenceModel, PromptLike


class GroupReward(Reward):
    """How well an answer does among the other answers to its prompt.

    A group is all answers to equal prompts in one call, on all processes of the run: the processes hand each
    other their answers, share the groups out, and get the rewards back. All of them must call, then.

    Args:
        model: the judge.
        value: ``win_rate``: mean probability of beating the others, 0 to 1; ``strength``: Bradley-Terry
            strength in log-odds, of mean 0 in its group.
        schedule, budget, seed: who meets whom, see ``gram.ranking.rank_many``.
        processes: how processes meet; by default over torch.distributed, if it is up.
        shaping, failure_limit: see ``Reward``.

    An answer alone in its group gets the middle, 0.5 or 0: there is nothing to compare it with. If one
    comparison of a group fails, its answers get no reward.
    """

    def __init__(
        self,
        model: PreferenceModel,
        *,
        value: Literal["win_rate", "strength"] = "win_rate",
        schedule: str = "round_robin",
        budget: int | None = None,
        seed: int = 0,
        processes: Processes | None = None,
        shaping: Shaping | None = None,
        failure_limit: int = FAILURE_LIMIT,
    ) -> None:
        super().__init__(shaping, failure_limit=failure_limit)
        if value not in ("win_rate", "strength"):
            raise ConfigError(f"value must be win_rate or strength, got '{value}'")
        if schedule not in SCHEDULES:
            raise ConfigError(f"there is no schedule '{schedule}'; there is: {', '.join(SCHEDULES)}")
        self._model = model
        self._value = value
        self._how = {"schedule": schedule, "budget": budget, "seed": seed}
        self._processes = processes or Torch()

    def __call__(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[str],
        references: Sequence[str | None] | None = None,
    ) -> Rewards:
        chats = as_chats(prompts, responses)
        everyone = self._processes.gather(list(zip(chats, responses, strict=True)))
        rows = [row for part in everyone for row in part]
        groups: dict[Chat, list[int]] = {}
        for place, (chat, _) in enumerate(rows):
            groups.setdefault(chat, []).append(place)
        mine = list(groups)[self._processes.rank :: len(everyone)]
        contests = [Contest(chat, tuple(rows[place][1] for place in groups[chat])) for chat in mine]
        rankings = self.failures.attempt(contests, self._rank)
        shared = self._processes.gather((dict(zip(mine, rankings, strict=True)), self.failures.count))
        self.failures.check(sum(count for _, count in shared))
        found = {chat: ranking for part, _ in shared for chat, ranking in part.items()}
        values, wins = (np.full(len(rows), math.nan) for _ in range(2))
        for chat, ranking in found.items():
            if ranking is not None:
                wins[groups[chat]] = ranking.wins
                values[groups[chat]] = ranking.wins if self._value == "win_rate" else ranking.strengths
        whole = self._outcome(
            values,
            [text for _, text in rows],
            [chat for chat, _ in rows],
            wins,
            **_table_metrics(found.values()),
        )
        start = sum(len(part) for part in everyone[: self._processes.rank])
        own = slice(start, start + len(chats))
        assert whole.scores is not None
        return Rewards(whole.rewards[own], whole.scores[own], whole.metrics)

    def _rank(self, contests: Sequence[Contest]) -> list[Ranking]:
        return rank_many(self._model, contests, **self._how)  # type: ignore[arg-type]


def _table_metrics(rankings: Iterable[Ranking | None]) -> dict[str, float]:
    there = [ranking for ranking in rankings if ranking is not None]
    found = {
        "position_gap": [ranking.position_gap for ranking in there],
        "cyclic_triples": [ranking.cyclic for ranking in there],
    }
    known = {name: [value for value in values if not math.isnan(value)] for name, values in found.items()}
    return {name: float(np.mean(values)) for name, values in known.items() if values}
