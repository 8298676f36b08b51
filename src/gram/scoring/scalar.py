"""Models that give one answer a number: an answer's likelihood and its variants, or a scalar head's score.

Each also compares: the log-odds are the difference of two scores, the same in both orders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from gram.asking import Baseline, Context
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.errors import ConfigError
from gram.messages import as_answers
from gram.rendering import Encoded, Renderer, usage_of
from gram.scoring.scores import both_answers, finite_scores, verdicts_of
from gram.scoring.tokens import read_tokens
from gram.tokens import TokenLogprobs
from gram.types import Chat, FloatArray, Message, Pair, PromptLike, Usage, Verdicts, as_pairs

_NO_PROMPT: Chat = (Message("user", ""),)


class Scorer(ABC):
    """A ``RewardModel`` that scores single answers, and compares by the difference of two scores."""

    def __init__(self, renderer: Renderer, runner: Runner, beta: float = 1.0) -> None:
        self._renderer = renderer
        self._runner = runner
        self._usage = Usage()
        self.beta = beta
        self.temperature = 1.0  # divides the log-odds; set by calibration

    @property
    def dtype(self) -> str:
        """Precision of the weights: ``fp32`` or ``bf16``."""
        return self._runner.dtype

    @property
    def slope(self) -> float:
        """Log-odds per unit of score: ``beta`` over the temperature."""
        return self.beta / self.temperature

    @property
    def template(self) -> None:
        """None, as a score does not depend on the wording of a judge prompt."""
        return None

    @property
    def usage(self) -> Usage:
        """Tokens read for all scores so far, and prompts shortened."""
        return self._usage

    @abstractmethod
    def _score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> tuple[FloatArray, Usage]:
        """(n,) scores of n >= 1 answers, and the usage for them."""

    def score(self, prompts: Iterable[PromptLike], responses: Iterable[str]) -> FloatArray:
        """(n,) scores of ``responses[i]`` as an answer to ``prompts[i]``; higher is better.

        Args:
            prompts: plain strings, or lists of messages (``Message`` or mappings), or both.

        Raises:
            WrongTypeError: a prompt or a response cannot be read.
            ValueError: not as many responses as prompts.
            ScoringError: the model gave a number that is not finite.
        """
        chats, texts = as_answers(prompts, responses)
        if not chats:
            return np.empty(0)
        scores, usage = self._score(chats, texts)
        self._usage += usage
        return finite_scores(scores)

    def tokens_cut(self, pairs: Iterable[Pair]) -> list[int]:
        """Tokens that the two answers of each pair, with their prompts, lose together to fit the model."""
        pairs = as_pairs(pairs)
        prompts, responses = both_answers(pairs)
        counts = [answer.tokens_cut for answer in self._render(prompts, responses)]  # 2n
        return [counts[k] + counts[k + len(pairs)] for k in range(len(pairs))]

    def _render(self, prompts: Sequence[Chat], responses: Sequence[str]) -> list[Encoded]:
        return self._renderer.answers(prompts, responses)

    def compare(self, pairs: Iterable[Pair]) -> Verdicts:
        """Verdicts whose log-odds are ``slope`` times the difference of the two answers' scores."""
        earlier_usage = self._usage
        scores = self.score(*both_answers(as_pairs(pairs)))  # (2n,)
        return verdicts_of(scores, self.slope, self._usage - earlier_usage)


class LikelihoodModel(Scorer):
    """Scores an answer by its log-likelihood, in nats.

    Args:
        renderer: renders the answers in their prompts.
        runner: runs the model.
        context: where the answer stands, see ``Renderer.answers``.
        length_power: 0 scores the sum over tokens (the end token included), 1 the mean per token.
        baseline: ``unconditional`` subtracts the score of the same tokens without the prompt: the pointwise
            mutual information of prompt and answer, in the same normalisation. Of an answer that was cut
            these are the tokens that were shown.
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

    def _score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> tuple[FloatArray, Usage]:
        answers = self._render(prompts, responses)
        scores, usage = self._likelihood(self._runner, answers), usage_of(answers)
        if self._baseline == "unconditional":
            bare = self._without_prompt(answers, responses)
            scores, usage = scores - self._likelihood(self._runner, bare), usage + usage_of(bare)
        if self._reference is not None:
            scores = scores - self._likelihood(self._reference, answers)
        return scores, usage

    def token_logprobs(self, prompt: PromptLike, response: str) -> TokenLogprobs:
        """The tokens of one answer, under the model alone: no baseline and no reference is subtracted.

        Raises:
            WrongTypeError: the prompt or the response cannot be read.
            ScoringError: the model gave a number that is not finite.
        """
        tokens, usage = read_tokens(self._renderer, self._runner, prompt, response, self._context)
        self._usage += usage
        return tokens

    def _render(self, prompts: Sequence[Chat], responses: Sequence[str]) -> list[Encoded]:
        return self._renderer.answers(prompts, responses, self._context)

    def _without_prompt(self, answers: Sequence[Encoded], responses: Sequence[str]) -> list[Encoded]:
        """The answers without their prompts; of one that was cut, the tokens that were shown."""
        bare = self._renderer.answers([_NO_PROMPT] * len(answers), responses, self._context)
        return [_behind(x, y) if "a" in y.cut else x for x, y in zip(bare, answers, strict=True)]

    def _likelihood(self, runner: Runner, answers: Sequence[Encoded]) -> FloatArray:
        rows = [TokenRow(answer.ids, (answer.scored("a"),)) for answer in answers]
        sums, lengths = runner.span_logprobs(rows)
        return sums / np.maximum(lengths, 1.0) ** self._power


class ScalarHeadModel(Scorer):
    """Scores an answer by the scalar head of a sequence classifier.

    Args:
        renderer: of the answers.
        runner: the classifier.
        unread: a token that is passed over at the end of a row, see ``LoadedModel``.
    """

    def __init__(self, renderer: Renderer, runner: Runner, *, unread: int | None = None) -> None:
        super().__init__(renderer, runner)
        self._unread = unread

    def _score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> tuple[FloatArray, Usage]:
        answers = self._render(prompts, responses)
        rows = [TokenRow(self._read(answer.ids)) for answer in answers]
        return self._runner.scores(rows), usage_of(answers)

    def score_texts(self, texts: Iterable[str]) -> FloatArray:
        """(n,) scores of texts that hold prompt and answer, as they stand: control tokens in them count.

        Raises:
            WrongTypeError: something else than texts.
            DataError: a text that is empty or too long, or that holds a token which the model does not embed.
            ScoringError: the model gave a number that is not finite.
        """
        prompts = self._renderer.as_they_stand(texts)
        if not prompts:
            return np.empty(0)
        self._usage += usage_of(prompts)
        return finite_scores(self._runner.scores([TokenRow(self._read(prompt.ids)) for prompt in prompts]))

    def _read(self, ids: list[int]) -> list[int]:
        """``ids`` up to the token at which the score is read."""
        end = len(ids)
        while end > 1 and ids[end - 1] == self._unread:
            end -= 1
        return ids[:end]


def _behind(other: Encoded, answer: Encoded) -> Encoded:
    """``answer`` and what follows it, behind what stands before the answer in ``other``."""
    (start, stop), first = answer.spans["a"], other.spans["a"][0]
    span = (first, first + stop - start)
    return Encoded(other.ids[:first] + answer.ids[start:], {"a": span}, {"a": answer.cut["a"]})
