"""Reward against a reference answer to the same prompt, from the data or written when first needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from gram.errors import ConfigError, DataError
from gram.rl.reward import FAILURE_LIMIT, Reward, Rewards, check_model, is_concurrent
from gram.rl.rows import Reference, Response, Rows, read_rows
from gram.rl.shaping import Shaping
from gram.types import Chat, Pair, PreferenceModel, PromptLike


class ReferenceReward(Reward):
    """How likely an answer is to beat a reference answer to the same prompt.

    Args:
        model: the judge.
        value: ``log_odds``: the mean of both orders, unbounded; ``probability``: P(answer beats reference).
        answer: writes a reference for each prompt that comes without one, such as ``gram.rl.writer.Writer``;
            called once per prompt, its answers are kept. Where it fails, the rows of that prompt do.
        shaping: how rewards are scaled and cut, see ``Reward``.
        failure_limit: failures that stop the run, see ``Reward``.

    A row without a reference is a failure of that row. Calls without any reference at all, which is no row's
    fault, are refused (``DataError``).

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
        self._has_references = False  # seen so far

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
        opponents = self._written(rows) if self._answer else self._given(rows, references is not None)
        texts = zip(rows.chats, rows.responses, opponents, strict=True)
        pairs = [Pair(chat, text, opponent) for chat, text, opponent in texts if opponent is not None]
        answers = iter(self.failures.attempt(pairs, self._ask))
        numbers = [None if opponent is None else next(answers) for opponent in opponents]
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

    def _given(self, rows: Rows, some: bool) -> list[str | None]:
        """The references of the data; a row without one is noted."""
        missing = "missing: a reward against a reference needs one per prompt, or a way to write it"
        self._has_references |= any(text is not None for text in rows.references)
        by_row = some and (self._has_references or len(set(rows.chats)) == 1)
        if rows.chats and not by_row:
            raise DataError(missing, field="reference")
        for place, text in zip(rows.places, rows.references, strict=True):
            if text is None:
                self.failures.note(1, str(DataError(missing, field=f"references[{place}]")))
        return rows.references

    def _written(self, rows: Rows) -> list[str | None]:
        """The references of the data, and where there is none, one written now or in an earlier call."""
        assert self._answer is not None
        given = list(zip(rows.chats, rows.references, strict=True))
        without_text = dict.fromkeys(chat for chat, text in given if text is None)
        new = [chat for chat in without_text if chat not in self._answers]
        written = zip(new, self.failures.attempt(new, self._answer), strict=True)
        self._answers |= {chat: text for chat, text in written if text is not None}
        return [self._answers.get(chat) if text is None else text for chat, text in given]
