"""What a benchmark is: where its rows are, what a row asks, and how its records are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from gram import statistics
from gram.data import Row
from gram.data.chats import prompt_of, text_of
from gram.data.forms import name_of
from gram.data.row import Unreadable
from gram.errors import DataError
from gram.evaluation.items import Item
from gram.evaluation.records import Record
from gram.statistics import Estimate
from gram.types import Chat, FloatArray


@dataclass(frozen=True, slots=True)
class Line:
    """One number of a benchmark's table; ``depth`` 0 for its own headings, 1 for the parts below."""

    name: str
    value: Estimate
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """A benchmark's result by its own rule.

    Attributes:
        score: the number that leaderboards show.
        metric: what it is, in a few words.
        lines: the table behind it, from top to bottom.
        notes: what a reader must know, such as parts that are missing.
    """

    score: Estimate
    metric: str
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark.

    Attributes:
        name: as given to ``--bench``.
        title: for reports.
        rule: its scoring rule in a sentence or two.
        hub: sources on the Hugging Face Hub (``name::split``), each with the subset of its rows (empty:
            they name their own). Without any, the benchmark must be given as a file.
        item: a row in the published form, or in that of preference files, as an item.
        scores: from its records; a pure function.
    """

    name: str
    title: str
    rule: str
    hub: tuple[tuple[str, str], ...]
    item: Callable[[Row], Item]
    scores: Callable[[Sequence[Record]], Scores]


def field(row: Row, name: str) -> Any:
    """The value of a field that must be there.

    Raises:
        DataError: it is missing or null; names file, line and field.
    """
    value = row.values.get(name)
    if value is None:
        raise fault(row, "missing", name)
    if isinstance(value, Unreadable):
        raise fault(row, f"cannot be read: {value.reason}", name)
    return value


def text(row: Row, name: str) -> str:
    """A field that must be there and hold a string."""
    return text_of(field(row, name), name)


def label(row: Row, name: str, default: str | None = None) -> str:
    """A name or an id: a string or a whole number; without ``default`` it must be there."""
    if default is not None and row.values.get(name) is None:
        return default
    return name_of({name: field(row, name)}, name)


def prompt(row: Row, name: str = "prompt") -> Chat:
    """A field that must be there and hold a prompt."""
    return prompt_of(field(row, name), name)


def placed(convert: Callable[[Row], Item]) -> Callable[[Row], Item]:
    """``convert``, whose errors name the row's place."""

    @wraps(convert)
    def item(row: Row) -> Item:
        try:
            return convert(row)
        except DataError as error:
            raise error if error.file is not None else row.error(error.reason, error.field) from None

    return item


def texts(row: Row, name: str, count: int | None = None) -> tuple[str, ...]:
    """A field that holds a list of answers, ``count`` of them if that is given."""
    values = field(row, name)
    if not isinstance(values, list | tuple) or not values:
        raise fault(row, f"expected a list of answers, got {type(values).__name__}", name)
    if count is not None and len(values) != count:
        raise fault(row, f"expected {count} answers, got {len(values)}", name)
    return tuple(text_of(value, f"{name}[{place}]") for place, value in enumerate(values))


def fault(row: Row, reason: str, name: str) -> DataError:
    """An error that names the row's place and the field."""
    return row.error(reason, name)


def plain(records: Sequence[Record]) -> list[Record]:
    """The records of the items as they came, without those whose answers were changed."""
    return [record for record in records if not record.variant]


def without(missing: Sequence[str]) -> tuple[str, ...]:
    """The note that names the parts of which there are no rows; no note if there are none such.

    Example:
        >>> without(["math", "code"]), without([])
        (('without rows of: math, code',), ())
    """
    return (f"without rows of: {', '.join(missing)}",) if missing else ()


def macro(estimates: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of the parts that have any rows."""
    return statistics.weighted([(1.0, estimate) for estimate in estimates])


def strict(record: Record) -> float:
    """1 if the correct answer wins, 0 if it loses or ties."""
    return float(record.choice == 1.0)


def by_item(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each item, by source and id, in their order."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(f"{record.source}\0{record.id}", []).append(record)
    return groups


def strengths(records: Sequence[Record]) -> FloatArray:
    """(n,) a number for each answer of one item, if every two answers were compared: higher is better.

    For a model that scores, these are the scores. For a model that compares, the mean of an answer's log-odds
    against all answers (against itself: 0), which is the least-squares fit of log-odds by differences; for
    log-odds that are differences of scores it gives the scores back, up to one constant for all.
    """
    n = 1 + max(max(record.pair) for record in records)
    if len(records) != n * (n - 1) // 2:
        raise DataError(f"item {records[0].id}: {len(records)} comparisons of {n} answers: not all have met")
    if records[0].scores is not None:
        values = np.empty(n)
        for record in records:
            if record.scores is not None:
                values[list(record.pair)] = record.scores
        return values
    table = np.zeros((n, n))
    for record in records:
        i, j = record.pair
        table[i, j], table[j, i] = record.margin, -record.margin
    return table.mean(axis=1)
