"""Reward against a reference answer to the same prompt, from the data or written when first needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from gram.errors import ConfigError, DataError
from gram.rl.reward import FAILURE_LIMIT, Reward, Rewards, check_model, is_concurrent
from gram.rl.rows import Reference, Response, read_rows
from gram.rl.shaping import Shaping
from gram.types import Chat, Pair, PreferenceModel, PromptLike


class ReferenceReward(Reward):
    """How likely an answer is to beat a reference answer to the same prompt.

    Args:
        model: the judge.
        value: ``log_odds``: the mean of both orders, unbounded; ``probability``: P(answer beats reference).
        answer: writes a reference for each prompt that comes without one, such as ``gram.rl.writer.Writer``;
            called once per prompt, its answers are kept.
        shaping: how rewards are scaled and cut, see ``Reward``.
        failure_limit: failures that stop the run, see ``Reward``.

    Example:
        >>> from gram.types import Verdicts
        >>> class Longer:  # log-odds are the difference of the lengths
        ...     def compare(self, pairs):
        ...         leads = [[len(pair.a) - len(pair.b)] * 2 for pair in pairs]
        ...         return Verdicts(np.array(leads, dtype=float), np.ones((len(pairs), 2)))
        >>> ReferenceReward(Longer())(["Why?"], ["because"], ["no"]).rewards
        [5.0]
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
        check_model(model, isinstance(model, PreferenceModel), "compare")
        self._model = model
        self._value = value
        self._answer = answer
        self._answers: dict[Chat, str] = {}

    @property
    def concurrent(self) -> bool:
        return self._answer is None and is_concurrent(self._model)

    def __call__(
        self,
        prompts: Iterable[PromptLike],
        responses: Iterable[Response],
        references: Iterable[Reference] | None = None,
    ) -> Rewards:
        rows = read_rows(self.failures, prompts, responses, references)
        opponents = self._references(rows.chats, rows.references)
        pairs = [Pair(*texts) for texts in zip(rows.chats, rows.responses, opponents, strict=True)]
        numbers = self.failures.attempt(pairs, self._ask)
        self.failures.check()
        table = np.array([row or (math.nan,) * 3 for row in numbers]).reshape(-1, 3)  # columns as in _ask
        values = table[:, 0 if self._value == "log_odds" else 1]
        gaps = table[:, 2][~np.isnan(table[:, 2])]
        gap = {"position_gap": float(gaps.mean())} if len(gaps) else {}
        return self._outcome(rows, values, table[:, 1], **gap)

    def _ask(self, pairs: Sequence[Pair]) -> list[tuple[float, float, float] | None]:
        """Log-odds, probability and position gap of each pair; None where the model gave no verdict."""
        verdicts = self._model.compare(pairs)
        verdict_mask = ~np.isnan(verdicts.log_odds)  # (n, 2): the orders that were asked
        total = np.where(verdict_mask, verdicts.log_odds, 0.0).sum(axis=1)  # (n,)
        count = verdict_mask.sum(axis=1)  # (n,)
        return [
            (float(odds / n), float(p), float(gap)) if n and math.isfinite(odds) else None
            for odds, n, p, gap in zip(total, count, verdicts.p_a, verdicts.position_gap, strict=True)
        ]

    def _references(self, chats: Sequence[Chat], texts: Sequence[str | None]) -> list[str]:
        """A reference per prompt: that of the data, else one written now or in an earlier call."""
        without_text = dict.fromkeys(chat for chat, text in zip(chats, texts, strict=True) if text is None)
        if new := [chat for chat in without_text if chat not in self._answers]:
            if self._answer is None:
                raise DataError(
                    "missing: a reward against a reference needs one per prompt, or a way to write it",
                    field="reference",
                )
            self._answers.update(zip(new, self._answer(new), strict=True))
        return [
            self._answers[chat] if text is None else text for chat, text in zip(chats, texts, strict=True)
        ]
