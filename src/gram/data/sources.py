"""Where rows come from: files, folders and Hub names, as a stream of ``Row``.

Knows file formats and splits, and nothing of what a row means: that is ``rows``. A source is

- a ``.jsonl``, ``.jsonl.gz``, ``.json`` or ``.parquet`` file;
- a folder with such files, or one written by ``datasets``' ``save_to_disk``;
- the name of a dataset on the Hugging Face Hub, if nothing local has that name;

with an optional suffix ``::split`` or ``::config:split``, which wins over the ``split`` argument. A Hub name
may say its revision: ``owner/name@revision``.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from gram.errors import DataError, NoRowsError
from gram.paths import at_home

_KINDS = ".jsonl, .jsonl.gz, .json or .parquet"
_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@([\w./-]+))?")
_FILE_LIKE = (".jsonl", ".json", ".parquet", ".gz", ".csv", ".tsv", ".txt", ".zip", ".zst", ".arrow")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was written, and its place: ``line`` counts from 1 (rows, where there are no lines)."""

    values: dict[str, Any]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used: why, and the row itself (the raw line if it is not even an object)."""

    error: DataError
    raw: dict[str, Any] | str


RejectSink: TypeAlias = Callable[[Rejected], None]
_Items: TypeAlias = Iterator[Row | Rejected]
_Part: TypeAlias = tuple[str | None, Callable[[], _Items]]  # the split it lies in, how to read it


def read_rows(source: str, split: str | None = None, reject: RejectSink | None = None) -> Iterator[Row]:
    """The rows of one source, one by one; JSON Lines and Parquet are never held in memory as a whole.

    A row belongs to the split named in its ``split`` field or, without one, to the split of the dataset
    it lies in; a row with neither belongs to every split. Without ``split`` a file gives all its rows,
    and a dataset of several splits is an error.

    Example:
        >>> _ = Path("rows.jsonl").write_text('{"text": "Salt dissolves in water."}')
        >>> list(read_rows("rows.jsonl"))
        [Row(values={'text': 'Salt dissolves in water.'}, file='rows.jsonl', line=1)]

    Args:
        reject: receives each line that is not a JSON object; without it such a line raises.

    Raises:
        DataError: at once if the source does not exist or is of an unknown kind; while reading if it is
            damaged.
        NoRowsError: it holds no rows, or no row of ``split``.
    """
    name, config, own_split = parse_source(source)
    split = own_split or split
    return _of_split(_parts(name, config, split), split, name, reject or _raise)


def parse_source(source: str) -> tuple[str, str | None, str | None]:
    """``name``, ``config`` and ``split`` of ``name``, ``name::split`` or ``name::config:split``.

    Example:
        >>> parse_source("pairs.jsonl::train")
        ('pairs.jsonl', None, 'train')
    """
    name, mark, choice = source.rpartition("::")
    if not mark:
        return source, None, None
    config, _, split = choice.rpartition(":")
    return name, config or None, split or None


def is_file_of(source: str, path: Path) -> bool:
    """Whether ``source`` names the file ``path``, by whatever way to it."""
    return at_home(parse_source(source)[0]).resolve() == path.resolve()


def _raise(rejected: Rejected) -> NoReturn:
    raise rejected.error


def _of_split(parts: Sequence[_Part], split: str | None, name: str, reject: RejectSink) -> Iterator[Row]:
    present: set[str] = set()
    is_empty, has_split = True, False
    for home, read in parts:
        for item in read():
            is_empty = False
            if isinstance(item, Rejected):
                has_split = True
                reject(item)
                continue
            own = item.values.get("split")
            own = home if own is None else str(own)
            if split is None or own is None or own == split:
                has_split = True
                yield item
            else:
                present.add(own)
    if is_empty:
        raise NoRowsError("holds no rows", file=name)
    if not has_split:
        there = ", ".join(sorted(present))
        raise NoRowsError(f"no row of the split {split!r}; there are: {there}", file=name)


def _parts(name: str, config: str | None, split: str | None) -> list[_Part]:
    path = at_home(name)
    if path.is_file():
        if config:
            raise DataError(f"a file has no configuration {config!r}", file=name)
        return [(None, _file_reader(path))]
    if path.is_dir():
        is_saved = any((path / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
        return _saved_parts(path, split) if is_saved else _folder_parts(path, config, split)
    hub_name = _HUB_NAME.fullmatch(name)
    if hub_name is None or name.lower().endswith(_FILE_LIKE):
        raise DataError("no such file or folder", file=name)
    return _hub_parts(name, hub_name[1], hub_name[2], config, split)


# Files


def _file_reader(path: Path) -> Callable[[], _Items]:
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return partial(_read_lines, path)
    if name.endswith(".json"):
        return partial(_read_json, path)
    if name.endswith(".parquet"):
        return partial(_read_parquet, path)
    raise DataError(f"unknown kind of file; expected {_KINDS}", file=str(path))


def _read_lines(path: Path) -> _Items:
    number = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parse_line(line, str(path), number)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"damaged gzip file after line {number}: {error}", file=str(path)) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error


def _parse_line(line: bytes, file: str, number: int) -> Row | Rejected:
    reason = "not a JSON object"
    try:
        values = json.loads(line.decode("utf-8-sig").rstrip("\r\n"), object_pairs_hook=_once)
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand there once: of two equal ones nobody knows which was meant."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return values


def _read_json(path: Path) -> _Items:
    """A list of objects; a ``.json`` file that does not begin with a bracket is read as JSON Lines."""
    try:
        with path.open("rb") as stream:
            if stream.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"[":
                yield from _read_lines(path)
                return
        rows = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", file=str(path), line=error.lineno) from error
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error
    for number, values in enumerate(rows, 1):
        if isinstance(values, dict):
            yield Row(values, str(path), number)
        else:
            yield Rejected(DataError("not a JSON object", file=str(path), line=number), json.dumps(values))


def _read_parquet(path: Path) -> _Items:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, str(path), number)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as Parquet: {error}", file=str(path)) from error


# Datasets: folders, saved tables, the Hub


def _choose(splits: Sequence[str], split: str | None, name: str) -> str:
    if split in splits:
        return str(split)
    if len(splits) == 1:  # nothing to choose: the rows' own `split` field may still say more
        return splits[0]
    there = ", ".join(splits)
    if split is None:
        raise DataError(f"choose a split with '{name}::<split>'; there are: {there}", file=name)
    raise NoRowsError(f"no split {split!r}; there are: {there}", file=name)


def _folder_parts(path: Path, config: str | None, split: str | None) -> list[_Part]:
    """The data files of a folder, put into splits by ``datasets``' rules (file names, or the card)."""
    import datasets

    try:
        builder = datasets.load_dataset_builder(str(path), config)
    except Exception as error:  # the library raises many kinds; all of them mean: not a dataset folder
        raise DataError(f"not a dataset folder: {error}", file=str(path)) from error
    files = {str(name): list(paths) for name, paths in (builder.config.data_files or {}).items()}
    split = _choose(list(files), split, str(path))
    return [(split, _file_reader(Path(file))) for file in files[split]]


