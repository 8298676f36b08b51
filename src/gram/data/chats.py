"""Prompts and answers in the ways data sets write them: strings, chat messages, HH transcripts.

Knows single values, not rows: ``rows`` knows which fields a row has and what they mean together. Every error
is a ``DataError`` that names the field; ``rows`` adds the file and the line.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence

from gram.data.row import ListCell, ObjectCell, Unreadable
from gram.errors import DataError
from gram.messages import as_text, content_text, message_text
from gram.types import Chat, Message

ROLES = ("system", "developer", "user", "assistant", "tool")
_HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
_STEERLM_TURN = re.compile(r"\n<extra_id_1>(User|Assistant)\n")  # how HelpSteer2 writes several turns
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool"}
_MARKUP = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>)?\s*"
    r"(<\|im_start\|>|<start_of_turn>|<\|turn>|<\|start_header_id\|>|<\|header_start\|>|\[INST\]|<<SYS>>"
    r"|<\|start\|>|<\|(?:system|user|assistant|prompter|human)\|>|<｜(?:User|Assistant)｜>|<extra_id_\d>"
    r"|\[(?:SYSTEM_PROMPT|AVAILABLE_TOOLS)\])"
)
_MESSAGES_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*['"](?:role|content|from|value)['"]\s*:""")
_SPEAKER_AS_TEXT = re.compile(r"""['"](?:role|from)['"]\s*:\s*['"]""")
_ENDS_OF_QUESTIONS = ("?", "？", "؟", ":", "：")


def text_of(value: object, field: str) -> str:
    """``value`` as a string that can be written as UTF-8."""
    if isinstance(value, Unreadable):
        raise DataError(f"cannot be read: {value.reason}", field=field)
    if isinstance(value, ListCell | ObjectCell):
        return value.text
    return as_text(value, field)  # type: ignore[arg-type]


def plain_text_of(value: object, field: str) -> str:
    """``value`` as the text of one turn: a string that is not a whole chat in the markup of some model."""
    text = text_of(value, field)
    way_out = (
        f'if it is meant as it stands, write it as a message: [{{"role": ..., "content": ...}}] in {field}'
    )
    if markup := _MARKUP.match(text):
        raise DataError(
            f"begins with {markup[1]!r}, as a chat to which a template has already been applied: "
            f"give its turns as messages with role and content; {way_out}",
            field=field,
        )
    if _MESSAGES_AS_TEXT.match(text) or _is_messages(text):
        raise DataError(
            f"holds messages written as text: give the messages themselves; {way_out}", field=field
        )
    return text


