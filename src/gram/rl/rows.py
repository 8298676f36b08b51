"""The rows of one call of a reward, read one by one: a row that cannot be read is a failure of that row only.

Knows prompts, answers and failures; knows no model and no trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Number
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

from gram.errors import DataError, WrongTypeError
from gram.messages import Chat, PromptLike, as_chat, as_list, as_text, check_lengths, kind_of, message_text
from gram.rl.failures import Failures
from gram.types import Message

P = ParamSpec("P")
T = TypeVar("T")

Response: TypeAlias = "str | DataError"
"""An answer, or why an adapter found none."""
Reference: TypeAlias = "str | DataError | None"
_EXACT = 2**53  # from here on not every integer is a float


@dataclass(frozen=True, slots=True)
class Rows:
    """What could be read of one call.

    Attributes:
        count: rows of the call.
        places: which of them could be read, in their order; the lists below have as many entries.
        chats: prompts.
        responses: answers.
        references: reference answers, None where there is none.
    """

    count: int
    places: list[int]
    chats: list[Chat]
    responses: list[str]
    references: list[str | None]

    def spread(self, values: list[float | None]) -> list[float | None]:
        """``values`` of the rows that could be read, and None for the others: one per row of the call."""
        by_place = dict(zip(self.places, values, strict=True))
        return [by_place.get(place) for place in range(self.count)]


def read_rows(
    failures: Failures,
    prompts: Iterable[PromptLike],
    responses: Iterable[Response],
    references: Iterable[Reference] | None = None,
) -> Rows:
    """The rows of a call; those that cannot be read are noted in ``failures`` and left out.

    Raises:
        WrongTypeError: the prompts, responses or references are no list.
        ValueError: there are not as many of each.
    """
    listed = {
        "prompts": as_list(prompts, "prompts", "a list of prompts"),
        "responses": as_list(responses, "responses", "a list of strings"),
    }
    if references is not None:
        listed["references"] = as_list(references, "references", "a list of strings")
    check_lengths(**listed)
    rows = Rows(len(listed["prompts"]), [], [], [], [])
    texts = listed.get("references") or [None] * rows.count
    for place, (prompt, response, text) in enumerate(
        zip(listed["prompts"], listed["responses"], texts, strict=True)
    ):
        try:
            chat = as_chat(_raised(prompt), f"prompts[{place}]")
            answer = as_text(_raised(response), f"responses[{place}]")
            reference = None if text is None else as_text(_raised(text), f"references[{place}]")
        except DataError as error:
            failures.note(1, str(error))
            continue
        rows.places.append(place)
        rows.chats.append(chat)
        rows.responses.append(answer)
        rows.references.append(reference)
    return rows


def together(parts: Sequence[Rows]) -> Rows:
    """The rows of several calls as those of one, in their order."""
    starts = accumulate((part.count for part in parts), initial=0)
    return Rows(
        sum(part.count for part in parts),
        [start + place for start, part in zip(starts, parts, strict=False) for place in part.places],
        [chat for part in parts for chat in part.chats],
        [text for part in parts for text in part.responses],
        [text for part in parts for text in part.references],
    )


def readable(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | DataError:
    """What ``read`` gives, or the error with which it refuses: a row that an adapter cannot read.

    Example:
        >>> readable(reference_text, {"answer": 4}, "references[0]")
        WrongTypeError("field 'references[0]': expected a string, a number or messages, got dict")
    """
    try:
        return read(*args, **kwargs)
    except DataError as error:
        return error


def text_of(completion: Any, field: str = "completion") -> str:
    """The answer in a completion: the string itself, or the last message of the assistant.

    Thoughts and tool calls that the message has in fields of their own are part of it. An assistant's message
    without content, and a conversation without an assistant, are an empty answer.

    Raises:
        WrongTypeError: no text, or a tool call that is none.
        DataError: half of a surrogate pair.

    Example:
        >>> text_of("yes"), text_of([{"role": "assistant", "content": "no"}])
        ('yes', 'no')
    """
    if isinstance(completion, str):
        return as_text(completion, field)
    turns = as_list(completion, field, "a string, or a list of messages")
    for place, turn in reversed(list(enumerate(turns))):
        if isinstance(turn, Message):
            turn = {"role": turn.role, "content": turn.content}
        if not hasattr(turn, "get"):
            raise WrongTypeError(f"expected a message, got {kind_of(turn)}", field=f"{field}[{place}]")
        if turn.get("role") == "assistant":
            content = turn.get("content")
            return message_text({**turn, "content": "" if content is None else content}, f"{field}[{place}]")
    return ""


def reference_text(value: Any, field: str = "reference") -> str | None:
    """The reference answer in a column or label of a dataset; None if it is None or empty.

    A number is a text. A whole float is written as an integer, and one that is not finite is no reference:
    tables make floats of a column of integers in which one is missing. True and False are answers too.

    Raises:
        WrongTypeError: neither a string, nor a number, nor messages that end with an answer.

    Example:
        >>> reference_text(0), reference_text(4.0), reference_text(True), reference_text("")
        ('0', '4', 'True', None)
        >>> reference_text(float("nan")) is None
        True
    """
    if isinstance(value, float | np.floating):
        whole = value.is_integer() and abs(value) < _EXACT
        return (str(int(value)) if whole else str(value)) if np.isfinite(value) else None
    if isinstance(value, Number | np.bool_):
        return str(value)
    if value is not None and not isinstance(value, str):
        try:
            value = text_of(value, field)
        except WrongTypeError as error:
            if error.field == field:
                reason = f"expected a string, a number or messages, got {kind_of(value)}"
                raise WrongTypeError(reason, field=field) from None
            raise
    return value or None


def reference_texts(values: Iterable[Any], field: str) -> list[Reference]:
    """The reference answers of a column; where one cannot be read, why."""
    listed = as_list(values, field, "a list of references")
    return [readable(reference_text, value, f"{field}[{place}]") for place, value in enumerate(listed)]


def _raised(value: Any) -> Any:
    """``value``, unless an adapter put its error here."""
    if isinstance(value, DataError):
        raise value
    return value
