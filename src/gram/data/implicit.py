"""Prompts that stand in no column of their own: what two answers share at their start.

Knows values, and the names of columns that ask nothing; no forms of rows. Every error is a ``DataError`` that
names the column; ``rows`` adds the file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gram.data.asked import Fields
from gram.data.chats import (
    check_answer,
    check_prompt,
    messages_of,
    plain_text_of,
    transcript_of,
)
from gram.data.row import Unreadable
from gram.errors import DataError
from gram.types import Chat, Message

_HARMLESS = re.compile(  # names of columns that say something about a row, and not what was asked
    r"|unnamed.*|(?:.*[_\- .])?(?:ids?|idx|index|uuid|hash|sha\d*|md5|keys?|sources?|split|subset|group|"
    r"dataset|data_?set|models?|policy|policies|generators?|lang|language|locale|categor(?:y|ies)|domain|tags?|"
    r"labels?|type|kind|version|license|url|link|date|time|timestamp|tstamp|created|author|annotators?|workers?|"
    r"judge|name|scores?|ratings?|grades?|margin|votes?|status|order|feedback|rationale|explanation|reason|"
    r"critique|principle|comments?|difficulty|quality|safety|harm|method|strategy|strength|preference|winner)",
    re.IGNORECASE,
)
_OF_AN_ANSWER = re.compile(
    r"(?:chosen|rejected|model)[_\-](?!prompt|question|query|instruction|input).*", re.IGNORECASE
)


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
    names = "chosen", "rejected"
    if isinstance(chosen, str) and isinstance(rejected, str):
        texts = plain_text_of(chosen, "chosen"), plain_text_of(rejected, "rejected")
        transcripts = transcript_of(texts[0]), transcript_of(texts[1])
        if transcripts[0] is None or transcripts[1] is None:
            return _shared_words(
                *(_no_transcript(text, name) for text, name in zip(texts, names, strict=True))
            )
        sides = transcripts[0], transcripts[1]
    else:
        sides = messages_of(chosen, "chosen"), messages_of(rejected, "rejected")
    for turns, field in zip(sides, names, strict=True):
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


def _no_transcript(text: str, field: str) -> str:
    """``text``, if it is no HH transcript, not even one with something before its first turn."""
    if transcript_of(text) or ("\n\nHuman:" in text and "\n\nAssistant:" in text):
        reason = (
            "looks like a transcript that does not begin with the human's turn, or has no counterpart: "
            "give the prompt in a column of its own"
        )
        raise DataError(reason, field=field)
    return text


def check_nothing_else_asked(fields: Fields, known: Iterable[str]) -> None:
    """Refuse the implicit prompt of two strings where another column may hold the question.

    Args:
        known: columns that a form of row gives a meaning.

    Raises:
        DataError: naming the column.
    """
    for name, value in fields.items():
        if name not in known and _may_ask(name, value):
            reason = (
                "may be the question, and there is no 'prompt': "
                f"say --columns prompt={name}, or --columns ignore={name} if it is not"
            )
            raise DataError(reason, field=name)


def _may_ask(name: str, value: object) -> bool:
    """Whether there is text in the column, other than in parts whose names say that they are no question."""
    parts: list[tuple[str, object]] = [(name, value)]  # a list, since JSON may be nested without end
    while parts:
        name, value = parts.pop()
        if _HARMLESS.fullmatch(name) or _OF_AN_ANSWER.fullmatch(name):
            continue
        if isinstance(value, Mapping):
            parts += [(str(inner), part) for inner, part in value.items()]
        elif isinstance(value, list | tuple):
            parts += [(name, part) for part in value]
        elif isinstance(value, Unreadable) or (isinstance(value, str | bytes) and value.strip()):
            return True
    return False
