"""One row as it was written: its values, its place, and why it may have been rejected.

Knows no file format and no form of row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from gram.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was written, and its place: ``line`` counts from 1 (rows, where there are no lines)."""

    values: dict[str, Any]
    file: str
    line: int

    def error(self, reason: str, field: str | None = None) -> DataError:
        """An error that names the row's place."""
        return DataError(reason, file=self.file, line=self.line, field=field)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used: why, and the row itself (the raw line if it is not even an object)."""

    error: DataError
    raw: dict[str, Any] | str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a value that Python cannot hold, such as a text that is not UTF-8.

    It is an error only where somebody needs the value; most columns of a table nobody reads.
    """

    reason: str

    def __str__(self) -> str:
        return f"<cannot be read: {self.reason}>"


class Cell(str):
    """Text of a file in which everything is text (CSV): it may stand for a number or a truth value."""

    __slots__ = ()


class ListCell(list[Any]):
    """A list that stands as JSON in a cell; ``text`` is the cell, which may be meant as it stands."""

    def __init__(self, values: list[Any], text: str) -> None:
        super().__init__(values)
        self.text = text


class ObjectCell(dict[str, Any]):
    """As ``ListCell``, an object."""

    def __init__(self, values: dict[str, Any], text: str) -> None:
        super().__init__(values)
        self.text = text


RejectSink: TypeAlias = Callable[[Rejected], None]
