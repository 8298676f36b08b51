"""Asks a model's questions: every question in its orders, about one state or many, in one call.

A ``Prompter`` makes prompts and knows the labels; a reader gives their log-probabilities. Knows neither: no
tokenizer, no template, no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from gram.decisions.answers import Decisions, answer_to
from gram.decisions.orders import ORDERS, Order, check_orders, orders_of
from gram.decisions.questions import Noul, Question, QuestionLike, read_questions, read_state
from gram.errors import ConfigError, ScoringError
from gram.messages import as_instances
from gram.rendering import Encoded, usage_of
from gram.rendering.questions import QuestionKind
from gram.types import FloatArray, Usage

LOW_MASS = 0.1
"""Mean label mass of a call below which the decider warns."""

Reader: TypeAlias = Callable[[Sequence[Sequence[int]], Sequence[int]], FloatArray]
"""n prompts and k tokens to (n, k) log-probabilities of each as the next token, out of the vocabulary."""

_log = logging.getLogger("gram.decisions")


@dataclass(frozen=True, slots=True)
class Request:
    """Questions about one state.

    Attributes:
        state: a text, messages, or any JSON object or list.
        questions: by name; in Python's classes, or as JSON in the shape of ``/v1/systemone``.
        orders: in how many orders the options of choices and scores are shown; a question with few options
            has fewer.

    Raises:
        WrongTypeError, DataError: naming the place in the request.
        ConfigError: a number of orders that is neither 1 nor even.
    """

    state: object
    questions: Mapping[str, Question]
    orders: int

    def __init__(self, state: object, questions: Mapping[str, QuestionLike], orders: int = ORDERS) -> None:
        check_orders(orders)
        object.__setattr__(self, "state", read_state(state))
        object.__setattr__(self, "questions", read_questions(questions))
        object.__setattr__(self, "orders", orders)

    @property
    def asked(self) -> list[Asked]:
        """Every question in each of its orders."""
        return [
            Asked(name, question, order)
            for name, question in self.questions.items()
            for order in _orders(question, self.orders)
        ]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in one order of its options."""

    name: str
    question: Question
    order: Order


class Prompter(Protocol):
    """What a model is shown, and the labels that it answers with."""

    def prompts(self, state: object, asked: Sequence[Asked]) -> list[Encoded]:
        """Prompts behind which the next token is a label."""
        ...

    def label_ids(self, kind: QuestionKind, count: int, name: str) -> list[int]:
        """Token ids of the labels of a question's ``count`` options, in the order of places.

        Raises:
            DataError: more options than labels; ``name`` is that of the question.
        """
        ...

    def temperature(self, kind: QuestionKind) -> float:
        """What divides the log-probabilities of the options."""
        ...


@runtime_checkable
class DecisionModel(Protocol):
    """Anything that answers typed questions: a judge that ``gram.load`` gives."""

    def decide(self, requests: Iterable[Request]) -> list[Decisions]:
        """The answers to each request, in their order."""
        ...


def decide(
    model: object, state: object, questions: Mapping[str, QuestionLike], *, orders: int = ORDERS
) -> Decisions:
    """Ask ``model`` typed questions about one state, and read each answer off one token.

    Args:
        model: a judge of ``gram.load``; any causal language model is one with ``kind="judge"``.
        state: what the questions are about: a text, messages, or a JSON object or list.
        questions: ``Noul``, ``Choice`` and ``Score`` of ``gram.decisions`` by name, or the same as JSON:
            ``{"type": "choice", "instructions": ..., "criteria": {option: description}}``.
        orders: in how many orders the options of choices and scores are shown; 1 is cheaper, and the
            model's preference for places stays in.

    Returns:
        Answers by name, with probabilities, their ``spread`` between orders and the label ``mass``.

    Raises:
        ConfigError: a model that answers no questions, or a number of orders that is neither 1 nor even.
        WrongTypeError, DataError: naming the place in the request.
        TemplateError: labels that are not one token for this model.

    Example:
        >>> import gram
        >>> model = gram.load("gram-135m")
        >>> questions = {"refund": {"type": "noul", "instructions": "Is a refund requested?"}}
        >>> answers = decide(model, "I was charged twice.", questions)
        >>> 0 < answers["refund"].noul < 1, answers.usage.judged
        (True, 1)
    """
    if not isinstance(model, DecisionModel):
        raise ConfigError(
            f"{type(model).__name__} answers no questions: it gives numbers to whole answers and reads no "
            'labels. A judge does, and gram.load(..., kind="judge") makes one of a causal language model'
        )
    return model.decide([Request(state, questions, orders)])[0]


