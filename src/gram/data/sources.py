"""Where rows come from: files, folders and Hub names, as a stream of ``Row``.

Knows splits, not file formats (``formats``), names in a folder (``folders``) nor what a row means (``rows``).
A source is

- a file of JSON Lines, JSON, CSV, TSV or Parquet (``formats``);
- a folder with such files, or one written by ``datasets``' ``save_to_disk``;
- the name of a dataset on the Hugging Face Hub, if nothing local has that name;

with an optional suffix ``::split`` or ``::config:split``, which wins over the ``split`` argument. A Hub name
may say its revision: ``owner/name@revision``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from gram.data.folders import files_by_split, has_card
from gram.data.formats import COMPRESSED, Items, file_reader, is_file_name
from gram.data.row import Rejected, RejectSink, Row, Unreadable
from gram.data.tables import read_dataset
from gram.errors import DataError, NoRowsError
from gram.extras import need
from gram.paths import at_home

_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@([\w./-]+))?")
_FILE_LIKE = (*COMPRESSED, ".txt", ".zip", ".arrow")

_Part: TypeAlias = tuple[str | None, Callable[[], Items]]  # the split it lies in, how to read it


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


def _raise(rejected: Rejected) -> NoReturn:
    raise rejected.error


def _of_split(parts: Sequence[_Part], split: str | None, name: str, reject: RejectSink) -> Iterator[Row]:
    present: set[str] = set()
    is_empty, has_split = True, False
    for home, read in parts:
        for item in map(_with_split, read()):
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


def _with_split(item: Row | Rejected) -> Row | Rejected:
    """``item``, rejected if nobody can say which split it belongs to."""
    if isinstance(item, Row) and isinstance(split := item.values.get("split"), Unreadable):
        return Rejected(item.error(f"cannot be read: {split.reason}", "split"), item.values)
    return item


def _parts(name: str, config: str | None, split: str | None) -> list[_Part]:
    path = at_home(name)
    if path.is_file():
        if config:
            raise DataError(f"a file has no configuration {config!r}", file=name)
        return [(None, file_reader(path))]
    if path.is_dir():
        is_saved = any((path / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
        return _saved_parts(path, split) if is_saved else _folder_parts(path, config, split)
    hub_name = _HUB_NAME.fullmatch(name)
    if hub_name is None or is_file_name(name) or name.lower().endswith(_FILE_LIKE):
        raise DataError("no such file or folder", file=name)
    return _hub_parts(name, hub_name[1], hub_name[2], config, split)


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
    """The data files of a folder, put into splits by its card or by their names."""
    if has_card(path):
        files = _files_of_card(path, config)
    elif config not in (None, "default"):
        raise DataError(f"a folder without a card has no configuration {config!r}", file=str(path))
    else:
        files = files_by_split(path, split)
    split = _choose(list(files), split, str(path))
    return [(split, file_reader(file)) for file in files[split]]


def _files_of_card(path: Path, config: str | None) -> dict[str, list[Path]]:
    need("datasets")
    import datasets

    try:
        builder = datasets.load_dataset_builder(str(path), config)
    except Exception as error:  # the library raises many kinds; all of them mean: not a dataset folder
        raise DataError(f"not a dataset folder: {error}", file=str(path)) from error
    files = builder.config.data_files or {}
    return {str(name): [Path(file) for file in paths] for name, paths in files.items()}


def _saved_parts(path: Path, split: str | None) -> list[_Part]:
    need("datasets")
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except Exception as error:  # as above: pyarrow's, json's and the library's own errors
        raise DataError(f"cannot be read as a saved dataset: {error}", file=str(path)) from error
    if isinstance(dataset, datasets.Dataset):
        home = None if dataset.split is None else str(dataset.split)
        return [(home, partial(read_dataset, dataset, str(path)))]
    return _table_parts(dataset, str(path), split)


def _hub_parts(
    name: str, dataset: str, revision: str | None, config: str | None, split: str | None
) -> list[_Part]:
    need("datasets")
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
    return [(split, partial(read_dataset, tables[split], f"{name}::{split}"))]
