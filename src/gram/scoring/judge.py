"""The judge: asks which of two answers is better, in both orders, and reads the two label probabilities.

A ``JudgeBackend`` answers: a local model (``scoring.local``) or a remote one; the judge does not know which.
Loads no torch, so that a client of a remote judge needs none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gram.decisions.answers import Decisions
from gram.decisions.decider import Decider, Request
from gram.errors import ConfigError, ScoringError
from gram.rendering import JudgeTemplate
from gram.tokens import TokenLogprobs
from gram.types import FloatArray, Pair, PromptLike, Usage, Verdicts, as_pairs

LOW_MASS = 0.1
"""Mean label mass of a call below which a judge warns that was not trained to be one."""

_log = logging.getLogger("gram.scoring")

_LITTLE_MASS = (
    "the two labels %s together have a probability of %.3g on average: the model would say "
    "something else in their place, and its verdicts may mean little"
)


@dataclass(frozen=True, slots=True)
class LabelLogprobs:
    """A backend's answers to n prompts.

    Attributes:
        values: (n, 2) log-probabilities of the two labels, out of the whole vocabulary.
        usage: tokens read, and prompts shortened.
        bounded: (n,) where one of the two is only known to be at most this, and less than the other; None:
            nowhere.
        whole: False: the probabilities are out of the two labels, as the backend tells no more.
    """

    values: FloatArray
    usage: Usage = field(default_factory=Usage)
    bounded: npt.NDArray[np.bool_] | None = None
    whole: bool = True


class JudgeBackend(Protocol):
    """Where a judge gets its answers: the few methods that a local and a remote model both have."""

    def label_logprobs(self, pairs: Sequence[Pair], template: JudgeTemplate) -> LabelLogprobs:
        """(n, 2) log-probabilities of the two labels, each of n pairs asked in the order it stands in."""
        ...

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int] | None:
        """Tokens that each pair loses to fit the model, as it is shown; None if the backend cannot tell."""
        ...


@runtime_checkable
class ReadingBackend(JudgeBackend, Protocol):
    """A backend that also tells how likely the tokens of an answer are, as a local language model does."""

    def token_logprobs(self, prompt: PromptLike, response: str) -> tuple[TokenLogprobs, Usage]:
        """The tokens of one answer as the assistant's turn after the prompt, and the usage for them."""
        ...


