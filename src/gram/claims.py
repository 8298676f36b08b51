"""What a command may write: nothing that it reads, nothing that is no file, and nobody else at the time.

A command claims its output before any work, with all that it writes beside and all that it reads. Knows
paths and locks; knows no command and no format.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from gram.errors import ConfigError
from gram.files import LOCK, is_ours, make_folder, remove_drafts, remove_temporaries
from gram.locks import locked
from gram.paths import at_home

_LONGEST_ADDITION = 20  # bytes, of a temporary name: .1234567890.gram.tmp
_ALSO_READ: ContextVar[tuple[Path, ...]] = ContextVar("also read", default=())


@dataclass(frozen=True)
class Reads:
    """What a command reads, as its user named it; names of nothing local (on the Hub) do no harm.

    Attributes:
        files: models, templates, options: of a folder the files that it holds now.
        data: rows: of a folder whatever it may come to hold, since the next run would read that too.
    """

    files: Sequence[str | Path | None] = ()
    data: Sequence[str | Path | None] = ()


@contextmanager
def reading(*paths: Path | None) -> Iterator[None]:
    """Count ``paths`` among what is read in the block: those that the command itself does not see."""
    token = _ALSO_READ.set((*_ALSO_READ.get(), *(path for path in paths if path is not None)))
    try:
        yield
    finally:
        _ALSO_READ.reset(token)


@contextmanager
def claimed_files(
    outputs: Iterable[Path], beside: Iterable[Path] = (), reads: Reads | None = None
) -> Iterator[None]:
    """Hold each of ``outputs`` alone during the block; their folders are made.

    Args:
        beside: what else is written, under the lock of the outputs.

    Raises:
        ConfigError: one of them is read or is no place for a file, or two are the same.
        OutputError: another process writes there, or nobody can.

    Example:
        >>> with claimed_files([Path("scores.jsonl")], reads=Reads(data=["scores.jsonl"])):
        ...     pass
        Traceback (most recent call last):
        gram.errors.ConfigError: output scores.jsonl: is an input (scores.jsonl); name another
    """
    outputs, writes = list(outputs), [*outputs, *beside]
    refuse_overlap(writes, reads or Reads())
    for path in writes:
        _check_place(path)
    with ExitStack() as stack:
        for path in outputs:
            make_folder(path.parent)
            real = _real(path)
            stack.enter_context(locked(real.with_name(f".{real.name}{LOCK}"), path))
        for path in writes:
            remove_temporaries(_real(path).parent, _real(path).name)
        yield


@contextmanager
def claimed_folder(
    folder: Path,
    names: Iterable[str] = (),
    reads: Reads | None = None,
    *,
    beside: Iterable[Path] = (),
    whole: bool = False,
    shared: bool = False,
) -> Iterator[None]:
    """Hold ``folder`` alone during the block; it is made, and goes again if nothing was put into it.

    Args:
        names: the files that are written into it.
        beside: other files that are written.
        whole: anything in it may be written or replaced.
        shared: others may hold it too, if they say so; they write other files, or equal ones.

    Raises:
        ConfigError: as ``claimed_files``.
        OutputError: as ``claimed_files``.
    """
    writes = [*(folder / name for name in names), *beside]
    refuse_overlap(writes, reads or Reads(), whole=folder if whole else None)
    is_new = not folder.exists()
    make_folder(folder)
    for path in writes:
        _check_place(path)
    try:
        with locked(folder / LOCK, folder, shared=shared) as alone:
            if alone:
                remove_drafts(folder)
                for path in writes:
                    remove_temporaries(_real(path).parent, _real(path).name)
                if whole:
                    remove_temporaries(folder)
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def refuse_full(folder: Path) -> None:
    """Refuse a folder that holds anything but what passes: for commands that write into a new one.

    Raises:
        ConfigError: it holds something.
    """
    if any(not is_ours(path.name) for path in folder.iterdir()):
        raise ConfigError(f"output {folder}: holds something already; name a new folder")


def refuse_overlap(writes: Iterable[Path], reads: Reads, *, whole: Path | None = None) -> None:
    """Check that nothing is written that is read, by whatever way the two names lead there.

    Args:
        whole: a folder that is written as a whole.

    Raises:
        ConfigError: naming the two.
    """
    files = [_local(name) for name in (*reads.files, *_ALSO_READ.get()) if name is not None]
    folders = [(name, path) for name, path in map(_local, filter(None, reads.data)) if path.is_dir()]
    files += [_local(name) for name in reads.data if name is not None]
    inside = [(f"{name}/{path.name}", path) for name, folder in files for path in _files_of(folder)]
    writes = list(writes)
    for number, write in enumerate(writes):
        if any(_same(write, other) for other in writes[:number]):
            raise ConfigError(f"output {write}: would be written twice; name another output")
        for name, path in [*files, *inside]:
            if _same(write, path):
                raise ConfigError(f"output {write}: is an input ({name}); name another")
    for write in [*writes, *([whole] if whole else [])]:
        for name, folder in folders:
            if _lies_in(write, folder):
                raise ConfigError(f"output {write}: lies in an input ({name}); name another")
    if whole:
        for name, path in [*files, *inside]:
            if path.exists() and _lies_in(path, whole):
                raise ConfigError(f"output {whole}: holds {name}, which this run reads; name another")


def _local(name: str | Path) -> tuple[str, Path]:
    """A name and its path: ``~`` expanded, and without the split after ``::`` unless a file is called so."""
    path, text = at_home(name), str(name)
    if "::" in text and not path.exists():
        path = at_home(text.rpartition("::")[0])
    return text, path


def _files_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_file() and not is_ours(path.name)]


def _same(first: Path, second: Path) -> bool:
    """Whether two paths are one file: by links of both kinds, and in any case where case does not count."""
    try:
        if first.samefile(second):
            return True
    except OSError:
        pass  # one of them does not exist
    return _real(first) == _real(second)


def _lies_in(path: Path, folder: Path) -> bool:
    return any(_same(parent, folder) for parent in (path, *_real(path).parents))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _check_place(path: Path) -> None:
    """Refuse a name under which no file can appear."""
    real = _real(path)
    if real.is_dir() or not path.name:
        raise ConfigError(f"output {path}: is a folder; name a file")
    if _is_stream(path) or (path.exists() and not path.is_file()):
        raise ConfigError(f"output {path}: is a device or a stream, and no file can replace it; name a file")
    with contextlib.suppress(OSError):
        most = os.pathconf(next(parent for parent in real.parents if parent.is_dir()), "PC_NAME_MAX")
        if len(os.fsencode(real.name)) + _LONGEST_ADDITION > most:
            raise ConfigError(f"output {path}: the name is too long")


def _is_stream(path: Path) -> bool:
    """Whether it stands for an open file of a process (``/dev/stdout``), even if that is a regular file."""
    places = [path.absolute()]
    if path.is_symlink():
        places.append(places[0].parent / path.readlink())
    folders = [_real(place.parent) for place in places]
    return any(folder.is_relative_to("/proc") and folder.name == "fd" for folder in folders)
