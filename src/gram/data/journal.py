"""An append-only JSON Lines file that a killed run continues.

Knows lines and headers; does not know what a record means, nor how many there will be.

While a run is under way its records stand in ``<path>.partial``, below one header line that tells which
run they belong to. ``finish`` writes ``<path>`` in one step, so a file of that name is always complete.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gram.errors import ConfigError


class Journal:
    """The records of one run, on disk.

    Args:
        path: the finished file. Its folder is made if it is missing.
        header: what makes this run this run (model, input, options). With an equal header the records on
            file are kept and the run goes on; with another one the journal starts anew, and says so on
            stderr, since going on would mix two runs.

    A last line that was torn by the kill is dropped. One process writes one journal.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._done = 0
        self._finished = False
        line = _line({"journal": 1, "header": dict(header)})
        self._header_size = len(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._resume(line):
            self.partial.write_bytes(line)

    @property
    def done(self) -> int:
        """Number of complete records on file."""
        return self._done

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds records; on return they are on the disk. Floats that are not finite are written as null."""
        lines = [_line(record) for record in records]
        with self.partial.open("ab") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        self._done += len(lines)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records on file, in the order they were added."""
        with (self.path if self._finished else self.partial).open("rb") as file:
            file.seek(0 if self._finished else self._header_size)
            for line in file:
                yield json.loads(line)

    def finish(self) -> None:
        """Writes the finished file, without the header, and removes the partial one."""
        with atomic_write(self.path) as file:
            for record in self.records():
                file.write(_line(record).decode())
        self.partial.unlink()
        self._finished = True

    def _resume(self, header: bytes) -> bool:
        """Takes over the complete records on file; False if there is nothing to go on from."""
        if not self.partial.exists():
            return False
        with self.partial.open("r+b") as file:
            found = file.readline()
            if found != header:
                if found.endswith(b"\n") and file.readline():
                    print(
                        f"{self.partial}: was begun with another model, input or options; starting anew",
                        file=sys.stderr,
                    )
                return False
            end = file.tell()
            for line in file:
                if not _complete(line):
                    break
                end += len(line)
                self._done += 1
            file.truncate(end)
        return True


def make_folder(folder: Path) -> None:
    """The folder, and those that it lies in; asked for before the work whose result goes there.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if folder.is_file() else error.strerror
        raise ConfigError(f"output {folder}: cannot be a folder: {reason}") from error


@contextmanager
def atomic_write(path: Path) -> Iterator[TextIO]:
    """A text file that appears under its name only when the block ends well; otherwise nothing changes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """``value`` with every float that is not finite turned to None, since JSON has no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n").encode()


def _complete(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