def _is_messages(text: str) -> bool:
    """Whether ``text`` as a whole is a message or a list of them, in JSON or as Python prints it."""
    if not text.lstrip().startswith(("[", "{")) or not _SPEAKER_AS_TEXT.search(text):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # as numpy prints objects in arrays, and ``datasets`` in a CSV file
        python = re.sub(r"\}\s+\{", "}, {", text.replace("array(", "(").replace(", dtype=object)", ")"))
        try:
            with warnings.catch_warnings(action="ignore"):  # a backslash may mean nothing to Python
                value = ast.literal_eval(python.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return False
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(isinstance(turn, dict) and _speaks(turn) for turn in turns)


def _speaks(turn: Mapping[str, object]) -> bool:
    """Whether an object has the speaker and the text of a message."""
    speaker = turn.get("from")
    is_of_sharegpt = isinstance(speaker, str) and _SHAREGPT_ROLES.get(speaker, speaker) in ROLES
    return (turn.get("role") in ROLES and "content" in turn) or (is_of_sharegpt and "value" in turn)


def prompt_of(value: object, field: str = "prompt") -> Chat:
    """A prompt given as a string, an HH transcript or messages; it ends with a user (or tool) turn.

    Example:
        >>> prompt_of("Why is the sky blue?")
        (Message(role='user', content='Why is the sky blue?'),)
    """
    if isinstance(value, str):
        text = plain_text_of(value, field)
        turns = transcript_of(text) or _steerlm_turns(text) or (Message("user", text),)
        if turns[-1] == Message("assistant", ""):  # a transcript up to where the answer begins
            turns = turns[:-1]
    else:
        turns = messages_of(value, field)
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

    A ``Message`` has been read before, and counts as it stands.

    Example:
        >>> answer_of([{"role": "assistant", "content": "4"}], "chosen", prompt_of("2 + 2?"))
        '4'
    """
    if isinstance(value, Message):
        answer = value.content
    elif isinstance(value, str):
        answer = text_of(value, field)
        is_chat = _MARKUP.match(answer) and prompt[-1].content.strip() in answer  # else an odd answer
        if is_chat or _is_messages(answer):
            plain_text_of(answer, field)
        turns = transcript_of(answer)
        if turns is not None and turns[:-1] == prompt and turns[-1].role == "assistant":
            answer = turns[-1].content
    else:
        turns = messages_of([value] if isinstance(value, Mapping) else value, field)
        if turns[: len(prompt)] == prompt:
            turns = turns[len(prompt) :]
        if len(turns) != 1 or turns[0].role != "assistant":
            roles = ", ".join(turn.role for turn in turns) or "nothing"
            raise DataError(f"expected one assistant message after the prompt, got {roles}", field=field)
        answer = turns[0].content
    return check_answer(answer, field)


def answers_of(values: Mapping[str, object], prompt: Chat) -> list[str]:
    """The answers of one row, by field. Strings lose the prompt if all of them repeat it at their start.

    A prompt may begin an answer by chance ("Hello", "To chop parsley"). It is taken off only if it ends in a
    question mark or a colon, or has three words and either ends with another mark or stands on lines of its
    own in all answers; and never if nothing would be left of one.

    Example:
        >>> prompt = prompt_of("Is it 4?")
        >>> answers_of({"chosen": "Is it 4? Yes.", "rejected": "Is it 4? No."}, prompt)
        ['Yes.', 'No.']
        >>> answers_of({"chosen": "Is it 4? Yes.", "rejected": "No."}, prompt)
        ['Is it 4? Yes.', 'No.']
    """
    answers = [answer_of(value, field, prompt) for field, value in values.items()]
    head = prompt[0].content.strip()
    if len(prompt) > 1 or not all(isinstance(value, str | Message) for value in values.values()):
        return answers
    if not all(answer.lstrip().startswith(head) for answer in answers):
        return answers
    rests = [answer.lstrip()[len(head) :] for answer in answers]
    is_set_off = not head[-1].isalnum() or all("\n" in _gap(rest) for rest in rests)
    is_repeated = head.endswith(_ENDS_OF_QUESTIONS) or (is_set_off and len(head.split()) >= 3)
    if not is_repeated or not all(rest.strip() for rest in rests):
        return answers
    # an indented line keeps its indent
    return [_gap(rest).rpartition("\n")[2] * ("\n" in _gap(rest)) + rest.lstrip() for rest in rests]


def _gap(text: str) -> str:
    """The white space at the start of ``text``."""
    return text[: len(text) - len(text.lstrip())]


def check_answer(answer: str, field: str) -> str:
    """``answer``, if there is anything in it but white space."""
    if not answer.strip():
        raise DataError("the answer is empty", field=field)
    return answer


def conversation_of(value: object, field: str) -> tuple[Chat, str]:
    """A whole conversation as the prompt and the last turn, which must be the assistant's."""
    turns = messages_of(value, field)
    if turns[-1].role != "assistant":
        raise DataError(f"expected an assistant message last, got {turns[-1].role}", field=field)
    return check_prompt(turns[:-1], field), check_answer(turns[-1].content, field)


def transcript_of(text: str) -> Chat | None:
    r"""The turns of an HH transcript, or None if ``text`` is not one.

    A transcript is ``"\n\nHuman: ...\n\nAssistant: ..."``; turns are stripped of surrounding white space.
    The leading newlines may be missing if there is an assistant turn.

    Example:
        >>> [(turn.role, turn.content) for turn in transcript_of("\n\nHuman: Hi.\n\nAssistant: Hello!")]
        [('user', 'Hi.'), ('assistant', 'Hello!')]
    """
    if "Human:" not in text:  # by far the most texts, and faster than the search
        return None
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


def messages_of(value: object, field: str) -> Chat:
    """A list of messages, each with ``role`` and ``content``, or with ``from`` and ``value`` (ShareGPT)."""
    if isinstance(value, str | bytes | Unreadable) or not isinstance(value, Sequence):
        if isinstance(value, str | Unreadable):
            plain_text_of(value, field)
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
    names = ("from", "value") if "from" in turn and "role" not in turn else ("role", "content")
    role = turn.get(names[0])
    if names[0] == "from" and isinstance(role, str):
        role = _SHAREGPT_ROLES.get(role, role)
    if role not in ROLES:
        raise DataError(f"expected one of {', '.join(ROLES)}, got {role!r}", field=f"{field}.{names[0]}")
    for name, value in turn.items():
        if isinstance(value, Unreadable):
            text_of(value, f"{field}.{name}")
    content = turn.get(names[1])
    if isinstance(content, list) and not content:
        raise DataError("the list of parts is empty", field=f"{field}.{names[1]}")
    if names[0] == "from":
        return Message(role, content_text(content, f"{field}.{names[1]}"))
    return Message(role, message_text(turn, field))


def _steerlm_turns(text: str) -> Chat | None:
    """The turns of a prompt of HelpSteer2, or None if it has only one."""
    first, *rest = _STEERLM_TURN.split(text)
    if rest[:1] != ["Assistant"]:  # the first turn is the user's
        return None
    turns = zip(rest[::2], rest[1::2], strict=True)
    return (Message("user", first), *(Message(name.lower(), content) for name, content in turns))
