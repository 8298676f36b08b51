"""Reward against a reference answer to the same prompt: given with the data, or written on first sight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from gram.errors import ConfigError, DataError
from gram.rl.reward import FAILURE_LIMIT, Reward, Rewards, as_chats
from gram.rl.shaping import Shaping
from gram.types import Chat, Pair, PreferenceModel, PromptLike


class ReferenceReward(Reward):
    """How surely an answer beats a reference answer to the same prompt.

    Args:
        model: the judge.
        value: ``log_odds``: the mean of both orders, unbounded; ``probability``: P(answer beats reference).
        answer: writes a reference for each prompt that comes without one, such as ``gram.rl.writer.Writer``;
            called once per prompt, its answers are kept.
        shaping, failure_limit: see ``Reward``.
    """

    def __init__(
        self,
        model: PreferenceModel,
        *,
        value: Literal["log_odds", "probability"] = "log_odds",
        answer: Callable[[Sequence[Chat]], Sequence[str]] | None = None,
        shaping: Shaping | None = None,
        failure_limit: int = FAILURE_LIMIT,
    ) -> None:
        super().__init__(shaping, failure_limit=failure_limit)
        if value not in ("log_odds", "probability"):
            raise ConfigError(f"value must be log_odds or probability, got '{value}'")
        self._model = model
        self._value = value
        self._answer = answer
        self._answers: dict[Chat, str] = {}

    def __call__(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[str],
        references: Sequence[str | None] | None = None,
    ) -> Rewards:
        chats = as_chats(prompts, responses)
        against = self._references(chats, references)
        pairs = [Pair(*texts) for texts in zip(chats, responses, against, strict=True)]
        found = self.failures.attempt(pairs, self._ask)
        self.failures.check()
        table = np.array([one or (math.nan,) * 3 for one in found]).reshape(-1, 3)
        values = table[:, 0 if self._value == "log_odds" else 1]
        gaps = table[:, 2][~np.isnan(table[:, 2])]
        gap = {"position_gap": float(gaps.mean())} if len(gaps) else {}
        return self._outcome(values, responses, chats, table[:, 1], **gap)

    def _ask(self, pairs: Sequence[Pair]) -> list[tuple[float, float, float] | None]:
        """Log-odds, probability and position gap of each pair; None without a verdict."""
        verdicts = self._model.compare(pairs)
        asked = ~np.isnan(verdicts.log_odds)
        total = np.where(asked, verdicts.log_odds, 0.0).sum(axis=1)
        count = asked.sum(axis=1)
        return [
            (float(odds / n), float(p), float(gap)) if n and math.isfinite(odds) else None
            for odds, n, p, gap in zip(total, count, verdicts.p_a, verdicts.position_gap, strict=True)
        ]

    def _references(self, chats: Sequence[Chat], given: Sequence[str | None] | None) -> list[str]:
        if given is not None and len(given) != len(chats):
            raise ValueError(f"{len(chats)} prompts but {len(given)} references")
        found = list(given) if given is not None else [None] * len(chats)
        lacking = dict.fromkeys(chat for chat, text in zip(chats, found, strict=True) if text is None)
        if new := [chat for chat in lacking if chat not in self._answers]:
            if self._answer is None:
                raise DataError(
                    "missing: a reward against a reference needs one per prompt, or a way to write it",
                    field="reference",
                )
            self._answers.update(zip(new, self._answer(new), strict=True))
        return [
            self._answers[chat] if text is None else text for chat, text in zip(chats, found, strict=True)
        ]
