"""Typed questions about a state: yes or no, one of several options, or a level.

The nouns of decisions, and their reading from JSON in the shape of ``/v1/systemone``, which is that of
transformers' decision pipeline too. What is wrong is refused with its place, before a model is asked. Knows
no model and no prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from gram.errors import DataError, WrongTypeError
from gram.messages import Message, as_chat, as_text, kind_of
from gram.rendering.questions import Content, QuestionKind, are_messages

MOST_QUESTIONS = 64
"""Of one request over HTTP; a call in Python may have more."""


@dataclass(frozen=True, slots=True)
class Noul:
    """A question with the answers yes (true) and no (false).

    Attributes:
        instructions: the question.
        true, false: what the two answers mean, where that has to be said.

    Raises:
        WrongTypeError: a text that is neither a string nor a JSON object or list.

    Example:
        >>> Noul("Is a refund requested?").options
        ('true', 'false')
    """

    instructions: Content = None
    true: Content = None
    false: Content = None
    type: ClassVar[QuestionKind] = "noul"

    def __post_init__(self) -> None:
        _set(self, instructions=self.instructions)
        object.__setattr__(self, "true", _content(self.true, "criteria.true"))
        object.__setattr__(self, "false", _content(self.false, "criteria.false"))

    @property
    def options(self) -> tuple[str, ...]:
        return ("true", "false")

    @property
    def descriptions(self) -> tuple[Content, ...]:
        return (self.true, self.false)


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with one right option of several.

    Attributes:
        instructions: the question.
        criteria: the options, and what each means, where that has to be said. A list of names will do.

    Raises:
        WrongTypeError: something else.
        DataError: less than two options, or the same one twice.

    Example:
        >>> Choice("What is the tone?", ["calm", "angry"]).criteria
        {'calm': None, 'angry': None}
    """

    instructions: Content
    criteria: Mapping[str, Content]
    type: ClassVar[QuestionKind] = "choice"

    def __init__(self, instructions: Content, criteria: Mapping[str, Content] | Sequence[str]) -> None:
        _set(self, instructions=instructions)
        if isinstance(criteria, str | bytes) or not isinstance(criteria, Mapping | Sequence):
            raise WrongTypeError(
                f"expected options with their descriptions, got {kind_of(criteria)}", field="criteria"
            )
        if not isinstance(criteria, Mapping):
            criteria = [as_text(name, f"criteria[{place}]") for place, name in enumerate(criteria)]
        named = criteria if isinstance(criteria, Mapping) else dict.fromkeys(criteria)
        if len(named) < len(criteria):
            raise DataError("the same option stands there twice", field="criteria")
        _at_least_two(named, "options")
        options = {
            as_text(name, f"criteria.{name}"): _content(value, f"criteria.{name}")
            for name, value in named.items()
        }
        object.__setattr__(self, "criteria", options)

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(self.criteria)

    @property
    def descriptions(self) -> tuple[Content, ...]:
        return tuple(self.criteria.values())


@dataclass(frozen=True, slots=True)
class Score:
    """A question with one right level of several that have an order.

    Attributes:
        instructions: the question.
        criteria: what each level means, lowest first.

    Raises:
        WrongTypeError: something else.
        DataError: less than two levels.

    Example:
        >>> Score("How urgent is it?", ["It can wait", "This week", "Today"]).options
        ('0', '1', '2')
    """

    instructions: Content
    criteria: tuple[Content, ...]
    type: ClassVar[QuestionKind] = "score"

    def __init__(self, instructions: Content, criteria: Sequence[Content]) -> None:
        _set(self, instructions=instructions)
        if isinstance(criteria, str | bytes | Mapping) or not isinstance(criteria, Sequence):
            raise WrongTypeError(f"expected a list of levels, got {kind_of(criteria)}", field="criteria")
        _at_least_two(criteria, "levels")
        levels = []
        for place, level in enumerate(criteria):
            if level is None:
                raise WrongTypeError("a level must say what it is, got nothing", field=f"criteria[{place}]")
            levels.append(_content(level, f"criteria[{place}]"))
        object.__setattr__(self, "criteria", tuple(levels))

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(str(level) for level in range(len(self.criteria)))

    @property
    def descriptions(self) -> tuple[Content, ...]:
        return self.criteria


Question: TypeAlias = Noul | Choice | Score
QuestionLike: TypeAlias = "Question | Mapping[str, Any]"