class JudgeModel:
    """A ``RewardModel`` that asks a language model.

    Args:
        both_orders: ask each pair both ways; False asks only with ``a`` shown first, at half the cost, and
            leaves the position bias in.
        dtype: precision of the weights of a local model; None where the backend has none to tell.
        decider: makes what answers typed questions, when the first are asked; None: nothing does.
        taught: the model was trained to choose between these labels, so that a small mass is no warning.

    Example:
        A backend that always says A with 0.6 and B with 0.2 looks at the position alone::

            >>> class Fixed:
            ...     def label_logprobs(self, pairs, template):
            ...         return LabelLogprobs(np.log(np.tile([0.6, 0.2], (len(pairs), 1))))
            ...     def tokens_cut(self, pairs):
            ...         return None
            >>> judge = JudgeModel(Fixed(), JudgeTemplate("short", "{prompt} {a} {b} ", ("A", "B")))
            >>> verdict = judge.compare([Pair("Which?", a="this", b="that")])
            >>> verdict.p_a.round(3).tolist(), verdict.position_gap.round(3).tolist()
            ([0.5], [0.5])
    """

    def __init__(
        self,
        backend: JudgeBackend,
        template: JudgeTemplate,
        *,
        both_orders: bool = True,
        dtype: str | None = None,
        decider: Callable[[], Decider] | None = None,
        taught: bool = False,
    ) -> None:
        self._backend = backend
        self._template = template
        self._both_orders = both_orders
        self._dtype = dtype
        self._make_decider = decider
        self._decider: Decider | None = None
        self._usage = Usage()
        self._told: set[str] = {_LITTLE_MASS} if taught else set()  # the warnings
        self.temperature = 1.0  # divides the log-odds; set by calibration

    @property
    def template(self) -> JudgeTemplate:
        return self._template

    @property
    def dtype(self) -> str | None:
        """Precision of the weights, ``fp32`` or ``bf16``; None where the backend does not tell."""
        return self._dtype

    @property
    def slope(self) -> float:
        return 1.0 / self.temperature

    @property
    def usage(self) -> Usage:
        """Tokens read for all verdicts so far, prompts shortened, and the label mass."""
        return self._usage

    def tokens_cut(self, pairs: Iterable[Pair]) -> list[int] | None:
        """Tokens that each pair loses to fit the model, as it is shown; None if the backend cannot tell."""
        return self._backend.tokens_cut(as_pairs(pairs))

    def compare(self, pairs: Iterable[Pair]) -> Verdicts:
        """Verdicts for ``pairs``: log-odds that ``a`` beats ``b``, per order, and the label mass.

        Raises:
            WrongTypeError: something else than pairs.
            ScoringError: the model gave a number that is not finite.
        """
        pairs = as_pairs(pairs)
        if not pairs:
            return Verdicts(np.empty((0, 2)), np.empty((0, 2)))
        prompts = [*pairs, *(pair.swapped() for pair in pairs)] if self._both_orders else list(pairs)
        answers = self._backend.label_logprobs(prompts, self._template)
        logprobs = answers.values  # (len(prompts), 2)
        if not np.isfinite(logprobs).all():
            row = int(np.argwhere(~np.isfinite(logprobs))[0, 0]) % len(pairs)
            raise ScoringError(f"the model gave no finite log-probability for pair {row} of this call")
        difference = (logprobs[:, 0] - logprobs[:, 1]) / self.temperature  # (len(prompts),)
        mass = np.exp(logprobs).sum(axis=1) if answers.whole else np.full(len(prompts), np.nan)
        bounded = np.zeros(len(prompts), bool) if answers.bounded is None else answers.bounded
        judged = Usage(judged=len(prompts), mass=float(mass.sum())) if answers.whole else Usage()
        usage = answers.usage + judged + Usage(bounded=int(bounded.sum()))
        self._usage += usage
        self._warn(answers, float(mass.mean()))
        n = len(pairs)
        log_odds = np.full((n, 2), np.nan)
        masses = np.full((n, 2), np.nan)
        bounds = np.zeros((n, 2), bool)
        log_odds[:, 0], masses[:, 0], bounds[:, 0] = difference[:n], mass[:n], bounded[:n]
        if self._both_orders:  # shown the other way round, the first label speaks for b
            log_odds[:, 1], masses[:, 1], bounds[:, 1] = -difference[n:], mass[n:], bounded[n:]
        return Verdicts(log_odds, masses, usage, None if answers.bounded is None else bounds)

    def decide(self, requests: Iterable[Request]) -> list[Decisions]:
        """The answers to typed questions, see ``gram.decisions.decide``; not changed by the temperature.

        Raises:
            ConfigError: the backend answers no questions, or a decision template that cannot be followed.
            DataError, TemplateError, CheckpointError, ScoringError: as ``gram.decide``.
        """
        if self._decider is None:
            if self._make_decider is None:
                raise ConfigError("this judge's backend compares answers, and takes no typed questions")
            self._decider = self._make_decider()
        results = self._decider.decide(requests)
        self._usage += sum((result.usage for result in results), Usage())
        return results

    def token_logprobs(self, prompt: PromptLike, response: str) -> TokenLogprobs:
        """The tokens of one answer as the assistant's turn after the prompt, without any judge prompt.

        Raises:
            ConfigError: the backend only tells labels.
            WrongTypeError: the prompt or the response cannot be read.
            ScoringError: the model gave a number that is not finite.
        """
        if not isinstance(self._backend, ReadingBackend):
            raise ConfigError("this judge's backend compares answers, and tells nothing of their tokens")
        tokens, usage = self._backend.token_logprobs(prompt, response)
        self._usage += usage
        return tokens

    def _warn(self, answers: LabelLogprobs, mass: float) -> None:
        """Say once that the labels are not what the model wants to say, and once that some are bounds."""
        if mass < LOW_MASS:
            self._say(_LITTLE_MASS, self._template.labels, mass)
        if answers.bounded is not None and answers.bounded.any():
            self._say(
                "%d of %d verdicts of this call are bounds: the server did not list one of the labels, so "
                "that the true log-odds have the same sign and are at least as far from 0",
                int(answers.bounded.sum()),
                len(answers.bounded),
            )

    def _say(self, text: str, *words: object) -> None:
        if text not in self._told:
            self._told.add(text)
            _log.warning(text, *words)  # words apart: workers tell a text once, whatever mean is in it
