"""Reward of an answer within the group of answers to its prompt, also if the group spans processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from gram.errors import ConfigError
from gram.ranking import Ranking, check_schedule, rank_many
from gram.rl.exchange import Exchange
from gram.rl.processes import Processes, Torch
from gram.rl.reward import FAILURE_LIMIT, Reward, Rewards, check_model
from gram.rl.rows import Reference, Response, read_rows, together
from gram.rl.shaping import Shaping
from gram.types import Chat, Contest, PreferenceModel, PromptLike


class GroupReward(Reward):
    """How well an answer does among the other answers to its prompt.

    A group is all answers to equal prompts in one call, on all processes of the run. The processes exchange
    their answers, divide the groups among themselves, and exchange the results. So all of them must make the
    same calls in the same order; a call that gets what another one sent is refused (``ConfigError``).

    Args:
        model: the judge.
        value: ``win_rate``: mean probability of beating the others, 0 to 1; ``strength``: Bradley-Terry
            strength in log-odds, of mean 0 over the different answers of its group.
        schedule: which answers are compared, as in ``gram.ranking.rank_many``.
        budget: most comparisons per group.
        seed: of the order in which answers enter the schedule.
        processes: how processes exchange values; by default through torch.distributed, if it is in use.
        shaping: how rewards are scaled and cut, see ``Reward``.
        failure_limit: failures that stop the run, see ``Reward``.

    Equal answers are one opponent and get the same. An answer that is alone in its group has nothing to be
    compared with and gets the middle value, 0.5 as a win rate and 0 as a strength. If one comparison of a
    group fails, none of its answers gets a reward.

    Example:
        >>> from gram.types import Verdicts
        >>> class Longer:  # log-odds are the difference of the lengths
        ...     def compare(self, pairs):
        ...         leads = [[len(pair.a) - len(pair.b)] * 2 for pair in pairs]
        ...         return Verdicts(np.array(leads, dtype=float), np.ones((len(pairs), 2)))
        >>> rewards = GroupReward(Longer())(["Why?", "Why?"], ["no", "because"]).rewards
        >>> [round(reward, 3) for reward in rewards]  # sigmoid(-5) and sigmoid(5)
        [0.007, 0.993]
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
        check_schedule(schedule, seed, budget)
        check_model(model, isinstance(model, PreferenceModel), "compare")
        self._model = model
        self._value = value
        self._schedule_options = {"schedule": schedule, "budget": budget, "seed": seed}
        self._processes = processes or Torch()
        self._exchange = Exchange(self._processes, (value, schedule, seed, budget))

    @property
    def grouped(self) -> bool:
        return True

    @property
    def in_step(self) -> bool:
        return not (isinstance(self._processes, Torch) and self._processes.alone)

    def __call__(
        self,
        prompts: Iterable[PromptLike],
        responses: Iterable[Response],
        references: Iterable[Reference] | None = None,
    ) -> Rewards:
        parts = self._exchange.gather(read_rows(self.failures, prompts, responses))
        rows = together(parts)
        groups: dict[Chat, list[int]] = {}
        for place, chat in enumerate(rows.chats):
            groups.setdefault(chat, []).append(place)
        own_chats = list(groups)[self._exchange.rank :: len(parts)]
        contests = [Contest(chat, [rows.responses[place] for place in groups[chat]]) for chat in own_chats]
        own_rankings = dict(zip(own_chats, self.failures.attempt(contests, self._rank), strict=True))
        results = self._exchange.gather((own_rankings, self.failures.count))
        self.failures.check(sum(count for _, count in results))
        rankings = {chat: ranking for part, _ in results for chat, ranking in part.items()}
        values, wins = (np.full(len(rows.chats), math.nan) for _ in range(2))  # (N,) each
        for chat, ranking in rankings.items():
            if ranking is not None:
                wins[groups[chat]] = ranking.wins
                values[groups[chat]] = ranking.wins if self._value == "win_rate" else ranking.strengths
        outcome = self._outcome(rows, values, wins, **_mean_metrics(rankings.values()))
        start = sum(part.count for part in parts[: self._exchange.rank])
        own_rows = slice(start, start + parts[self._exchange.rank].count)
        assert outcome.scores is not None
        return Rewards(outcome.rewards[own_rows], outcome.scores[own_rows], outcome.metrics)

    def _rank(self, contests: Sequence[Contest]) -> list[Ranking]:
        return rank_many(self._model, contests, **self._schedule_options)  # type: ignore[arg-type]


def _mean_metrics(rankings: Iterable[Ranking | None]) -> dict[str, float]:
    """Means over the groups that could be ranked; a metric that no group has is left out."""
    present = [ranking for ranking in rankings if ranking is not None]
    metrics = {
        "position_gap": [ranking.position_gap for ranking in present],
        "cyclic_triples": [ranking.cyclic for ranking in present],
    }
    numbers = {name: [value for value in values if not math.isnan(value)] for name, values in metrics.items()}
    return {name: float(np.mean(values)) for name, values in numbers.items() if values}
