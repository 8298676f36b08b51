"""The forms of rows that are our own or that trainers share: TRL's, soft labels, candidates, answers, texts.

Knows the fields of one row and what they mean together; ``shapes`` knows the forms of published data sets,
and ``rows`` tries both in the order of docs/data-formats.md. Every error is a ``DataError`` that names the
field; ``rows`` adds the file and the line.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from gram.data.asked import (
    MEDIA,
    PARTS,
    QUESTIONS,
    SYSTEMS,
    Fields,
    conversation_before,
    is_asked,
    prompt_from,
    whole_prompt,
    with_system,
)
from gram.data.chats import answers_of, conversation_of, prompt_of, text_of, transcript_of
from gram.data.implicit import check_nothing_else_asked, implicit_prompt
from gram.data.labels import bradley_terry, number, probability, vote_share
from gram.data.published import read_published
from gram.data.row import Cell
from gram.errors import DataError
from gram.types import Answer, Chat, Contest, Pair, Preference, ResponsePair, Text

Labeled: TypeAlias = Preference | ResponsePair


@dataclass(frozen=True, slots=True)
class Rated:
    """Candidates with a score each, on one scale: a labeled pair where one is wanted, else candidates."""

    preference: Preference
    contest: Contest


Example: TypeAlias = Preference | ResponsePair | Contest | Answer | Text | Rated


@dataclass(frozen=True, slots=True)
class Form:
    """One form of row.

    Attributes:
        columns: fields that a row of this form has; none of them is null.
        read: from the fields that are not null to the example.
        title: what it is, for people; empty for forms that are nobody's in particular.
        asked: whether it needs a question besides, in a column of any name that ``asked`` knows.
        others: more fields that it reads.
    """

    columns: frozenset[str]
    read: Callable[[Fields], Example]
    title: str = ""
    asked: bool = False
    others: frozenset[str] = frozenset()

    def fits(self, names: Set[str], *, asked: bool) -> bool:
        """Whether a row with fields of these ``names`` has this form; ``asked``: it has a question."""
        return self.columns <= names and (asked or not self.asked)


def form(
    columns: str, read: Callable[[Fields], Example], title: str = "", *, asked: bool = False, others: str = ""
) -> Form:
    """A ``Form`` whose columns are given as words."""
    return Form(frozenset(columns.split()), read, title, asked, frozenset(others.split()))


# Reading


def _preference(fields: Fields) -> Preference:
    values = {name: fields[name] for name in ("chosen", "rejected")}
    if "prompt" not in fields and all(map(_is_conversation, values.values())):
        prompt, good, bad = implicit_prompt(*values.values())
    elif prompt := prompt_from(fields) if is_asked(fields) else conversation_before(fields):
        _check_transcripts(prompt, *values.values())
        good, bad = answers_of(values, prompt)
    else:
        if all(isinstance(value, str) for value in values.values()):
            check_nothing_else_asked(fields, _READ_BESIDE)
        prompt, good, bad = implicit_prompt(*values.values())
    if "p_chosen" in fields:
        p_a = probability(fields, "p_chosen")
    elif {"votes_chosen", "votes_rejected"} <= fields.keys():
        p_a = vote_share(fields, "votes_chosen", "votes_rejected")
    else:
        p_a = 1.0
    return labeled(fields, prompt, good, differs(bad, good, "rejected"), p_a)


_READ_BESIDE = {"chosen", "rejected", "id", "subset", "group", "source", "split", *SYSTEMS, *MEDIA}


def _is_conversation(value: object) -> bool:
    if isinstance(value, str):
        return transcript_of(value) is not None
    return isinstance(value, list) and len(value) > 1


def _check_transcripts(prompt: Chat, chosen: object, rejected: object) -> None:
    """Refuse two transcripts of a longer conversation beside the last question alone."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        one, other = transcript_of(chosen), transcript_of(rejected)
        if one and other and one[:-1] == other[:-1] != prompt and one[:-1][-1:] == prompt[-1:]:
            reason = "is not all that stands before the last answers: leave it out, or give the whole"
            raise DataError(reason, field="prompt")


def _soft_preference(label: Callable[[Fields], float]) -> Callable[[Fields], Preference]:
    def read(fields: Fields) -> Preference:
        p_a = label(fields)
        prompt = prompt_from(fields)
        a, b = answers_of({name: fields[name] for name in "ab"}, prompt)
        return labeled(fields, prompt, a, differs(b, a, "b"), p_a)

    return read


def _pair(fields: Fields) -> ResponsePair:
    prompt = prompt_from(fields)
    a, b = answers_of({name: fields[name] for name in "ab"}, prompt)
    return ResponsePair(with_system(fields, prompt), a, differs(b, a, "b"), name_of(fields, "id"))


