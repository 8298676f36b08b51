"""Reward from a model that gives one answer a number: a likelihood, or a Bradley-Terry scalar head."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from gram.rl.reward import FAILURE_LIMIT, Reward, Rewards, check_model, is_concurrent
from gram.rl.rows import Reference, Response, read_rows
from gram.rl.shaping import Shaping
from gram.types import Chat, PromptLike, ScalarModel


class LikelihoodReward(Reward):
    """The score of a model that gives one answer a number: a likelihood, or a Bradley-Terry scalar head.

    Args:
        model: gives the scores.
        shaping: how rewards are scaled and cut, see ``Reward``.
        failure_limit: failures that stop the run, see ``Reward``.

    Example:
        >>> class Length:  # scores an answer by its number of characters
        ...     def score(self, prompts, responses):
        ...         return [len(response) for response in responses]
        >>> LikelihoodReward(Length())(["Why?", "Why?"], ["no", "because"]).rewards
        [2.0, 7.0]
    """

    def __init__(
        self,
        model: ScalarModel,
        *,
        shaping: Shaping | None = None,
        failure_limit: int = FAILURE_LIMIT,
    ) -> None:
        super().__init__(shaping, failure_limit=failure_limit)
        check_model(model, isinstance(model, ScalarModel), "score")
        self._model = model

    @property
    def concurrent(self) -> bool:
        return is_concurrent(self._model)

    def __call__(
        self,
        prompts: Iterable[PromptLike],
        responses: Iterable[Response],
        references: Iterable[Reference] | None = None,
    ) -> Rewards:
        rows = read_rows(self.failures, prompts, responses)
        scores = self.failures.attempt(list(zip(rows.chats, rows.responses, strict=True)), self._ask)
        self.failures.check()
        values = np.array([math.nan if score is None else score for score in scores], dtype=np.float64)
        return self._outcome(rows, values)

    def _ask(self, rows: Sequence[tuple[Chat, str]]) -> list[float | None]:
        scores = self._model.score([chat for chat, _ in rows], [text for _, text in rows])
        return [float(score) if math.isfinite(score) else None for score in scores]
