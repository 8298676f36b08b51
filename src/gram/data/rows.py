"""One row -> one example: which of the known forms it is, told from its fields, and what it means.

Knows no files, splits or sampling. ``docs/data-formats.md`` lists every form with an example; ``FORMS`` is
the same list. ``parse`` reads any form; the ``to_...`` functions turn the result into
what one caller needs, and raise when a row has another form. All errors are ``DataError`` with file and line,
and with the field if one is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gram.data.asked import CONVERSATIONS, QUESTIONS, check_no_media, is_asked
from gram.data.forms import BESIDE, LABELED, UNLABELED, Example, Form, Rated
from gram.data.row import Cell, ListCell, ObjectCell, Row, Unreadable
from gram.data.shapes import SHAPES
from gram.errors import DataError
from gram.types import Answer, Contest, Pair, Preference, ResponsePair, Text

Language: TypeAlias = ResponsePair | Answer | Text


@dataclass(frozen=True, slots=True)
class Scorable:
    """Something a model can score, with the id of its row ("" if it has none)."""

    id: str
    item: Pair | Contest | Answer


FORMS = (*LABELED, *SHAPES, *UNLABELED)
"""All forms, in the order in which they are tried."""
COLUMNS = frozenset().union(BESIDE, *(form.columns | form.others for form in FORMS))
"""Every column that some form reads."""


class _Checked(Mapping[str, Any]):
    """Fields of which one that Python could not hold raises when it is read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, Unreadable):
            raise DataError(f"cannot be read: {value.reason}", field=name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values


def _given(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields that are not null."""
    given = {name: _meant(name, value) for name, value in values.items() if value is not None}
    is_whole = not any(isinstance(value, Unreadable) for value in given.values())
    return given if is_whole else _Checked(given)


_LISTS = {"responses", "completions", "history", "info", "summaries", "tools", *CONVERSATIONS} - {"context"}
"""Columns that hold lists or objects, and never text."""
_INSIDE = ("role", "from", "messages", "full_text")
"""What an object that is no text has one of: a message, OpenAI's input, WebGPT's question."""


def _meant(name: str, value: Any) -> Any:
    """``value``, or the text of a cell in which the JSON is no messages: an answer may be JSON itself."""
    if not isinstance(value, ListCell | ObjectCell) or name not in COLUMNS or name in _LISTS:
        return value
    parts = value if isinstance(value, ListCell) else [value]
    are_read = parts and all(isinstance(part, dict) and any(key in part for key in _INSIDE) for part in parts)
    return value if are_read else Cell(value.text)


def parse(row: Row) -> Example:
    """The example that ``row`` holds.

    Example:
        >>> parse(Row({"text": "Salt dissolves in water."}, "rows.jsonl", 1))
        Text(text='Salt dissolves in water.', id='')

    Raises:
        DataError: the fields are those of no known form, or a field cannot be used.
    """
    fields = _given(row.values)
    try:
        form = _form_of(fields)
        null = _null_question(row.values)
        if null and (form is None or form in LABELED):
            raise DataError("null, where the question should be", field=null)
        if form is None:
            raise DataError(
                f"no known form of row; {_field_names(row)} (see docs/data-formats.md; "
                "--columns NAME=COLUMN says what a column is)"
            )
        check_no_media(row.values)
        return form.read(fields)
    except DataError as error:
        raise row.error(error.reason, error.field) from None


def columns_of(row: Row) -> frozenset[str]:
    """The columns that ``parse`` looks at in rows of this form; none where no form fits.

    Example:
        >>> row = Row({"prompt": "2 + 2?", "response": "4", "price": 3}, "rows.jsonl", 1)
        >>> "prompt" in columns_of(row), "price" in columns_of(row)
        (True, False)
    """
    form = _form_of(_given(row.values))
    return form.columns | form.others | BESIDE if form else frozenset()


def _form_of(fields: Mapping[str, Any]) -> Form | None:
    names, asked = set(fields), is_asked(fields)
    return next((form for form in FORMS if form.fits(names, asked=asked)), None)


def _null_question(values: Mapping[str, Any]) -> str | None:
    """The column of the question if it is null, and no other column has a question."""
    names = [name for name in QUESTIONS if name in values]
    is_null = names and values[names[0]] is None and (names[0] == "prompt" or not is_asked(_given(values)))
    return names[0] if is_null else None


def to_preference(row: Row) -> Preference:
    """A labeled pair. Of ``chosen`` and ``rejected``, ``pair.a`` is the chosen one and ``p_a`` is 1, or the
    probability that the row's votes or ``p_chosen`` give.

    Example:
        >>> row = Row({"prompt": "2 + 2?", "a": "4", "b": "5", "p_a": 0.9}, "rows.jsonl", 1)
        >>> to_preference(row).p_a
        0.9
    """
    record = parse(row)
    if isinstance(record, Preference):
        return record
    if isinstance(record, Rated):
        return record.preference
    if isinstance(record, ResponsePair) and "a" in row.values:
        raise row.error("missing: this pair has no label", "p_a")
    raise _unfit(row, "a labeled pair")


def to_language(row: Row, pairing: Callable[[Contest], list[ResponsePair]]) -> list[Language]:
    """What stage 1 can learn from the row: unlabeled pairs, one answer, or plain text.

    ``pairing`` picks the pairs among several answers and their order. A labeled pair loses its label and
    is paired in the same way, so that the order does not show which answer was chosen. Responses of which
    no two differ give one ``Answer``.
    """
    record = _candidates(parse(row))
    if isinstance(record, Preference):
        record = Contest(record.pair.prompt, (record.pair.a, record.pair.b), record.id)
    if isinstance(record, Contest):
        return [*pairing(record)] or [Answer(record.prompt, record.responses[0], record.id)]
    return [record]


def to_contest(row: Row) -> Contest:
    """The candidates to rank: a row with ``responses``.

    Example:
        >>> to_contest(Row({"prompt": "2 + 2?", "responses": ["4", "5"]}, "rows.jsonl", 1)).responses
        ('4', '5')
    """
    record = _candidates(parse(row))
    if isinstance(record, Contest):
        return record
    raise _unfit(row, "candidates ('prompt' and 'responses')")


def to_scorable(row: Row) -> Scorable:
    """What ``gram score`` scores. A label is not looked at; ``a`` is the chosen answer if there is one."""
    match _candidates(parse(row)):
        case Preference(pair=pair, id=name):
            return Scorable(name, pair)
        case ResponsePair(prompt, first, second, name):
            return Scorable(name, Pair(prompt, first, second))
        case Contest() | Answer() as record:
            return Scorable(record.id, record)
        case _:
            raise _unfit(row, "a pair, candidates or an answer")


def _candidates(record: Example) -> Preference | ResponsePair | Contest | Answer | Text:
    return record.contest if isinstance(record, Rated) else record


def _unfit(row: Row, expectation: str) -> DataError:
    return row.error(f"expected {expectation}; {_field_names(row)}")


def _field_names(row: Row) -> str:
    names = (name if value is not None else f"{name} (null)" for name, value in sorted(row.values.items()))
    return f"the fields found are: {', '.join(names) or 'none'}"