def _contest(fields: Fields) -> Contest:
    prompt, responses = prompt_from(fields), fields["responses"]
    if not isinstance(responses, list) or not responses:
        raise DataError("expected a list of one or more responses", field="responses")
    answers = answers_of({f"responses[{k}]": value for k, value in enumerate(responses)}, prompt)
    return Contest(with_system(fields, prompt), tuple(answers), name_of(fields, "id"))


def _answer(field: str) -> Callable[[Fields], Answer]:
    def read(fields: Fields) -> Answer:
        prompt = prompt_from(fields)
        [answer] = answers_of({field: fields[field]}, prompt)
        return Answer(with_system(fields, prompt), answer, name_of(fields, "id"))

    return read


def _conversation(field: str) -> Callable[[Fields], Answer]:
    def read(fields: Fields) -> Answer:
        turns, answer = conversation_of(fields[field], field)
        prompt = whole_prompt(fields, turns, field)
        return Answer(with_system(fields, prompt), answer, name_of(fields, "id"))

    return read


def _text(fields: Fields) -> Text:
    text = text_of(fields["text"], "text")
    if not text.strip():
        raise DataError("the text is empty", field="text")
    return Text(text, name_of(fields, "id"))


def _published(fields: Fields) -> Preference | ResponsePair:
    parts = (text_of(fields.get(name, ""), name) for name in ("instruction", "input", "output"))
    question, a, b, p_a = read_published(*parts)
    source = "output" if p_a is None else "instruction"
    prompt = prompt_of(question, "instruction")
    for answer, name in ((a, "A"), (b, "B")):
        if not answer:
            raise DataError(f"answer {name} is empty", field=source)
    differs(b, a, source)
    if p_a is not None:
        return labeled(fields, prompt, a, b, p_a)
    return ResponsePair(with_system(fields, prompt), a, b, name_of(fields, "id"))


# The table: the first form that fits decides; those of published data sets come between these two


LABELED: tuple[Form, ...] = (
    form("chosen rejected", _preference, others="p_chosen votes_chosen votes_rejected votes_tie"),
    form("a b p_a", _soft_preference(partial(probability, field="p_a")), asked=True),
    form(
        "a b votes_a votes_b",
        _soft_preference(partial(vote_share, one="votes_a", other="votes_b")),
        asked=True,
        others="votes_tie",
    ),
    form(
        "a b score_a score_b",
        _soft_preference(partial(bradley_terry, one="score_a", other="score_b")),
        asked=True,
    ),
    form("a b", _pair, asked=True),
)
UNLABELED: tuple[Form, ...] = (
    form("responses", _contest, asked=True),
    form("response", _answer("response"), asked=True),
    form("completion", _answer("completion"), asked=True),
    form("instruction output", _published),
    form("messages", _conversation("messages")),
    form("conversations", _conversation("conversations")),
    form("text", _text),
)
BESIDE = frozenset(
    {"id", "question_id", "subset", "group", "source", "margin", "split", "history"}
    | {*SYSTEMS, *QUESTIONS, *PARTS}
)
"""Fields that are read beside those of a form."""


# Parts that forms share


def labeled(fields: Fields, prompt: Chat, a: str, b: str, p_a: float, margin: float = 0.0) -> Preference:
    """A labeled pair with the system prompt, names and margin of its row."""
    group = name_of(fields, "group")
    if group and isinstance(fields.get("source"), str):  # ids of groups are only unique within their source
        group = f"{text_of(fields['source'], 'source')}/{group}"
    return Preference(
        Pair(with_system(fields, prompt), a, b),
        p_a,
        id=name_of(fields, "id"),
        subset=name_of(fields, "subset"),
        group=group,
        margin=number(fields, "margin") if "margin" in fields else margin,
    )


def differs(answer: str, other: str, field: str) -> str:
    """``answer``, if it is another one than ``other``."""
    if answer.strip() == other.strip():
        raise DataError("the two answers are equal", field=field)
    return answer


def name_of(fields: Fields, field: str) -> str:
    """The text of a name or id: a string, or a whole number, which may be written as 7.0."""
    value: Any = fields.get(field, "")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return text_of(value, field)


def truth(fields: Fields, field: str) -> bool:
    """A truth value: true or false, or 1 or 0."""
    value = fields[field]
    if isinstance(value, Cell):
        value = {"true": 1, "false": 0, "1": 1, "0": 0}.get(value.strip().lower(), value)
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise DataError(f"expected true or false, got {value!r}", field=field)