class Decider:
    """Answers requests with one model.

    Rows of all questions, orders and requests of a call are read together: what prompts share is read once.

    Example:
        A model that always says "yes" with 0.6 and "no" with 0.2, labels 7 and 8::

            >>> class Prompts:
            ...     def prompts(self, state, asked):
            ...         return [Encoded([1, 2, 3], {}) for _ in asked]
            ...     def label_ids(self, kind, count, name):
            ...         return [7, 8]
            ...     def temperature(self, kind):
            ...         return 1.0
            >>> decider = Decider(Prompts(), lambda rows, tokens: np.log(np.tile([0.6, 0.2], (len(rows), 1))))
            >>> answers = decider.decide([Request("It broke.", {"angry": Noul("Is it angry?")})])[0]
            >>> round(answers["angry"].noul, 3)
            0.75
    """

    def __init__(self, prompter: Prompter, read: Reader) -> None:
        self._prompter = prompter
        self._read = read
        self._warned = False

    def decide(self, requests: Iterable[Request]) -> list[Decisions]:
        """The answers to each request.

        Raises:
            DataError: a question that is too long, or has more options than there are labels.
            ScoringError: the model gave a number that is not finite.
        """
        requests = as_instances(requests, Request, "requests")
        asked = [request.asked for request in requests]
        labels = [[self._labels(one) for one in of_request] for of_request in asked]
        prompts = [
            self._prompter.prompts(request.state, of_request)
            for request, of_request in zip(requests, asked, strict=True)
        ]
        tokens = sorted({token for of_request in labels for ids in of_request for token in ids})
        rows = [prompt.ids for of_request in prompts for prompt in of_request]
        if not rows:
            return []
        logprobs = self._read(rows, tokens)  # (rows, tokens)
        column = {token: place for place, token in enumerate(tokens)}
        results, first = [], 0
        for number, (request, of_request) in enumerate(zip(requests, asked, strict=True)):
            last = first + len(of_request)
            read = [
                logprobs[first + place, [column[token] for token in ids]]
                for place, ids in enumerate(labels[number])
            ]
            results.append(self._decisions(request, of_request, read, usage_of(prompts[number])))
            first = last
        self._warn(sum((result.usage for result in results), Usage()))
        return results

    def _labels(self, one: Asked) -> list[int]:
        return self._prompter.label_ids(one.question.type, len(one.order), one.name)

    def _decisions(
        self, request: Request, asked: Sequence[Asked], read: Sequence[FloatArray], usage: Usage
    ) -> Decisions:
        answers = {}
        for name in request.questions:
            places = [place for place, one in enumerate(asked) if one.name == name]
            question = asked[places[0]].question
            logprobs = np.stack([read[place] for place in places])  # (m, k)
            if not np.isfinite(logprobs).all():
                raise ScoringError(f"the model gave no finite log-probability for question '{name}'")
            orders = [asked[place].order for place in places]
            answers[name] = answer_to(question, orders, logprobs, self._prompter.temperature(question.type))
        mass = float(sum(np.exp(logprobs).sum() for logprobs in read))
        return Decisions(answers, usage + Usage(judged=len(read), mass=mass))

    def _warn(self, usage: Usage) -> None:
        """Say once that the labels are not what the model wants to say: then its answers mean little."""
        if usage.label_mass is not None and usage.label_mass < LOW_MASS and not self._warned:
            self._warned = True
            _log.warning(
                "the labels of the questions together have a probability of %.3g on average: the model would "
                "say something else in their place, and its answers may mean little",
                usage.label_mass,
            )


def _orders(question: Question, count: int) -> list[Order]:
    """Of yes and no one: they are words of their own, and stand in no list."""
    return [(0, 1)] if isinstance(question, Noul) else orders_of(len(question.options), count)
