"""One process to an output: a lock that the system releases when its holder dies. Knows no command.

The lock is a small hidden file beside or inside the output, held with ``flock`` by one descriptor; its text
names the holder. A file that a killed process left is taken over, and removed at the end.

Where there is no ``flock`` (Windows, some network file systems) nothing is locked, and stderr says so: to
refuse the work there would help nobody.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gram.errors import OutputError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

_TRIES, _PAUSE = 50, 0.01  # times, and seconds between them
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(path: Path, output: Path, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file ``path`` during the block; gives whether nobody else held it when it began.

    Args:
        path: the lock file; its folder exists.
        output: what the lock is for, as errors name it.
        shared: others may hold it in the same way (the shards of a run), but nobody alone.
        wait: for the end of another holder, which stderr names, instead of an error.

    Raises:
        OutputError: another process holds it (the message has its id), or the file cannot be written.

    Example:
        >>> with locked(Path(".scores.gram.lock"), Path("scores")) as alone:
        ...     alone, Path(".scores.gram.lock").exists()
        (True, True)
        >>> Path(".scores.gram.lock").exists()
        False
    """
    descriptor, alone = _take_in_turn(path, output, shared) if wait else _take(path, output, shared)
    try:
        yield alone
    finally:
        _release(path, descriptor)


class _HeldError(OutputError):
    """Another process holds the lock."""


def _take_in_turn(path: Path, output: Path, shared: bool) -> tuple[int, bool]:
    told = False
    while True:
        try:
            return _take(path, output, shared)
        except _HeldError as error:
            if not told:
                print(f"{error.args[0].partition(';')[0]}; waiting for its end", file=sys.stderr)
                told = True
        with contextlib.suppress(FileNotFoundError):  # its holder has removed it
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)  # type: ignore[union-attr]  # it was held by this
            finally:
                os.close(descriptor)


def _take(path: Path, output: Path, shared: bool) -> tuple[int, bool]:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise OutputError(f"output {output}: cannot be written: {error.strerror}") from error
        try:
            alone = _lock(descriptor, output, shared)
            if _is(path, descriptor):  # else its holder removed it between our two steps
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return descriptor, alone
        except OSError as error:
            _release(path, descriptor)
            raise OutputError(f"output {output}: cannot be written: {error.strerror}") from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, output: Path, shared: bool) -> bool:
    """Lock an open file, or say who has; whether we are the only holder."""
    if fcntl is None:
        print(f"output {output}: this system has no file locks; start no second run on it", file=sys.stderr)
        return True
    try:
        for _ in range(_TRIES if shared else 1):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if shared:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
            if shared:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return False
                time.sleep(_PAUSE)  # another sharer may hold it alone for the moment of its own first step
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"output {output}: its file system has no locks; start no second run on it", file=sys.stderr)
        return True
    raise _HeldError(
        f"output {output}: {_holder(descriptor)} is writing it; wait for its end, or name another output"
    )


def _holder(descriptor: int) -> str:
    """Who holds the lock; it writes its id a moment after it has it."""
    text = b""
    for _ in range(_TRIES):
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, 300)
        if text.endswith(b"\n"):
            break
        time.sleep(_PAUSE)
    process, _, host = text.decode(errors="replace").strip().partition(" ")
    return f"process {process or 'of unknown id'}" + (f" on {host}" if host != socket.gethostname() else "")


def _release(path: Path, descriptor: int) -> None:
    """Remove the file, unless others share the lock or it is no longer ours; then let go."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = _is(path, descriptor)
    except BlockingIOError:
        is_ours = False
    except OSError:
        is_ours = True
    with contextlib.suppress(OSError):
        if is_ours:
            path.unlink()
    os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    """Whether the name still stands for the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
