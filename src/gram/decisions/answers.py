"""From label log-probabilities to answers: softmax over the options, the mean over orders, confidences.

Pure numpy. Knows no prompt and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from gram.decisions.orders import Order
from gram.decisions.questions import Choice, Noul, Question
from gram.types import FloatArray, Usage


@dataclass(frozen=True, slots=True)
class NoulAnswer:
    """Yes or no.

    Attributes:
        noul: probability of yes (true).
        mass: probability of the two labels together, out of the whole vocabulary.
    """

    noul: float
    mass: float


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """One of several options.

    Attributes:
        choice: the likeliest option; of equal ones the first of the question.
        confidence: from 0, where the likeliest has no more than an equal share, to 1.
        probabilities: of the options by name, in the order of the question; their sum is 1.
        spread: by how much the probability of an option differs between two orders at most; None where only
            one was asked. Near 1 the model looks at places and not at options.
        mass: probability of the labels together, out of the whole vocabulary; the mean over orders.
        orders: in how many orders the options were shown.
    """

    choice: str
    confidence: float
    probabilities: Mapping[str, float]
    spread: float | None
    mass: float
    orders: int


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """A level.

    Attributes:
        score: the expected level, counted from 0.
        confidence: from 0, where the levels are as far from the likeliest as equal shares are from the
            middle, to 1.
        probabilities: of the levels, lowest first; their sum is 1.
        spread, mass, orders: as of a choice.
    """

    score: float
    confidence: float
    probabilities: tuple[float, ...]
    spread: float | None
    mass: float
    orders: int


Answer: TypeAlias = NoulAnswer | ChoiceAnswer | ScoreAnswer


@dataclass(frozen=True)
class Decisions(Mapping[str, Any]):
    """The answers to the questions of one request, by name, and what they took.

    Of which class an answer is, its question says: ``NoulAnswer``, ``ChoiceAnswer`` or ``ScoreAnswer``.
    """

    answers: Mapping[str, Answer]
    usage: Usage = field(default_factory=Usage)

    def __getitem__(self, name: str) -> Any:
        return self.answers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)


def answer_to(
    question: Question, orders: Sequence[Order], logprobs: FloatArray, temperature: float = 1.0
) -> Answer:
    """The answer that follows from m readings of k labels.

    Readings are averaged as log-probabilities, and normalised again. A preference for a label or a place is
    an addend of the label's logit, so that it cancels there where each option stood at each place; in a mean
    of probabilities it would not.

    Args:
        orders: of the m readings: for each place, the option that stood there.
        logprobs: (m, k) log-probabilities of the labels in their places, out of the whole vocabulary.
        temperature: divides the log-probabilities of the options.

    Example:
        Yes has 0.6 of the whole vocabulary, No 0.2::

            >>> answer = answer_to(Noul("Is it?"), [(0, 1)], np.log([[0.6, 0.2]]))
            >>> round(answer.noul, 3), round(answer.mass, 3)
            (0.75, 0.8)

        Odds of 4 to 1 when shown first and of 1 to 1 when shown second are odds of 2 to 1::

            >>> both = np.log([[0.8, 0.2], [0.5, 0.5]])
            >>> answer = answer_to(Choice("Which?", ["x", "y"]), [(0, 1), (1, 0)], both)
            >>> answer.choice, round(answer.probabilities["x"], 3), round(answer.spread, 3)
            ('x', 0.667, 0.3)
    """
    mass = float(np.exp(logprobs).sum(axis=1).mean())
    by_option = np.empty_like(logprobs, dtype=np.float64)  # (m, k)
    for reading, order in enumerate(orders):
        by_option[reading, list(order)] = log_softmax(logprobs[reading] / temperature)
    p = np.exp(log_softmax(by_option.mean(axis=0)))  # (k,)
    if isinstance(question, Noul):
        return NoulAnswer(float(p[0]), mass)
    shares = np.exp(by_option)  # (m, k)
    spread = float(np.ptp(shares, axis=0).max()) if len(orders) > 1 else None
    if isinstance(question, Choice):
        best = int(p.argmax())
        confidence = max(0.0, (float(p[best]) - 1 / len(p)) / (1 - 1 / len(p)))
        probabilities = dict(zip(question.options, p.tolist(), strict=True))
        return ChoiceAnswer(question.options[best], confidence, probabilities, spread, mass, len(orders))
    levels = np.arange(len(p))
    far = np.abs(levels - (len(p) - 1) / 2).mean()  # of equal shares from the middle
    confidence = max(0.0, 1 - float(p @ np.abs(levels - int(p.argmax())) / far))
    return ScoreAnswer(float(p @ levels), confidence, tuple(p.tolist()), spread, mass, len(orders))


def log_softmax(x: FloatArray) -> FloatArray:
    """(k,) log-probabilities in proportion to exp(x), without overflow."""
    shifted = x - x.max()
    return shifted - np.log(np.exp(shifted).sum())
