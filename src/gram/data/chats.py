"""Prompts and answers in the ways data sets write them: strings, chat messages, HH transcripts.

Knows single values, not rows: ``rows`` knows which fields a row has and what they mean together. Every error
is a ``DataError`` that names the field; ``rows`` adds the file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gram.errors import DataError
from gram.types import Chat, Message

ROLES = ("system", "developer", "user", "assistant", "tool")
_HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def text_of(value: object, field: str) -> str:
    """``value`` as a string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise DataError(f"expected a string, got {type(value).__name__}", field=field)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError("holds half of a surrogate pair, which is no character", field=field) from None
    return value


def prompt_of(value: object, field: str = "prompt") -> Chat:
    """A prompt given as a string, an HH transcript or messages; it ends with a user (or tool) turn.

    Example:
        >>> prompt_of("Why is the sky blue?")
        (Message(role='user', content='Why is the sky blue?'),)
    """
    if isinstance(value, str):
        text = text_of(value, field)
        turns = transcript_of(text) or (Message("user", text),)
        if turns[-1] == Message("assistant", ""):  # a transcript up to and including "\n\nAssistant:"
            turns = turns[:-1]
    else:
        turns = _messages_of(value, field)
    return check_prompt(turns, field)


def check_prompt(turns: Chat, field: str) -> Chat:
    """``turns``, if they can be answered: some text, and nobody has answered yet."""
    if not any(turn.content.strip() for turn in turns):
        raise DataError("the prompt is empty", field=field)
    if turns[-1].role not in ("user", "tool"):
        raise DataError(f"the prompt ends with a turn of the {turns[-1].role}, not of the user", field=field)
    return turns


def answer_of(value: object, field: str, prompt: Chat) -> str:
    """An answer given as a string or as one assistant message, or as either after the whole prompt.

    Example:
        >>> answer_of([{"role": "assistant", "content": "4"}], "chosen", prompt_of("2 + 2?"))
        '4'
    """
    if isinstance(value, str):
        answer = text_of(value, field)
        turns = transcript_of(answer)
        if turns is not None and turns[:-1] == prompt and turns[-1].role == "assistant":
            answer = turns[-1].content
    else:
        turns = _messages_of(value, field)
        if turns[: len(prompt)] == prompt:
            turns = turns[len(prompt) :]
        if len(turns) != 1 or turns[0].role != "assistant":
            roles = ", ".join(turn.role for turn in turns) or "nothing"
            raise DataError(f"expected one assistant message after the prompt, got {roles}", field=field)
        answer = turns[0].content
    return check_answer(answer, field)


def check_answer(answer: str, field: str) -> str:
    """``answer``, if there is anything in it but white space."""
    if not answer.strip():
        raise DataError("the answer is empty", field=field)
    return answer


def conversation_of(value: object, field: str) -> tuple[Chat, str]:
    """A whole conversation as the prompt and the last turn, which must be the assistant's."""
    turns = _messages_of(value, field)
    if turns[-1].role != "assistant":
        raise DataError(f"expected an assistant message last, got {turns[-1].role}", field=field)
    return check_prompt(turns[:-1], field), check_answer(turns[-1].content, field)


def implicit_prompt(chosen: Any, rejected: Any) -> tuple[Chat, str, str]:
    """The prompt that two conversations share, and the two answers.

    Messages and HH transcripts must agree in every turn but the last. Of two plain strings the prompt is
    the longest common beginning that ends where a word ends; the white space after it stays with the
    answers, so that prompt + answer is the string that was given. Where both answers begin with the same
    words, these go to the prompt: no rule can tell them apart. A row with a ``prompt`` field avoids this.

    Example:
        >>> prompt, chosen, rejected = implicit_prompt("Is it 4? Yes.", "Is it 4? No.")
        >>> prompt[0].content, chosen, rejected
        ('Is it 4?', ' Yes.', ' No.')
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        texts = text_of(chosen, "chosen"), text_of(rejected, "rejected")
        transcripts = transcript_of(texts[0]), transcript_of(texts[1])
        if transcripts[0] is None or transcripts[1] is None:
            return _shared_words(*texts)
        sides = transcripts[0], transcripts[1]
    else:
        sides = _messages_of(chosen, "chosen"), _messages_of(rejected, "rejected")
    for turns, field in zip(sides, ("chosen", "rejected"), strict=True):
        if turns[-1].role != "assistant":
            raise DataError(f"expected an assistant turn last, got {turns[-1].role}", field=field)
    if sides[0][:-1] != sides[1][:-1]:
        raise DataError("differs from 'chosen' before the last answer: no common prompt", field="rejected")
    if len(sides[0]) == 1:
        raise DataError("neither in a field of its own nor at the start of the answers", field="prompt")
    prompt = check_prompt(sides[0][:-1], "chosen")
    return (
        prompt,
        check_answer(sides[0][-1].content, "chosen"),
        check_answer(sides[1][-1].content, "rejected"),
    )


def _shared_words(chosen: str, rejected: str) -> tuple[Chat, str, str]:
    differ = (k for k, (x, y) in enumerate(zip(chosen, rejected, strict=False)) if x != y)
    shared = chosen[: next(differ, min(len(chosen), len(rejected)))]
    if shared[-1:].isspace():
        head = shared.rstrip()
    else:  # the last word of what is shared may go on differently: leave it to the answers
        *before, _ = shared.rsplit(None, 1) or [""]
        head = before[0] if before else ""
    if not head:
        raise DataError("neither in a field of its own nor at the start of the answers", field="prompt")
    prompt = check_prompt((Message("user", head),), "prompt")
    rest = chosen[len(head) :], rejected[len(head) :]
    return prompt, check_answer(rest[0], "chosen"), check_answer(rest[1], "rejected")


def transcript_of(text: str) -> Chat | None:
    r"""The turns of an HH transcript, or None if ``text`` is not one.

    A transcript is ``"\n\nHuman: ...\n\nAssistant: ..."``; turns are stripped of surrounding white space.
    The leading newlines may be missing if there is an assistant turn.

    Example:
        >>> [(turn.role, turn.content) for turn in transcript_of("\n\nHuman: Hi.\n\nAssistant: Hello!")]
        [('user', 'Hi.'), ('assistant', 'Hello!')]
    """
    marks = list(_HH_TURN.finditer(text))
    if not marks or marks[0].start() != 0 or marks[0][1] != "Human":
        return None
    if not text.startswith("\n\nHuman:") and all(mark[1] == "Human" for mark in marks):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return tuple(
        Message(_HH_ROLES[mark[1]], text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    )


def _messages_of(value: object, field: str) -> Chat:
    if isinstance(value, str) or not isinstance(value, Sequence):
        kind = type(value).__name__
        raise DataError(f"expected a string or a list of messages, got {kind}", field=field)
    if not value:
        raise DataError("the list of messages is empty", field=field)
    return tuple(_message_of(turn, f"{field}[{k}]") for k, turn in enumerate(value))


def _message_of(turn: object, field: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(
            f"expected a message with 'role' and 'content', got {type(turn).__name__}", field=field
        )
    role = turn.get("role")
    if role not in ROLES:
        raise DataError(f"expected one of {', '.join(ROLES)}, got {role!r}", field=f"{field}.role")
    return Message(role, text_of(turn.get("content"), f"{field}.content"))
