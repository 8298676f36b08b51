"""What a row asks: which of its columns hold the prompt, and how they are put together.

Knows the column names that data sets use and single values, no forms of rows; ``implicit`` has prompts that
stand in no column. Every error is a ``DataError`` that names the column; ``rows`` adds the file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from gram.data.chats import check_prompt, messages_of, prompt_of, text_of
from gram.data.row import Unreadable
from gram.errors import DataError
from gram.types import Chat, Message

Fields: TypeAlias = Mapping[str, Any]

QUESTIONS = ("prompt", "question", "query", "instruction", "problem", "user_prompt")
"""Columns that hold the question, in their order: ``prompt`` wins, the others must not contradict."""
CONVERSATIONS = ("messages", "conversations", "conversation", "context")
"""Columns that hold the turns before ``chosen`` and ``rejected`` as a list of messages."""
SYSTEMS = ("system", "system_prompt")
PARTS = ("input", "context")
"""Columns that may belong to a question, beside ``history``: the turns before it."""
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
"""Columns that hold what no model here is shown."""

_IN_BRACKETS = re.compile(r"[\[{]\s*[^\s\]}]")


def is_asked(fields: Fields) -> bool:
    """Whether the row has a question in a column of its own."""
    return any(name in fields for name in QUESTIONS) or isinstance(fields.get("input"), str)


def prompt_from(fields: Fields) -> Chat:
    """The prompt that the row's columns give together, without its system prompt.

    ``input`` goes on where a question, query or instruction ends; ``history`` is a list of earlier questions
    with their answers.

    Raises:
        DataError: two columns differ, or one may belong to the question and nobody can know.

    Example:
        >>> prompt_from({"instruction": "Translate.", "input": "Guten Tag."})[0].content
        'Translate.\\n\\nGuten Tag.'
    """
    names = [name for name in QUESTIONS if name in fields]
    name = names[0] if names else "input"
    value = fields[name]
    texts = [value] if isinstance(value, str) else [turn.content for turn in prompt_of(value, name)]
    for other in names[1:]:
        if name != "prompt" and fields[other] != value and not _hold(texts, fields[other]):
            reason = f"differs from {name!r}: say which is the question with --columns prompt=NAME"
            raise DataError(reason, field=other)
    extra = fields.get("input")
    if isinstance(value, str) and isinstance(extra, str) and name not in ("prompt", "input"):
        value = value if _hold(texts, extra) else f"{value}\n\n{text_of(extra, 'input')}".lstrip("\n")
    return whole_prompt(fields, prompt_of(value, name), name, value)


def whole_prompt(fields: Fields, turns: Chat, name: str, value: object = None) -> Chat:
    """``turns`` after those of ``history``, where nothing else in the row may belong to what is asked.

    Args:
        name: the column out of which ``turns`` were read.
        value: what stands there, if it is text.

    Raises:
        DataError: there is ``input`` or ``context`` besides, or a conversation that only ends with ``turns``.
    """
    texts = [turn.content for turn in turns] + ([value] if isinstance(value, str) else [])
    for part in PARTS:
        if part == name or part not in fields or _hold(texts, fields[part]) or _is_run(fields[part], turns):
            continue
        is_column = isinstance(value, str) and name in (*QUESTIONS, "input")
        way = f"join them with --columns {_joined(name, part)}" if is_column else "put it there"
        out = f"leave it out with --columns ignore={part}"
        raise DataError(f"may belong to the question in {name!r}: {way}, or {out}", field=part)
    _check_beginning(fields, turns, name)
    earlier = tuple(_earlier(fields)) if name != "history" else ()
    first = next(k for k, turn in enumerate(turns) if turn.role not in ("system", "developer"))
    if turns[first:][: len(earlier)] == earlier:
        return turns
    return (*turns[:first], *earlier, *turns[first:])


def _joined(name: str, part: str) -> str:
    """What ``--columns`` is to say for ``part`` to go on where the question in ``name`` ends."""
    if part == "input":
        return f"instruction={name}"
    if name == "input":
        return f"instruction={part}"
    return f"instruction={name},input={part}" if name == "prompt" else f"input={part}"


def _check_beginning(fields: Fields, turns: Chat, name: str) -> None:
    """Refuse a question before which another column has turns, or an ``input`` that may go with them."""
    for other in CONVERSATIONS:
        if other == name or not (conversation := _turns(fields.get(other))):
            continue
        if conversation[-1].role == "assistant":
            conversation = conversation[:-1]
        if any(system in fields for system in SYSTEMS):
            conversation = tuple(turn for turn in conversation if turn.role != "system")
        is_longer = len(conversation) > len(turns) and conversation[-len(turns) :] == turns
        if is_longer or (name == "input" and not any(turn in conversation for turn in turns)):
            reason = (
                f"has other turns than the question in {name!r}: leave one of them out, with "
                f"--columns ignore={name} or --columns ignore={other}"
            )
            raise DataError(reason, field=other)


def conversation_before(fields: Fields) -> Chat | None:
    """The turns in a list of messages beside the two answers, or None if there is no such list."""
    for name in CONVERSATIONS:
        if isinstance(fields.get(name), list):
            return whole_prompt(fields, check_prompt(messages_of(fields[name], name), name), name)
    return None


def with_system(fields: Fields, prompt: Chat) -> Chat:
    """``prompt`` after the system prompt of the row, if it has one.

    Raises:
        DataError: the row describes tools, which its prompt does not show.
    """
    check_no_tools(fields.get("tools"), "tools")
    texts = {name: text_of(fields[name], name) for name in SYSTEMS if name in fields}
    texts = {name: text for name, text in texts.items() if text.strip()}
    if not texts:
        return prompt
    name, system = next(iter(texts.items()))
    if len(set(texts.values())) > 1:
        raise DataError("differs from 'system'", field="system_prompt")
    if prompt[0].role == "system":
        if prompt[0].content == system:
            return prompt
        raise DataError("the prompt has a system turn already", field=name)
    return (Message("system", system), *prompt)


def check_no_tools(value: object, field: str) -> None:
    """Refuse descriptions of tools, in lists and objects or in the text of some: no model is shown them."""
    if isinstance(value, str):
        has_tools = _IN_BRACKETS.search(value) is not None
    else:
        has_tools = isinstance(value, list | Mapping) and _says_something(value)
    if has_tools:
        reason = "describes tools, which are not shown to a model; leave them out with --columns ignore=tools"
        raise DataError(reason, field=field)


def check_no_media(fields: Fields) -> None:
    """Refuse a row with pictures, films or sounds in columns of their own: an answer may be about them.

    Raises:
        DataError: naming the column.
    """
    for name in MEDIA:
        value = fields.get(name)
        if isinstance(value, str):
            value = value.strip(" []{}")  # a list may stand there as text
        if isinstance(value, str | bytes | list | Mapping | Unreadable) and _says_something(value):
            reason = f"is shown to no model, as only text is read; leave it out with --columns ignore={name}"
            raise DataError(reason, field=name)


def _says_something(value: object) -> bool:
    """Whether there is anything in lists and objects but nulls, as tables write them where nothing is."""
    if isinstance(value, Mapping):
        return any(_says_something(part) for part in value.values())
    if isinstance(value, list):
        return any(_says_something(part) for part in value)
    return value not in (None, "", b"")


def _earlier(fields: Fields) -> Iterable[Message]:
    """The turns of ``history``: a list of questions, each with its answer."""
    value = fields.get("history")
    if value in (None, "", []):
        return
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        reason = "expected a list of [question, answer]; leave it out with --columns ignore=history"
        raise DataError(reason, field="history")
    for place, (question, answer) in enumerate(value):
        yield Message("user", text_of(question, f"history[{place}][0]"))
        yield Message("assistant", text_of(answer, f"history[{place}][1]"))


def _hold(texts: Iterable[str], part: object) -> bool:
    """Whether ``part`` says nothing that is not in one of ``texts``, or nothing at all."""
    if not isinstance(part, str):
        return part in ([], {})
    return not part.strip() or any(_is_set_off(part.strip(), text) for text in texts)


def _is_set_off(part: str, text: str) -> bool:
    """Whether ``part`` stands in ``text`` as lines or sentences of its own, or as the words that end it.

    A letter, a number or a word is in most texts by chance: "a" in "Is the letter below a vowel?".
    """
    for found in re.finditer(rf"(?<!\S)(?={re.escape(part)}(?!\S))", text):
        before, after = text[: found.start()], text[found.start() + len(part) :]
        starts = _breaks(before.rstrip()[-1:], before[len(before.rstrip()) :])
        is_end = not after.strip()
        ends = is_end or _breaks(part[-1], after[: len(after) - len(after.lstrip())])
        if (starts and ends) or (is_end and len(part.split()) > 1):
            return True
    return False


def _breaks(last: str, gap: str) -> bool:
    """Whether a line or a sentence ends with the character ``last`` and the white space ``gap`` after it."""
    return not last or "\n" in gap or (bool(gap) and not last.isalnum())


def _turns(value: object) -> Chat:
    """The messages of a list, or nothing if it is no list of messages."""
    try:
        return messages_of(value, "") if isinstance(value, list) else ()
    except DataError:
        return ()


def _is_run(value: object, turns: Chat) -> bool:
    """Whether these are messages that stand among ``turns``, one after the other."""
    part = _turns(value)
    return bool(part) and any(turns[k : k + len(part)] == part for k in range(len(turns)))
