"""The judge: asks which of two answers is better, in both orders, and reads the two label probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.errors import ScoringError
from gram.rendering import JudgeTemplate, Renderer
from gram.types import FloatArray, Pair, Verdicts


class Backend(Protocol):
    """Where a judge gets its answers: the narrowest thing a local model and a remote one share."""

    def label_logprobs(self, pairs: Sequence[Pair], template: JudgeTemplate) -> FloatArray:
        """(n, 2) whole-vocabulary log-probabilities of the two labels, each pair asked as it is shown."""
        ...

    @property
    def truncated(self) -> int:
        """Prompts shortened so far."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens in all prompts asked so far."""
        ...


class LocalBackend:
    """Judge prompts through a local model."""

    def __init__(self, renderer: Renderer, runner: Runner) -> None:
        self._renderer = renderer
        self._runner = runner

    def label_logprobs(self, pairs: Sequence[Pair], template: JudgeTemplate) -> FloatArray:
        assert template.hash == self._renderer.template.hash
        rows = [TokenRow(prompt.ids) for prompt in self._renderer.judge(pairs)]
        return self._runner.next_logprobs(rows, self._renderer.label_ids)

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int]:
        return self._renderer.tokens_cut(lambda: self._renderer.judge(pairs))

    @property
    def truncated(self) -> int:
        return self._renderer.truncated

    @property
    def tokens(self) -> int:
        return self._renderer.tokens


class JudgeModel:
    """A ``PreferenceModel`` that asks a language model.

    Args:
        both_orders: ask each pair both ways; False asks only with ``a`` shown first, at half the cost, and
            leaves the position bias in.
    """

    def __init__(self, backend: Backend, template: JudgeTemplate, *, both_orders: bool = True) -> None:
        self._backend = backend
        self.template = template
        self._both_orders = both_orders
        self.temperature = 1.0  # divides the log-odds; set by calibration

    @property
    def truncated(self) -> int:
        """Prompts shortened so far to fit the model."""
        return self._backend.truncated

    @property
    def tokens(self) -> int:
        """Tokens in all prompts asked so far, shared beginnings counted each time."""
        return self._backend.tokens

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int] | None:
        """Tokens that each pair loses to fit the model, as it is shown; None if the backend cannot tell.

        Renders and asks no model.
        """
        count = getattr(self._backend, "tokens_cut", None)
        return None if count is None else count(pairs)

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        """Verdicts for ``pairs``: log-odds that ``a`` beats ``b``, per order, and the label mass.

        Raises:
            ScoringError: the model gave a number that is not finite.
        """
        if not pairs:
            return Verdicts(np.empty((0, 2)), np.empty((0, 2)))
        asked = [*pairs, *(pair.swapped() for pair in pairs)] if self._both_orders else list(pairs)
        logprobs = self._backend.label_logprobs(asked, self.template)
        if not np.isfinite(logprobs).all():
            row = int(np.argwhere(~np.isfinite(logprobs))[0, 0]) % len(pairs)
            raise ScoringError(f"the model gave no finite log-probability for pair {row} of this call")
        difference = (logprobs[:, 0] - logprobs[:, 1]) / self.temperature
        mass = np.exp(logprobs).sum(axis=1)
        log_odds = np.full((len(pairs), 2), np.nan)
        masses = np.full((len(pairs), 2), np.nan)
        log_odds[:, 0], masses[:, 0] = difference[: len(pairs)], mass[: len(pairs)]
        if self._both_orders:  # shown the other way round, the first label speaks for b
            log_odds[:, 1], masses[:, 1] = -difference[len(pairs) :], mass[len(pairs) :]
        return Verdicts(log_odds, masses)
