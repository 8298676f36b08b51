"""Rows of data as the doctor sees them: which columns they have, what is in them, and what each row means.

Reads all rows once and keeps a sample. Knows the readers of ``gram.data``; judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gram.data import Rejected, Row, parse, read_rows, to_scorable
from gram.data.columns import ColumnsLike, parse_columns
from gram.data.rows import COLUMNS, columns_of
from gram.data.sampling import Sample
from gram.doctor.examples import Item
from gram.errors import DataError
from gram.types import Text

SAMPLE = 256
"""Rows whose prompts are made: a uniform sample, always the same."""


@dataclass
class Column:
    """What one column holds.

    Attributes:
        read: in how many rows its form looks at it.
        filled: in how many rows it holds something: not null, and no empty text or list.
        first: its first value that is something.
        varies: whether there is another one.
    """

    read: int = 0
    filled: int = 0
    first: Any = None
    varies: bool = False

    def add(self, value: object, *, read: bool) -> None:
        """Count one row's value."""
        self.read += read
        if value is None or value == "" or value == []:
            return
        if not self.filled:
            self.first = value
        self.filled += 1
        self.varies = self.varies or value != self.first


@dataclass
class Table:
    """Rows of one source.

    Attributes:
        rows: how many there are.
        bad: how many cannot be used.
        first_bad: what is wrong with the first of these.
        columns: by name, after renaming.
        items: a sample of the others, as what ``gram score`` would ask about.
    """

    rows: int = 0
    bad: int = 0
    first_bad: str = ""
    columns: dict[str, Column] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    def refuse(self, error: DataError) -> None:
        """Count a row that cannot be used."""
        self.bad += 1
        self.first_bad = self.first_bad or str(error)


def read_table(source: str, split: str | None = None, columns: ColumnsLike | None = None) -> Table:
    """All rows of ``source``, counted, and a sample of what they mean.

    Raises:
        DataError, ConfigError: as ``gram.data.read_scorables``, but for bad rows.

    Example:
        >>> from pathlib import Path
        >>> lines = '{"prompt": "2 + 2?", "response": "4"}', '{"prompt": "3 + 3?"}'
        >>> _ = Path("rows.jsonl").write_text("\\n".join(lines))
        >>> table = read_table("rows.jsonl")
        >>> table.rows, table.bad, table.columns["prompt"].filled
        (2, 1, 2)
    """
    renaming = parse_columns(columns, COLUMNS)
    table = Table()
    sample: Sample[Item] = Sample(SAMPLE, seed=0)

    def unread(rejected: Rejected) -> None:
        table.rows += 1
        table.refuse(rejected.error)

    for written in read_rows(source, split, unread):
        table.rows += 1
        try:
            row = renaming.of(written) if renaming else written
            read = columns_of(row)
            _count(table, row, read)
            for item in _items(row):
                sample.add(item)
        except DataError as error:
            table.refuse(error)
    table.items = sample.records()
    return table


def _items(row: Row) -> list[Item]:
    """What a model can be asked about in the row: nothing in plain text, which is only trained on."""
    try:
        return [to_scorable(row).item]
    except DataError:
        if isinstance(parse(row), Text):
            return []
        raise


def _count(table: Table, row: Row, read: frozenset[str]) -> None:
    for name, value in row.values.items():
        table.columns.setdefault(name, Column()).add(value, read=name in read)
