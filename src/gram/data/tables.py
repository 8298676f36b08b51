"""Arrow tables -> rows of plain Python values, cell by cell where a column holds what Python cannot.

Knows Parquet files and ``datasets``' tables; knows no splits and no meaning of a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from gram.data.row import Rejected, Row, Unreadable
from gram.errors import DataError
from gram.extras import need

_BATCH = 1024


def read_parquet(path: Path) -> Iterator[Row | Rejected]:
    """The rows of a Parquet file; never more than one batch of them in memory."""
    need("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            done = 0
            try:
                for row in _rows(table.iter_batches(batch_size=_BATCH), str(path)):
                    yield row
                    done = row.line
            except (pa.ArrowException, OSError) as error:  # of one column, maybe, that nobody reads
                yield from _from_good_columns(table, str(path), done, error)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot be read as Parquet: {error}", file=str(path)) from error


def _from_good_columns(table: Any, file: str, done: int, error: Exception) -> Iterator[Row]:
    """The rows after the first ``done``; the cells of columns that cannot be read at all are ``Unreadable``.

    Raises:
        Exception: ``error``, if no column, or every column, is at fault.
    """
    bad: dict[str, Unreadable] = {}
    names = table.schema_arrow.names
    for name in names:
        try:
            for _ in table.iter_batches(batch_size=_BATCH, columns=[name]):
                pass
        except Exception as reason:  # as in _value
            bad[name] = Unreadable(" ".join(str(reason).split()))
    if not bad or len(bad) == len(names):
        raise error
    good = [name for name in names if name not in bad]
    for row in _rows(table.iter_batches(batch_size=_BATCH, columns=good), file):
        if row.line > done:
            yield Row(row.values | bad, file, row.line)


def read_dataset(table: Any, file: str) -> Iterator[Row | Rejected]:
    """The rows of a ``datasets.Dataset``, without decoding images and the like."""
    if "Json(" in repr(table.features):  # stored as text: only the library itself knows which values are
        for number, values in enumerate(table, 1):
            yield Row(dict(values), file, number)
        return
    yield from _rows(table.with_format("arrow").iter(batch_size=_BATCH), file)


def _rows(batches: Iterable[Any], file: str) -> Iterator[Row]:
    number = 0
    for batch in batches:
        names = list(batch.schema.names)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError("there are two columns of this name", file=file, field=twice[0])
        columns = [_cells(column) for column in batch.columns]
        for place in range(batch.num_rows):
            number += 1
            yield Row({name: cells[place] for name, cells in zip(names, columns, strict=True)}, file, number)


def _cells(column: Any) -> list[Any]:
    """The values of a column; those that Python cannot hold as ``Unreadable``."""
    try:
        values = column.to_pylist()
    except Exception:  # of Python, pyarrow and the time zone data alike: one bad cell spoils all of them
        values = [_value(scalar) for scalar in column]
    return [_number(value) if isinstance(value, Decimal) else value for value in values]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except Exception as error:  # as above
        return Unreadable(" ".join(str(error).split()))


def _number(value: Decimal) -> int | float | Decimal:
    """A decimal as the number that JSON would have; one that is no number stays what it is."""
    if not value.is_finite():
        return value
    return int(value) if value == value.to_integral_value() else float(value)
