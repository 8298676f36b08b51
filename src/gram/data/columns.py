"""What a user says about columns: ``prompt=question`` reads the column ``question`` as ``prompt``.

Knows names of columns, and nothing of what they mean but where OpenAI's rows have their tools.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gram.data.row import Row
from gram.errors import ConfigError

ColumnsLike: TypeAlias = str | Mapping[str, str | Sequence[str]]
IGNORE = "ignore"
_INSIDE = {"tools": "input"}
"""A column that may stand inside of another one: OpenAI's rows have their tools beside the messages."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns stand for which, and which are left out."""

    names: Mapping[str, str]
    ignored: frozenset[str]

    def of(self, row: Row) -> Row:
        """``row`` with its columns under the names that the forms of rows know.

        Raises:
            DataError: the row lacks a column that is to be read.
        """
        if missing := next((name for name in self.names.values() if name not in row.values), None):
            there = ", ".join(sorted(row.values)) or "none"
            raise row.error(f"no such column, which --columns names; there are: {there}", missing)
        taken = {*self.names.values(), *self.names, *self.ignored}
        rest = {name: value for name, value in row.values.items() if name not in taken}
        values = rest | {new: row.values[old] for new, old in self.names.items()}
        for name, outer in _INSIDE.items():
            if name in self.ignored and isinstance(inside := values.get(outer), Mapping):
                values[outer] = {part: value for part, value in inside.items() if part != name}
        return Row(values, row.file, row.line)


def parse_columns(columns: ColumnsLike | None, known: Collection[str]) -> Columns | None:
    """``NAME=COLUMN,...``, or a mapping of names to columns; ``ignore=COLUMN`` leaves a column out.

    Several columns to leave out are a list in a mapping: ``{"ignore": ["title", "score"]}``. In text a pair
    whose column holds a comma stands in quotes, as in CSV.

    Args:
        known: the names that the forms of rows know.

    Raises:
        ConfigError: it is not of that form, or a name is unknown or given twice.

    Example:
        >>> parse_columns("prompt=question,ignore=title", {"prompt"}).of(
        ...     Row({"question": "Why?", "title": "A question", "response": "So."}, "rows.jsonl", 1)
        ... ).values
        {'response': 'So.', 'prompt': 'Why?'}
    """
    if not columns:
        return None
    names: dict[str, str] = {}
    ignored: set[str] = set()
    for name, column in _pairs(columns):
        if name == IGNORE:
            ignored.add(column)
        elif name not in known:
            raise ConfigError(
                f"--columns {name}={column}: {name!r} is read by no form of row; {_known(known)}"
            )
        elif name in names:
            raise ConfigError(f"--columns: {name!r} is given twice")
        else:
            names[name] = column
    return Columns(names, frozenset(ignored))


def _pairs(columns: ColumnsLike) -> list[tuple[str, str]]:
    if not isinstance(columns, str):
        several = {name: [given] if isinstance(given, str) else given for name, given in columns.items()}
        return [(name, column) for name, given in several.items() for column in given]
    try:
        parts = next(csv.reader([columns], skipinitialspace=True))
    except csv.Error as error:
        raise ConfigError(f"--columns {columns}: {error}") from None
    pairs = []
    for part in parts:
        name, mark, column = part.partition("=")
        if not mark or not name.strip() or not column.strip():
            raise ConfigError(f"--columns {columns}: expected NAME=COLUMN,NAME=COLUMN; got {part!r}")
        pairs.append((name.strip(), column.strip()))
    return pairs


def _known(known: Collection[str]) -> str:
    return f"there are: {IGNORE}, {', '.join(sorted(known))}"
