"""Files that are whole or not there at all, and the journal that a killed run continues.

Everything the package writes goes through here: text, bytes and folders appear under their names in one step,
so a name never stands for half a file. Knows bytes, lines and headers; does not know what a record means.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gram.errors import ConfigError


class Journal:
    """An append-only JSON Lines file: the records of one run, on disk.

    While the run is under way its records stand in ``<path>.partial``, below one header line that tells which
    run they belong to. ``finish`` writes ``<path>`` in one step.

    Args:
        path: the finished file. Its folder is made if it is missing.
        header: what identifies the run (model, input, options). With an equal header the records on file are
            kept and the run goes on; with another one the journal starts anew, with a message on stderr,
            because going on would mix two runs.

    If the run was killed while it wrote a line, that incomplete last line is dropped. One process writes one
    journal.

    Example:
        >>> Journal(Path("scores.jsonl"), {"seed": 0}).append([{"score": 1.5}])  # then the run is killed
        >>> journal = Journal(Path("scores.jsonl"), {"seed": 0})
        >>> journal.done, list(journal.records())
        (1, [{'score': 1.5}])
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._count = 0
        self._finished = False
        line = _line({"journal": 1, "header": dict(header)})
        self._header_size = len(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._resume(line):
            self.partial.write_bytes(line)

    @property
    def done(self) -> int:
        """Number of complete records on file."""
        return self._count

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds records; on return they are on the disk. Floats that are not finite are written as null."""
        lines = [_line(record) for record in records]
        with self.partial.open("ab") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        self._count += len(lines)

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
        """Keeps the complete records of an earlier run with this header; False if there is no such run."""
        if not self.partial.exists():
            return False
        with self.partial.open("r+b") as file:
            line = file.readline()
            if line != header:
                if line.endswith(b"\n") and file.readline():
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
                self._count += 1
            file.truncate(end)
        return True


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; called before the work whose result goes there.

    Raises:
        ConfigError: it cannot be made.

    Example:
        >>> make_folder(Path("runs/first"))
        >>> Path("runs/first").is_dir()
        True
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if folder.is_file() else error.strerror
        raise ConfigError(f"output {folder}: cannot be a folder: {reason}") from error


@contextmanager
def atomic_write(path: Path, *, skip_empty: bool = False) -> Iterator[TextIO]:
    """A text file that appears under its name only when the block ends well; otherwise nothing changes.

    Args:
        skip_empty: write no file where nothing was written into it.

    Example:
        >>> with atomic_write(Path("out.txt")) as file:
        ...     print("all of it", file=file)
        >>> Path("out.txt").read_text()
        'all of it\\n'
    """
    with _replacing(Path(path)) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            empty = file.tell() == 0
        if skip_empty and empty:
            temporary.unlink()


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` under the name ``path``, whole or not at all; the folder is made if it is missing.

    Example:
        >>> atomic_write_bytes(Path("out.bin"), b"all of it")
        >>> Path("out.bin").read_bytes()
        b'all of it'
    """
    with _replacing(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def atomic_folder(folder: Path, *, last: str) -> Iterator[Path]:
    """A draft folder to fill; when the block ends well, its files become those of ``folder``.

    Where there is no such folder, the draft is renamed to it in one step. Otherwise the old file ``last`` is
    removed first and the new one is moved in last, so that a folder with that file is a finished one. Files
    of other names stay.

    Example:
        >>> with atomic_folder(Path("model"), last="done.json") as draft:
        ...     _ = (draft / "done.json").write_text("{}")
        >>> [path.name for path in Path("model").iterdir()]
        ['done.json']
    """
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if not folder.exists():
            draft.replace(folder)
            return
        (folder / last).unlink(missing_ok=True)
        for path in sorted(draft.iterdir(), key=lambda path: path.name == last):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of ``path``; a file of that name is renamed to ``path`` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.exists():
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """``value`` with every float that is not finite turned to None, since JSON has no NaN.

    Example:
        >>> finite({"mean": float("nan"), "n": 3})
        {'mean': None, 'n': 3}
    """
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