def read_questions(questions: Mapping[str, QuestionLike], field: str = "questions") -> dict[str, Question]:
    """Questions by name, each a question already, or JSON in the shape of ``/v1/systemone``.

    Raises:
        WrongTypeError, DataError: naming the place, such as ``questions.tone.criteria.calm``.

    Example:
        >>> read_questions({"spam": {"type": "noul", "instructions": "Is it spam?"}})
        {'spam': Noul(instructions='Is it spam?', true=None, false=None)}
        >>> read_questions({"tone": {"type": "choice", "criteria": {"calm": None}}})
        Traceback (most recent call last):
        gram.errors.DataError: field 'questions.tone.criteria': needs at least two options, got 1
    """
    if not isinstance(questions, Mapping):
        raise WrongTypeError(f"expected questions by name, got {kind_of(questions)}", field=field)
    if not questions:
        raise DataError("holds no question", field=field)
    return {
        as_text(name, f"{field}: a name"): _read(question, f"{field}.{name}")
        for name, question in questions.items()
    }


def read_state(state: object, field: str = "state") -> object:
    """A state, if it can be shown: a text, messages, or a JSON object or list.

    Raises:
        WrongTypeError: something else.
        DataError: half of a surrogate pair.
    """
    if are_messages(state):
        assert isinstance(state, list | tuple)
        turns = [_as_mapping(turn) for turn in state]
        try:
            as_text(_json(turns, field, default=str), field)
        except DataError:
            as_chat(turns, field)  # names the place, if it is in what is shown
            raise
        return turns
    if state is None:
        raise WrongTypeError("expected a text, messages or JSON, got nothing (None)", field=field)
    return _content(state, field)


def _as_mapping(turn: Any) -> Mapping[str, Any]:
    return {"role": turn.role, "content": turn.content} if isinstance(turn, Message) else turn


def _read(question: object, place: str) -> Question:
    if isinstance(question, Noul | Choice | Score):
        return question
    if not isinstance(question, Mapping):
        raise WrongTypeError(f"expected a question, got {kind_of(question)}", field=place)
    kind = question.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise DataError(f"must be one of {', '.join(_READERS)}, got {kind!r}", field=f"{place}.type")
    if unknown := sorted(map(str, set(question) - {"type", "instructions", "criteria"})):
        raise DataError(
            f"a question has type, instructions and criteria, not {', '.join(unknown)}", field=place
        )
    if kind != "noul" and "criteria" not in question:
        raise DataError("is missing: the options of the question", field=f"{place}.criteria")
    try:
        return reader(question.get("instructions"), question.get("criteria"))
    except DataError as error:
        raise type(error)(error.reason, field=f"{place}.{error.field}") from None


def _noul(instructions: Any, criteria: Any) -> Noul:
    if criteria is None:
        return Noul(instructions)
    if not isinstance(criteria, Mapping):
        raise WrongTypeError(f"expected what true and false mean, got {kind_of(criteria)}", field="criteria")
    if unknown := sorted(map(str, set(criteria) - {"true", "false"})):
        raise DataError(f"may say what true and false mean, not {', '.join(unknown)}", field="criteria")
    return Noul(instructions, criteria.get("true"), criteria.get("false"))


def _choice(instructions: Any, criteria: Any) -> Choice:
    if not isinstance(criteria, Mapping):
        raise WrongTypeError(
            f"expected options with their descriptions, got {kind_of(criteria)}", field="criteria"
        )
    return Choice(instructions, criteria)


_READERS: dict[str, Callable[[Any, Any], Question]] = {"noul": _noul, "choice": _choice, "score": Score}


def _at_least_two(criteria: Any, what: str) -> None:
    if len(criteria) < 2:
        raise DataError(f"needs at least two {what}, got {len(criteria)}", field="criteria")


def _content(value: Any, field: str) -> Content:
    """A text, or JSON in Python's own types, so that it is written the same everywhere."""
    if value is None:
        return None
    if isinstance(value, str):
        return as_text(value, field)
    if not isinstance(value, Mapping | Sequence) or isinstance(value, bytes):
        raise WrongTypeError(
            f"expected a string, or a JSON object or list, got {kind_of(value)}", field=field
        )
    text = as_text(_json(value, field, allow_nan=False), field)
    return json.loads(text)


def _json(value: Any, field: str, **options: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, **options)
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongTypeError(f"is no JSON: {error}", field=field) from None


def _set(question: Any, *, instructions: Any) -> None:
    object.__setattr__(question, "instructions", _content(instructions, "instructions"))
