"""The journal that a killed run continues: its records on disk, each with its number.

Knows lines, numbers and headers; does not know what a record means.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gram.errors import ConfigError, DataError
from gram.files import atomic_write, finite, naming
from gram.paths import path_beside

_FORMAT = 2
_BEGINNING = b'{"journal": '


class Journal:
    """An append-only JSON Lines file: the records of one run, on disk.

    While the run is under way its records stand in ``<path>.partial``, each with its number from 1, below one
    header line that tells which run they belong to. ``finish`` writes ``<path>``, without header and numbers,
    in one step.

    Args:
        path: the finished file. Its folder is made if it is missing.
        header: what identifies the run (model, input, options). With an equal header the records on file are
            kept and the run goes on; with another one the journal starts anew, with a message on stderr,
            because going on would mix two runs.
        rows: how many records the finished run has, where that is known.
        chunk: how many records are made together. What a killed run left of an incomplete chunk is dropped
            and made again, so that the calls are those of an uninterrupted run.

    If the run was killed while it wrote a line, that incomplete last line is dropped. One process writes one
    journal.

    Raises:
        ConfigError: ``<path>.partial`` is no journal.
        DataError: lines in it are missing, doubled or exchanged, or there are more than ``rows``.

    Example:
        >>> Journal(Path("scores.jsonl"), {"seed": 0}).append([{"score": 1.5}])  # then the run is killed
        >>> journal = Journal(Path("scores.jsonl"), {"seed": 0})
        >>> journal.done, list(journal.records())
        (1, [{'score': 1.5}])
    """

    def __init__(
        self, path: Path, header: Mapping[str, Any], *, rows: int | None = None, chunk: int = 1
    ) -> None:
        self.path = Path(path)
        self.partial = partial_of(self.path)
        self._rows, self._chunk = rows, chunk
        self._count = 0
        self._finished = False
        line = _line({"journal": _FORMAT, "chunk": chunk, "header": dict(header)})
        self._header_size = len(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._resume(line):
            with naming(self.partial):
                self.partial.write_bytes(line)

    @property
    def done(self) -> int:
        """Number of complete records on file."""
        return self._count

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds records; on return they are on the disk. Floats that are not finite are written as null."""
        lines = [_line([number, record]) for number, record in enumerate(records, self._count + 1)]
        with naming(self.partial), self.partial.open("ab") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        self._count += len(lines)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records on file, in the order they were added."""
        with (self.path if self._finished else self.partial).open("rb") as file:
            file.seek(0 if self._finished else self._header_size)
            for line in file:
                yield json.loads(line) if self._finished else json.loads(line)[1]

    def finish(self) -> None:
        """Writes the finished file and removes the partial one."""
        assert self._rows in (None, self._count), f"{self._count} records of {self._rows}"
        with atomic_write(self.path) as file:
            for record in self.records():
                file.write(_line(record).decode())
        self.partial.unlink()
        self._finished = True

    def _resume(self, header: bytes) -> bool:
        """Keeps the whole chunks of an earlier run with this header; False if there is no such run."""
        if not self.partial.exists():
            return False
        with self.partial.open("r+b") as file:
            line = file.readline()
            if not _is_ours(line):
                raise ConfigError(f"{self.partial}: is in the way, and no journal of gram; move or remove it")
            if line != header:
                if line.endswith(b"\n") and file.readline():
                    print(
                        f"{self.partial}: was begun with another model, input, options or version of gram; "
                        "starting anew",
                        file=sys.stderr,
                    )
                return False
            self._keep_whole_chunks(file)
        return True

    def _keep_whole_chunks(self, file: BinaryIO) -> None:
        count, end = 0, file.tell()  # of lines read; of the last whole chunk
        place = end
        for line in file:
            number = _number(line)
            if number is None:  # the run was killed here
                break
            count, place = count + 1, place + len(line)
            reason = ""
            if number != count:
                reason = (
                    f"holds row {number} in the place of row {count}: lines are missing, doubled or exchanged"
                )
            elif self._rows is not None and count > self._rows:
                reason = f"holds more than the {self._rows} rows of this run"
            if reason:
                raise DataError(f"{reason}; remove it to start anew", file=str(self.partial), line=count + 1)
            if count % self._chunk == 0 or count == self._rows:
                self._count, end = count, place
        file.truncate(end)


def partial_of(path: Path) -> Path:
    """Where the records of an unfinished run stand.

    Example:
        >>> partial_of(Path("scores.jsonl")).name
        'scores.jsonl.partial'
    """
    return path_beside(path, after=".partial")


def remove_journal(path: Path) -> None:
    """Remove the journal of ``path``, which is finished; a file of that name that is none stays."""
    partial = partial_of(path)
    with contextlib.suppress(FileNotFoundError):
        with partial.open("rb") as file:
            is_ours = _is_ours(file.readline())
        if is_ours:
            partial.unlink()


def _is_ours(line: bytes) -> bool:
    """Whether a file that begins with this line is a journal, if only the beginning of one."""
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)


def _line(value: Any) -> bytes:
    return (json.dumps(finite(value), ensure_ascii=False, allow_nan=False) + "\n").encode()


def _number(line: bytes) -> int | None:
    """The number of a record's line; None for one that is not complete."""
    if not line.endswith(b"\n"):
        return None
    try:
        number, record = json.loads(line)
    except (ValueError, TypeError):
        return None
    return number if isinstance(number, int) and isinstance(record, dict) else None
