"""Scalar reward models behind vLLM: ``/classify`` and ``/score``, as a model that scores single answers.

Knows the two endpoints; loads no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gram.errors import ScoringError
from gram.messages import as_answers
from gram.rendering import neutral_answer, neutral_anywhere
from gram.rendering.template import transcript
from gram.scoring.remote.calls import Calls
from gram.scoring.remote.server import Server, sent_calls
from gram.scoring.scores import both_answers, finite_scores, verdicts_of
from gram.turns import split_calls
from gram.types import Chat, FloatArray, Message, Pair, PromptLike, Usage, Verdicts, as_pairs

_ENOUGH = 8  # scores between 0 and 1 that are no accident

_log = logging.getLogger("gram.scoring")


class RemoteScalar:
    """A ``RewardModel`` and ``ScalarModel`` whose scores come from a server.

    Args:
        server: where, and which model.
        of_pairs: ask ``/score`` for prompt and answer; else ``/classify`` for the conversation.
        neutralise: make the usual control tokens in prompts and answers harmless.
    """

    dtype = None  # of its weights nothing is known
    template = None

    def __init__(self, calls: Calls, server: Server, *, of_pairs: bool, neutralise: bool) -> None:
        self._calls = calls
        self._server = server
        self._of_pairs = of_pairs
        self._neutralise = neutralise
        self._usage = Usage()
        self._looked = False
        self.temperature = 1.0  # divides the log-odds

    @property
    def slope(self) -> float:
        """Log-odds per unit of score."""
        return 1.0 / self.temperature

    @property
    def usage(self) -> Usage:
        """Tokens that the server read for all scores so far; what was kept took nothing."""
        return self._usage

    def tokens_cut(self, pairs: Iterable[Pair]) -> None:
        """None: the server does not tell."""

    def score(self, prompts: Iterable[PromptLike], responses: Iterable[str]) -> FloatArray:
        """(n,) scores of ``responses[i]`` as an answer to ``prompts[i]``; higher is better.

        Raises:
            WrongTypeError: a prompt or a response cannot be read.
            ScoringError: no answer in time, or one without a score.
        """
        chats, texts = as_answers(prompts, responses)
        if not chats:
            return np.empty(0)
        bodies = [self._body(x, y) for x, y in zip(chats, texts, strict=True)]
        asked = self._calls.all(map(self._score, bodies))
        scores = finite_scores(np.array([score for score, _ in asked]))
        self._usage += Usage(tokens=sum(tokens for _, tokens in asked))
        self._look_at(scores)
        return scores

    def compare(self, pairs: Iterable[Pair]) -> Verdicts:
        """Verdicts whose log-odds are ``slope`` times the difference of the two answers' scores."""
        before = self._usage
        scores = self.score(*both_answers(as_pairs(pairs)))
        return verdicts_of(scores, self.slope, self._usage - before)

    def _body(self, prompt: Chat, response: str) -> dict[str, Any]:
        if self._of_pairs:
            return {"text_1": self._shown(transcript(prompt)), "text_2": self._shown(response, "assistant")}
        return {"messages": [self._turn(turn) for turn in (*prompt, Message("assistant", response))]}

    def _turn(self, turn: Message) -> dict[str, Any]:
        """A turn as a message: tool calls are a field of it where the server's chat template writes them."""
        content = self._shown(turn.content, turn.role)
        words, calls = split_calls(content) if turn.role == "assistant" else (content, [])
        if calls and self._server.shows_calls():
            return {"role": turn.role, "content": words, "tool_calls": sent_calls(calls)}
        return {"role": turn.role, "content": content}

    async def _score(self, body: dict[str, Any]) -> tuple[float, int]:
        raw = {"use_activation": False}  # else vLLM gives the sigmoid of the reward
        path = "/score" if self._of_pairs else "/classify"
        answered = await self._server.ask(path, body | raw, root=True)
        entry = _first(answered.content)
        values = [entry.get("score")] if self._of_pairs else entry.get("probs")
        return self._one(values), answered.tokens

    def _one(self, values: Any) -> float:
        if isinstance(values, Sequence) and len(values) == 1 and isinstance(values[0], int | float):
            return float(values[0])
        what = f"{len(values)} classes" if isinstance(values, Sequence) and len(values) > 1 else "no score"
        raise ScoringError(f"{self._server.url}: {self._server.model} gives {what}; a reward model has one")

    def _shown(self, text: str, role: str = "user") -> str:
        if not self._neutralise:
            return text
        return neutral_answer(text) if role == "assistant" else neutral_anywhere(text)

    def _look_at(self, scores: FloatArray) -> None:
        """Say once that scores look like probabilities: a server may know nothing of ``use_activation``."""
        if not self._looked and len(scores) >= _ENOUGH:
            self._looked = True
            if scores.min() >= 0 and scores.max() <= 1:
                _log.warning(
                    "%s: all scores lie between 0 and 1: perhaps it puts rewards through a sigmoid, and "
                    "their differences are no log-odds (use_activation=false is asked for)",
                    self._server.url,
                )


def _first(answer: Any) -> dict[str, Any]:
    data = answer.get("data") if isinstance(answer, dict) else None
    return data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
