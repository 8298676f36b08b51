"""Typed questions and their answers as JSON: the shapes of ``/v1/systemone`` and ``/v1/decisions``.

Reads a body into a ``Request`` with an error that names the place, and writes answers in the shape of their
endpoint. What clients of these shapes do not know (spread, mass, orders) is written apart. Knows JSON; knows
no server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gram.decisions.answers import Answer, ChoiceAnswer, Decisions, NoulAnswer
from gram.decisions.decider import Request
from gram.decisions.orders import ORDERS
from gram.decisions.questions import MOST_QUESTIONS, Choice, Noul, Question, Score, read_questions, read_state
from gram.errors import DataError, WrongTypeError
from gram.messages import as_text, kind_of

MOST_LEVELS = 10
"""Of a score, over HTTP."""


def systemone_request(body: Mapping[str, Any], orders: int = ORDERS) -> Request:
    """The request in a body of ``POST /v1/systemone``; its ``model`` is not looked at.

    Raises:
        WrongTypeError, DataError: naming the place in the body.

    Example:
        >>> request = systemone_request({"state": "Hi!", "questions": {"q": {"type": "noul"}}})
        >>> request.questions
        {'q': Noul(instructions=None, true=None, false=None)}
    """
    _known(body, {"model", "state", "questions", "assets"}, "")
    if body.get("assets"):
        raise DataError("images cannot be shown to this model", field="assets")
    for name in ("state", "questions"):
        if name not in body:
            raise DataError("is missing", field=name)
    questions = read_questions(body["questions"])
    _within_limits(questions, "questions")
    for name, question in questions.items():
        if isinstance(question, Score):
            _few_levels(question, f"questions.{name}.criteria")
    return Request(body["state"], questions, orders)


def systemone_answers(request: Request, decisions: Decisions) -> dict[str, dict[str, Any]]:
    """``answers`` of ``/v1/systemone``, by name."""
    return {name: _systemone(question, decisions[name]) for name, question in request.questions.items()}


def decisions_request(body: Mapping[str, Any], orders: int = ORDERS) -> Request:
    """The request in a body of ``POST /v1/decisions``; questions are called by their numbers.

    Raises:
        WrongTypeError, DataError: naming the place in the body.

    Example:
        >>> asked = [{"type": "choice", "instructions": "Tone?", "choices": ["calm", "angry"]}]
        >>> decisions_request({"input": "Hi!", "questions": asked}).questions["0"].options
        ('calm', 'angry')
    """
    _known(body, {"model", "input", "questions"}, "")
    for name in ("input", "questions"):
        if name not in body:
            raise DataError("is missing", field=name)
    if isinstance(body["input"], Mapping):
        raise WrongTypeError("expected a text or messages, got an object", field="input")
    state, questions = read_state(body["input"], "input"), body["questions"]
    if isinstance(questions, str) or not isinstance(questions, Sequence):
        raise WrongTypeError(f"expected a list of questions, got {kind_of(questions)}", field="questions")
    read = {
        str(number): _question(question, f"questions[{number}]") for number, question in enumerate(questions)
    }
    if not read:
        raise DataError("holds no question", field="questions")
    _within_limits(read, "questions")
    return Request(state, read, orders)


def decisions_answers(
    body: Mapping[str, Any], request: Request, decisions: Decisions
) -> list[dict[str, Any]]:
    """Answers of ``/v1/decisions``, in the order of the questions of ``body``."""
    return [
        _of_decisions(asked.get("name"), request.questions[str(number)], decisions[str(number)])
        for number, asked in enumerate(body["questions"])
    ]


def diagnostics(decisions: Decisions, truncated: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """What is known of each answer beside it: the label mass, and of orders their number and spread.

    Args:
        truncated: of each question, how many of its prompts were shortened to fit the model.

    Example:
        >>> diagnostics(Decisions({"q": NoulAnswer(0.75, 0.9)}), {"q": 1})
        {'q': {'mass': 0.9, 'truncated': 1}}
    """
    told: dict[str, dict[str, Any]] = {}
    for name, answer in decisions.items():
        told[name] = {"mass": answer.mass, "truncated": truncated[name]}
        if not isinstance(answer, NoulAnswer):
            told[name] |= {"orders": answer.orders, "spread": answer.spread}
    return told


def _systemone(question: Question, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, NoulAnswer):
        return {"type": "noul", "noul": answer.noul}
    if isinstance(answer, ChoiceAnswer):
        return {
            "type": "choice",
            "choice": answer.choice,
            "confidence": answer.confidence,
            "probabilities": dict(answer.probabilities),
        }
    return {
        "type": "score",
        "score": answer.score,
        "legend": dict(zip(question.options, question.descriptions, strict=True)),
        "confidence": answer.confidence,
        "probabilities": dict(zip(question.options, answer.probabilities, strict=True)),
    }


def _of_decisions(name: str | None, question: Question, answer: Answer) -> dict[str, Any]:
    named = {"name": name}
    if isinstance(answer, NoulAnswer):
        return {"type": "predicate", **named, "probability": answer.noul}
    if isinstance(answer, ChoiceAnswer):
        shares = [{"value": value, "probability": p} for value, p in answer.probabilities.items()]
        return {
            "type": "choice",
            **named,
            "choice": answer.choice,
            "confidence": answer.confidence,
            "probabilities": shares,
        }
    shares = [
        {"value": level, "label": label, "probability": p}
        for level, (label, p) in enumerate(zip(question.descriptions, answer.probabilities, strict=True))
    ]
    return {
        "type": "score",
        **named,
        "score": answer.score,
        "confidence": answer.confidence,
        "probabilities": shares,
    }


_FIELDS = {"predicate": set(), "choice": {"choices"}, "score": {"levels"}}


def _question(question: object, place: str) -> Question:
    """A question of ``/v1/decisions``."""
    if not isinstance(question, Mapping):
        raise WrongTypeError(f"expected a question, got {kind_of(question)}", field=place)
    kind = question.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise DataError(f"must be one of {', '.join(_FIELDS)}, got {kind!r}", field=f"{place}.type")
    _known(question, {"type", "name", "instructions", *_FIELDS[kind]}, place)
    if question.get("name") is not None:
        as_text(question["name"], f"{place}.name")
    instructions = question.get("instructions")
    try:
        if kind == "predicate":
            return Noul(instructions)
        [field] = _FIELDS[kind]
        listed = question.get(field)
        if isinstance(listed, str | Mapping) or not isinstance(listed, Sequence):
            raise WrongTypeError(f"expected a list of texts, got {kind_of(listed)}", field="criteria")
        texts = [as_text(text, f"criteria[{number}]") for number, text in enumerate(listed)]
        made = Choice(instructions, texts) if kind == "choice" else Score(instructions, texts)
    except DataError as error:
        where = str(error.field).replace("criteria", next(iter(_FIELDS[kind]), ""))
        raise type(error)(error.reason, field=f"{place}.{where}") from None
    if isinstance(made, Score):
        _few_levels(made, f"{place}.levels")
    return made


def _known(fields: Mapping[str, Any], known: set[str], place: str) -> None:
    if not isinstance(fields, Mapping):
        raise WrongTypeError(f"expected an object, got {kind_of(fields)}", field=place or "body")
    if unknown := sorted(map(str, set(fields) - known)):
        name = f"{place}.{unknown[0]}" if place else unknown[0]
        raise DataError(f"is no field of this request; there are: {', '.join(sorted(known))}", field=name)


def _within_limits(questions: Mapping[str, Question], place: str) -> None:
    if len(questions) > MOST_QUESTIONS:
        raise DataError(f"holds {len(questions)} questions, and may hold {MOST_QUESTIONS}", field=place)


def _few_levels(question: Score, place: str) -> None:
    if len(question.criteria) > MOST_LEVELS:
        raise DataError(f"has {len(question.criteria)} levels, and may have {MOST_LEVELS}", field=place)
