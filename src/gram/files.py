"""Files and folders that are whole or not there at all.

Everything the package writes goes through here: text, bytes and folders appear under their names in one step,
so a name never stands for half a file. What is not finished has a hidden name of ours. Knows bytes and
folders; does not know what stands in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gram.errors import ConfigError, GramError, OutputError
from gram.paths import path_beside

LOCK = ".gram.lock"
"""The lock of a folder; in it."""
DRAFT = ".gram.draft"
"""What a folder is going to hold; in it or, with the folder's name before, beside it."""
_OURS = re.compile(r"(\..+)?\.gram\.(lock|draft|old|tmp|result\.json)")
_TEMPORARY = r"\.%s\.\d+\.gram\.tmp"
_FULL = ("os error", "PytorchStreamWriter", "inline_container")  # how libraries put errors of the system


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


def is_ours(name: str) -> bool:
    """Whether a file or folder of this name is a passing one of ours: a lock, a draft, a temporary file.

    Example:
        >>> is_ours(".gram.lock"), is_ours(".scores.jsonl.gram.lock"), is_ours("scores.jsonl.lock")
        (True, True, False)
    """
    return _OURS.fullmatch(name) is not None


def remove_temporaries(folder: Path, name: str | None = None) -> None:
    """Remove what killed runs left of their writing of a file; call it with the lock of that file.

    Args:
        name: of the file in ``folder``; None: of any, where nobody else writes in the folder.
    """
    pattern = re.compile(_TEMPORARY % (".+" if name is None else re.escape(name)))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for found in [entry for entry in folder.iterdir() if pattern.fullmatch(entry.name)]:
            found.unlink(missing_ok=True)


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
    folder = Path(os.path.realpath(folder))
    remove_drafts(folder)
    draft = folder / DRAFT if folder.exists() else _beside(folder, "draft")
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
        remove_drafts(folder)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A draft folder that takes the place of ``folder`` as a whole, when the block ends well.

    Until then ``folder`` stays as it is, and then the two change places in one step: whenever the process is
    killed, one of them is there, and whole. Where the system has no such step there are two, and
    ``remove_drafts`` undoes the first.

    Raises:
        OutputError: the draft cannot lie beside ``folder``; before the block.

    Example:
        >>> Path("old").mkdir()
        >>> with replaced_folder(Path("old")) as draft:
        ...     _ = (draft / "new").write_text("")
        >>> [path.name for path in Path("old").iterdir()]
        ['new']
    """
    folder = Path(os.path.realpath(folder))
    remove_drafts(folder)
    draft, old = _beside(folder, "draft"), _beside(folder, "old")
    try:
        draft.mkdir()
        if folder.exists() and folder.stat().st_dev != draft.stat().st_dev:
            raise OutputError(f"output {folder}: is a file system of its own; name a folder in it")
    except OSError as error:
        raise OutputError(f"output {folder}: nothing can be put beside it: {error.strerror}") from error
    try:
        yield draft
        _share_lock(folder, draft)
        if not folder.exists():
            draft.replace(folder)
        elif not _exchange(draft, folder):
            folder.replace(old)
            draft.replace(folder)
    finally:
        remove_drafts(folder)


def remove_drafts(folder: Path) -> None:
    """Remove what is left of drafts of ``folder``; where it was just being replaced, undo that first."""
    folder = Path(os.path.realpath(folder))
    old = _beside(folder, "old")
    if old.exists() and not (folder.exists() and any(not is_ours(path.name) for path in folder.iterdir())):
        _share_lock(folder, old)
        shutil.rmtree(folder, ignore_errors=True)
        old.replace(folder)
    for draft in (folder / DRAFT, _beside(folder, "draft"), old):
        shutil.rmtree(draft, ignore_errors=True)


def _share_lock(folder: Path, other: Path) -> None:
    """The lock is that of the place, whichever folder is there: one file in both."""
    (other / LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or the file system has no hard links
        os.link(folder / LOCK, other / LOCK)


def _beside(folder: Path, kind: str) -> Path:
    return path_beside(folder, ".", f".gram.{kind}")


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # Linux
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Around the writing of ``path``: whatever goes wrong on the disk is said with its name.

    Raises:
        OSError: the same, with a file name.
        OutputError: what a library that writes in its own way says of the system.

    Example:
        >>> with naming(Path("scores.jsonl")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: 'scores.jsonl'
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None and not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except GramError:
        raise
    except Exception as error:
        if any(mark in str(error) for mark in _FULL):
            reason = str(error).strip().splitlines()[0]
            raise OutputError(f"{path}: cannot be written: {reason}") from error
        raise


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of ``path``; a file of that name is renamed to ``path`` at the end."""
    path = Path(os.path.realpath(path))  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path_beside(path, ".", f".{os.getpid()}.gram.tmp")
    try:
        with naming(path):
            yield temporary
        if temporary.exists():
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand there once, for ``json.loads(text, object_pairs_hook=unique_keys)``.

    Raises:
        ValueError: a key stands twice: json would take the last value, and nobody knows which was meant.

    Example:
        >>> import json
        >>> json.loads('{"a": 1, "a": 2}', object_pairs_hook=unique_keys)
        Traceback (most recent call last):
        ValueError: the key 'a' stands there twice
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return values


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
