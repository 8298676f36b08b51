"""Prompts and answers as people give them, read in one place for everything that takes them.

A prompt is a plain string or a sequence of messages; a message is a ``Message`` or a mapping with ``role``
and ``content``, which may be a list of text parts. Lists may be any iterable: tuples, generators, arrays,
columns. What cannot be read is refused with the argument and the place in it, before a model is asked. Knows
no model, no tokenizer and no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from gram.errors import DataError, WrongTypeError
from gram.turns import with_calls, with_thoughts

T = TypeVar("T")

THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # as transformers knows them
CALLS = ("tool_calls", "function_call")
_TEXT_PARTS = (None, "text", "input_text", "output_text")  # None: a part that says no type


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, in the roles of the Hugging Face chat format.

    Raises:
        WrongTypeError: role or content is not a string.
        DataError: half of a surrogate pair.

    Example:
        >>> Message("user", "Why is the sky blue?")
        Message(role='user', content='Why is the sky blue?')
    """

    role: str
    content: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", as_text(self.role, "role"))
        object.__setattr__(self, "content", as_text(self.content, "content"))


Chat: TypeAlias = tuple[Message, ...]
"""A prompt as it is kept: its messages in their order."""
PromptLike: TypeAlias = "str | Iterable[Message | Mapping[str, Any]]"
"""A prompt as it may be given: a text is one user turn."""


def as_chat(prompt: PromptLike, field: str = "prompt") -> Chat:
    """A prompt as messages; a plain string becomes one user turn.

    Args:
        field: what errors call it.

    Raises:
        WrongTypeError: it is neither a string nor messages, or a message has no text.
        DataError: half of a surrogate pair.

    Example:
        >>> as_chat("Why?") == as_chat([{"role": "user", "content": "Why?"}]) == (Message("user", "Why?"),)
        True
    """
    if isinstance(prompt, str):
        return (Message("user", as_text(prompt, field)),)
    turns = as_list(prompt, field, "a string, or a list of messages")
    return tuple(_as_message(turn, f"{field}[{k}]") for k, turn in enumerate(turns))


def as_chats(prompts: Iterable[PromptLike], field: str = "prompts") -> list[Chat]:
    """Several prompts as messages.

    Raises:
        WrongTypeError, DataError: as ``as_chat``; also for a single prompt where a list of them is due.
    """
    listed = as_list(prompts, field, "a list of prompts")
    return [as_chat(prompt, f"{field}[{k}]") for k, prompt in enumerate(listed)]


def as_text(value: str, field: str) -> str:
    """``value``, if it is a string that can be written as UTF-8.

    Raises:
        WrongTypeError: it is no string.
        DataError: it holds half of a surrogate pair, at which tokenizers and files fail.

    Example:
        >>> as_text(4, "responses[0]")
        Traceback (most recent call last):
        gram.errors.WrongTypeError: field 'responses[0]': expected a string, got int
    """
    if not isinstance(value, str):
        raise WrongTypeError(f"expected a string, got {kind_of(value)}", field=field)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError("holds half of a surrogate pair, which is no character", field=field) from None
    return str(value)  # numpy's strings are a kind of their own


def as_texts(values: Iterable[str], field: str) -> list[str]:
    """Several strings.

    Raises:
        WrongTypeError, DataError: as ``as_text``; also for a single string, whose letters would be read.
    """
    listed = as_list(values, field, "a list of strings")
    return [as_text(value, f"{field}[{k}]") for k, value in enumerate(listed)]


def as_answers(prompts: Iterable[PromptLike], responses: Iterable[str]) -> tuple[list[Chat], list[str]]:
    """n prompts and the n answers to them.

    Raises:
        WrongTypeError, DataError: one of them cannot be read.
        ValueError: not as many responses as prompts.

    Example:
        >>> as_answers(["Why?"], ["So."])
        ([(Message(role='user', content='Why?'),)], ['So.'])
    """
    prompts = as_list(prompts, "prompts", "a list of prompts")
    responses = as_list(responses, "responses", "a list of strings")
    check_lengths(prompts=prompts, responses=responses)
    return as_chats(prompts), as_texts(responses, "responses")


def check_lengths(**lists: list[Any]) -> None:
    """Refuse lists of different length.

    Raises:
        ValueError: naming the lists.

    Example:
        >>> check_lengths(prompts=["Why?"], responses=[])
        Traceback (most recent call last):
        ValueError: 1 prompts but 0 responses
    """
    (first, expected), *others = [(name, len(values)) for name, values in lists.items()]
    for name, count in others:
        if count != expected:
            raise ValueError(f"{expected} {first} but {count} {name}")


