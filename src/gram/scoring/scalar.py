"""Models that give one answer a number: an answer's likelihood and its variants, or a scalar head's score.

Each also compares: the log-odds are the difference of two scores, the same in both orders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.errors import ConfigError, ScoringError
from gram.rendering import Context, Encoded, Renderer
from gram.types import Chat, FloatArray, Message, Pair, Verdicts

Baseline: TypeAlias = Literal["none", "unconditional"]

_NO_PROMPT: Chat = (Message("user", ""),)


class Scored(ABC):
    """A ``ScalarModel`` that is a ``PreferenceModel`` too, by the difference of two scores."""

    def __init__(self, renderer: Renderer, runner: Runner, beta: float = 1.0) -> None:
        self._renderer = renderer
        self._runner = runner
        self.beta = beta
        self.temperature = 1.0  # divides the log-odds; set by calibration

    @property
    def slope(self) -> float:
        """Log-odds per unit of score: ``beta`` over the temperature."""
        return self.beta / self.temperature

    @property
    def truncated(self) -> int:
        """Prompts shortened so far to fit the model."""
        return self._renderer.truncated

    @property
    def tokens(self) -> int:
        """Tokens in all prompts read so far, shared beginnings counted each time."""
        return self._renderer.tokens

    @abstractmethod
    def _score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray: ...

    def score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        """(n,) scores; higher is better.

        Raises:
            ValueError: not as many responses as prompts.
            ScoringError: the model gave a number that is not finite.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses")
        scores = self._score(prompts, responses) if len(prompts) else np.empty(0)
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise ScoringError(f"the model gave no finite score for answer {row} of this call")
        return scores

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int]:
        """Tokens that the two answers of each pair, with their prompts, lose together to fit the model."""
        prompts = [pair.prompt for pair in pairs] * 2
        responses = [pair.a for pair in pairs] + [pair.b for pair in pairs]
        cut = self._renderer.tokens_cut(lambda: self._rendered(prompts, responses))
        return [cut[k] + cut[k + len(pairs)] for k in range(len(pairs))]

    def _rendered(self, prompts: Sequence[Chat], responses: Sequence[str]) -> Sequence[Encoded]:
        return self._renderer.answers(prompts, responses)

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        """Verdicts whose log-odds are ``slope`` times the difference of the two answers' scores."""
        prompts = [pair.prompt for pair in pairs]
        scores = self.score(prompts * 2, [pair.a for pair in pairs] + [pair.b for pair in pairs])
        difference = self.slope * (scores[: len(pairs)] - scores[len(pairs) :])
        return Verdicts(np.stack([difference, difference], axis=1), np.ones((len(pairs), 2)))


class LikelihoodModel(Scored):
    """Scores an answer by its log-likelihood, in nats.

    Args:
        renderer: of the answers.
        runner: the model.
        context: where the answer stands, see ``Renderer.answers``.
        length_power: 0 scores the sum over tokens (the end token included), 1 the mean per token.
        baseline: ``unconditional`` subtracts the answer's score without the prompt: the pointwise mutual
            information of prompt and answer, in the same normalisation.
        reference: a second model whose score is subtracted: the DPO implicit reward.
        beta: slope of the log-odds in the score difference.
    """

    def __init__(
        self,
        renderer: Renderer,
        runner: Runner,
        *,
        context: Context = "chat",
        length_power: float = 0.0,
        baseline: Baseline = "none",
        reference: Runner | None = None,
        beta: float = 1.0,
    ) -> None:
        if baseline not in ("none", "unconditional"):
            raise ConfigError(f"baseline must be none or unconditional, got '{baseline}'")
        if context not in ("chat", "judge"):
            raise ConfigError(f"context must be chat or judge, got '{context}'")
        super().__init__(renderer, runner, beta)
        self._context: Context = context
        self._power = length_power
        self._baseline = baseline
        self._reference = reference

    def _score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        answers = self._rendered(prompts, responses)
        scores = self._likelihood(self._runner, answers)
        if self._baseline == "unconditional":
            bare = self._renderer.answers([_NO_PROMPT] * len(prompts), responses, self._context)
            scores = scores - self._likelihood(self._runner, bare)
        if self._reference is not None:
            scores = scores - self._likelihood(self._reference, answers)
        return scores

    def _rendered(self, prompts: Sequence[Chat], responses: Sequence[str]) -> Sequence[Encoded]:
        return self._renderer.answers(prompts, responses, self._context)

    def _likelihood(self, runner: Runner, answers: Sequence[Encoded]) -> FloatArray:
        sums, lengths = runner.span_logprobs([TokenRow(item.ids, (item.scored("a"),)) for item in answers])
        return sums / np.maximum(lengths, 1.0) ** self._power


class ScalarHeadModel(Scored):
    """Scores an answer by the scalar head of a sequence classifier."""

    def _score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        return self._runner.scores([TokenRow(item.ids) for item in self._rendered(prompts, responses)])
