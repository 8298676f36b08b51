"""Files -> rows: JSON Lines, JSON, CSV, TSV and Parquet, plain or compressed, as a stream.

Knows what a file is by its name, and how its bytes become values; knows no splits, folders or meaning. A line
that is no row becomes a ``Rejected``; a file that is damaged raises ``DataError``.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from gram.data.row import Cell, ListCell, ObjectCell, Rejected, Row
from gram.data.tables import read_parquet
from gram.errors import DataError
from gram.extras import need
from gram.files import unique_keys

Items: TypeAlias = Iterator[Row | Rejected]

LINES = (".jsonl", ".ndjson")
TABLES = {".csv": ",", ".tsv": "\t"}
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
KINDS = ".jsonl, .ndjson, .json, .csv, .tsv (plain, .gz, .zst, .bz2 or .xz) or .parquet"
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)


def is_file_name(name: str) -> bool:
    """Whether ``name`` ends like that of a file that can be read.

    Example:
        >>> is_file_name("pairs.jsonl.zst"), is_file_name("org/pairs")
        (True, False)
    """
    return _kind(name) in (*LINES, *TABLES, ".json", ".parquet")


def stem_of(name: str) -> str:
    """The name of a file without what says how it is written.

    Example:
        >>> stem_of("data/pairs.jsonl.zst")
        'data/pairs'
    """
    bare = name[: -len(Path(name).suffix)] if name.lower().endswith(COMPRESSED) else name
    return bare[: -len(Path(bare).suffix)]


def file_reader(path: Path) -> Callable[[], Items]:
    """How to read the rows of ``path``.

    Raises:
        DataError: its name does not say what it is.
    """
    match _kind(path.name):
        case ".jsonl" | ".ndjson":
            return partial(_read_lines, path)
        case ".json":
            return partial(_read_json, path)
        case ".csv" | ".tsv":
            return partial(_read_table, path)
        case ".parquet" if path.suffix.lower() == ".parquet":
            return partial(read_parquet, path)
    raise DataError(f"unknown kind of file; expected {KINDS}", file=str(path))


def _kind(name: str) -> str:
    """The ending of a file's name below that of its compression."""
    path = Path(name.lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def _open(path: Path) -> BinaryIO:
    match path.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(path))
        case ".bz2":
            return cast(BinaryIO, bz2.open(path))
        case ".xz":
            return cast(BinaryIO, lzma.open(path))
        case ".zst":
            need("pyarrow")
            import pyarrow as pa

            return cast(BinaryIO, io.BufferedReader(pa.input_stream(str(path), compression="zstd")))
    return path.open("rb")


def _damage(path: Path, number: int, error: Exception) -> DataError:
    """What to say where reading broke off after line ``number``."""
    suffix = path.suffix.lower()
    kinds = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}
    of_codec = isinstance(error, OSError) and error.errno is None  # errors of the system have a number
    if isinstance(error, _DAMAGED) or of_codec:
        kind = kinds.get(suffix, "compressed")
        return DataError(f"damaged {kind} file after line {number}: {error}", file=str(path))
    return DataError(f"cannot be read: {error}", file=str(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, numbered from 1."""
    number = 0
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, 1):
                yield number, line
    except (*_DAMAGED, OSError) as error:
        raise _damage(path, number, error) from error


# JSON


def _read_lines(path: Path) -> Items:
    for number, line in _lines(path):
        if line.strip():
            yield _parse_line(line, str(path), number)


def _parse_line(line: bytes, file: str, number: int) -> Row | Rejected:
    reason = "not a JSON object"
    try:
        values = json.loads(line.decode("utf-8-sig").rstrip("\r\n"), object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: {error.reason} at byte {error.start}"
    except json.JSONDecodeError as error:
        reason = f"not valid JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number, or a nesting, beyond all measure
        reason = f"not readable as JSON: {error}"
    else:
        if isinstance(values, dict):
            return Row(values, file, number)
    raw = line.decode("utf-8", errors="replace").rstrip("\r\n")
    return Rejected(DataError(reason, file=file, line=number), raw)


def _read_json(path: Path) -> Items:
    """A list of objects; a ``.json`` file that does not begin with a bracket is read as JSON Lines."""
    try:
        with _open(path) as stream:
            start = stream.read(256)
            if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"[":
                yield from _read_lines(path)
                return
            text = (start + stream.read()).decode("utf-8-sig")
        rows = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", file=str(path), line=error.lineno) from error
    except DataError:
        raise
    except (*_DAMAGED, OSError) as error:
        raise _damage(path, 0, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error
    for number, values in enumerate(rows, 1):
        if isinstance(values, dict):
            yield Row(values, str(path), number)
        else:
            yield Rejected(DataError("not a JSON object", file=str(path), line=number), json.dumps(values))


# CSV and TSV


def _read_table(path: Path) -> Items:
    """The rows under a line of column names; an empty cell is null, a list or an object stands as JSON."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses answers beyond 128 kB
    reader = csv.reader(_decoded(path), delimiter=TABLES[_kind(path.name)], strict=True)
    file, names, last = str(path), None, 0
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num
            if not any(cells):
                continue
            if names is None:
                names = cells
                if twice := next((name for name in names if names.count(name) > 1), None):
                    raise DataError("there are two columns of this name", file=file, line=line, field=twice)
            elif len(cells) != len(names):
                reason = f"expected {len(names)} cells, as there are column names, got {len(cells)}"
                yield Rejected(DataError(reason, file=file, line=line), ",".join(cells))
            else:
                yield Row({n: _cell(cell) for n, cell in zip(names, cells, strict=True)}, file, line)
    except csv.Error as error:
        raise DataError(f"not valid CSV: {error}", file=file, line=last + 1) from error


def _decoded(path: Path) -> Iterable[str]:
    """The lines as text; a byte that is not UTF-8 becomes half a surrogate pair, which no form takes."""
    for number, line in _lines(path):
        text = line.decode("utf-8", errors="surrogateescape")
        yield text.removeprefix("\ufeff") if number == 1 else text


def _cell(text: str) -> Any:
    if text.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(text, object_pairs_hook=unique_keys)
            return ListCell(value, text) if isinstance(value, list) else ObjectCell(value, text)
        except (ValueError, RecursionError):
            pass  # an ordinary text after all
    return Cell(text) if text else None