def _saved_parts(path: Path, split: str | None) -> list[_Part]:
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except Exception as error:  # as above: pyarrow's, json's and the library's own errors
        raise DataError(f"cannot be read as a saved dataset: {error}", file=str(path)) from error
    if isinstance(dataset, datasets.Dataset):
        home = None if dataset.split is None else str(dataset.split)
        return [(home, partial(_read_table, dataset, str(path)))]
    return _table_parts(dataset, str(path), split)


def _hub_parts(
    name: str, dataset: str, revision: str | None, config: str | None, split: str | None
) -> list[_Part]:
    import datasets

    try:
        tables = datasets.load_dataset(dataset, config, revision=revision)
    except Exception as error:  # network, authentication, missing, several configurations, ...
        if isinstance(error, ConnectionError):
            hub = f"the Hugging Face Hub could not be reached to look for a dataset of that name ({error})"
        else:
            hub = f"the Hugging Face Hub gives no dataset of that name ({type(error).__name__}: {error})"
        raise DataError(f"no such file or folder here, and {hub}", file=name) from error
    return _table_parts(tables, name, split)


def _table_parts(tables: Any, name: str, split: str | None) -> list[_Part]:
    split = _choose([str(key) for key in tables], split, name)
    return [(split, partial(_read_table, tables[split], f"{name}::{split}"))]


def _read_table(table: Any, file: str) -> _Items:
    for number, values in enumerate(table, 1):
        yield Row(dict(values), file, number)