def as_list(values: Iterable[T], field: str, expected: str) -> list[T]:
    """``values`` as a list, whatever iterable they come in.

    Args:
        expected: what should stand there, for the error.

    Raises:
        WrongTypeError: a single text or message, a mapping, a set, or nothing that holds values.
    """
    if isinstance(values, str | bytes | Mapping | Set | Message) or not isinstance(values, Iterable):
        raise WrongTypeError(f"expected {expected}, got {kind_of(values)}", field=field)
    return list(values)


def as_instances(values: Iterable[T], kind: type[T], field: str) -> list[T]:
    """Values of one class as a list.

    Raises:
        WrongTypeError: a single value where a list is due, or a value of another class.
    """
    listed = as_list(values, field, f"a list of {kind.__name__}")
    for place, value in enumerate(listed):
        if not isinstance(value, kind):
            raise WrongTypeError(
                f"expected a {kind.__name__}, got {kind_of(value)}", field=f"{field}[{place}]"
            )
    return listed


def content_text(content: object, field: str) -> str:
    """The content of a message: a string, or a list of text parts, which are joined.

    Raises:
        WrongTypeError: anything else; images and the like are named.
        DataError: half of a surrogate pair.

    Example:
        >>> content_text([{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}], "content")
        'What is this?'
    """
    if isinstance(content, str) or not isinstance(content, Iterable) or isinstance(content, Mapping | bytes):
        return as_text(content, field)  # type: ignore[arg-type]
    return "".join(_part_text(part, f"{field}[{k}]") for k, part in enumerate(content))


def kind_of(value: object) -> str:
    """What ``value`` is, in the words of an error."""
    if value is None:
        return "nothing (None)"
    return "a single string" if isinstance(value, str) else f"{type(value).__name__}"


def _part_text(part: object, field: str) -> str:
    if isinstance(part, str):
        return as_text(part, field)
    if not isinstance(part, Mapping):
        raise WrongTypeError(f"expected a text part, got {kind_of(part)}", field=field)
    if part.get("type") not in _TEXT_PARTS:
        raise WrongTypeError(f"holds a part of the type {part['type']!r}; only text can be read", field=field)
    return as_text(part.get("text"), f"{field}.text")  # type: ignore[arg-type]


def _as_message(turn: object, field: str) -> Message:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping):
        raise WrongTypeError(
            f"expected a message with 'role' and 'content', got {kind_of(turn)}", field=field
        )
    role = as_text(turn.get("role"), f"{field}.role")  # type: ignore[arg-type]
    return Message(role, message_text(turn, field))


def message_text(turn: Mapping[str, Any], field: str) -> str:
    r"""What a message says: its content, the thoughts that it has in a field of their own, its tool calls.

    Thoughts stand in front and calls behind, in the notation of ``gram.turns``; the content may be missing
    where there are calls.

    Raises:
        WrongTypeError: a content that is no text, a call that is none; images and the like are named.
        DataError: half of a surrogate pair.

    Example:
        >>> message_text({"content": "4", "reasoning_content": "2 + 2."}, "chosen[0]")
        '<think>\n2 + 2.\n</think>\n\n4'
    """
    calls = _calls(turn, field)
    content = turn.get("content")
    words = "" if content is None and calls else content_text(content, f"{field}.content")
    for name in THOUGHTS:
        if turn.get(name):
            words = with_thoughts(content_text(turn[name], f"{field}.{name}"), words)
            break
    text = _with_calls(words, calls, field) if calls else words
    return as_text(text, f"{field}.tool_calls")


def is_null(value: object) -> bool:
    """Whether ``value`` is null, or an object of nothing else, as tables write one that is not there.

    Example:
        >>> is_null(None), is_null({"name": None, "arguments": None}), is_null({})
        (True, True, False)
    """
    if isinstance(value, Mapping):
        return len(value) > 0 and all(is_null(part) for part in value.values())
    return value is None


def _calls(turn: Mapping[str, Any], field: str) -> list[Any]:
    """The tool calls of a message; one of OpenAI's older kind (``function_call``) counts, nulls do not."""
    given = turn.get("tool_calls")
    calls = [] if given is None else as_list(given, f"{field}.tool_calls", "a list of tool calls")
    calls = [call for call in calls if not is_null(call)]
    older = turn.get("function_call")
    if not older or is_null(older):
        return calls
    if calls and _with_calls("", calls, field) != _with_calls("", [older], field):
        raise WrongTypeError("is another call than those of 'tool_calls'", field=f"{field}.function_call")
    return [older]


def _with_calls(words: str, calls: list[Any], field: str) -> str:
    try:
        return with_calls(words, calls)
    except ValueError as error:
        raise WrongTypeError(str(error), field=f"{field}.tool_calls") from None
