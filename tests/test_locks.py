"""One process to an output: the second is refused with the id of the first, and a kill leaves no lock."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gram import locks
from gram.errors import OutputError
from gram.locks import locked

HOLD = """
import sys
from pathlib import Path
from gram.locks import locked
with locked(Path(sys.argv[1]), Path("out"), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(path: Path, how: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".out.gram.lock"


def test_the_second_is_refused_and_told_who_the_first_is(path: Path) -> None:
    with (
        holder(path) as first,
        pytest.raises(OutputError, match=rf"output out: process {first.pid} is writing it"),
        locked(path, Path("out")),
    ):
        pass
    assert not path.exists()
    with locked(path, Path("out")) as alone:
        assert alone


def test_a_lock_that_a_kill_left_is_taken_over_and_removed(path: Path) -> None:
    with holder(path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert path.read_text().split()[0] == str(first.pid)
    with locked(path, Path("out")):
        assert path.read_text().split()[0] == str(os.getpid())
    assert not path.exists()


def test_sharers_stand_beside_each_other_but_nobody_else_does(path: Path) -> None:
    with holder(path, "shared"):
        with locked(path, Path("out"), shared=True) as alone:
            assert not alone
        assert path.exists(), "the other one still holds it"
        with pytest.raises(OutputError, match="is writing it"), locked(path, Path("out")):
            pass
    assert not path.exists()
    with holder(path), pytest.raises(OutputError), locked(path, Path("out"), shared=True):
        pass


def test_who_waits_for_a_file_that_its_holder_removes_takes_a_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking the file goes: a lock on a file without a name would protect nothing."""
    taken, lock = [], locks._lock

    def slow(descriptor: int, output: Path, shared: bool) -> bool:
        if not taken:
            path.unlink()
        taken.append(descriptor)
        return lock(descriptor, output, shared)

    monkeypatch.setattr(locks, "_lock", slow)
    with locked(path, Path("out")):
        assert len(taken) == 2 and path.exists()


def test_who_waits_has_it_after_its_holder(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether the holder lets go of it or is killed; stderr names it once."""
    for is_killed in (False, True):
        with holder(path) as first:
            taken = threading.Event()

            def take(taken: threading.Event = taken) -> None:
                with locked(path, Path("out"), wait=True):
                    taken.set()

            waiting = threading.Thread(target=take)
            waiting.start()
            assert not taken.wait(0.2)
            if is_killed:
                first.kill()
            else:
                first.communicate("\n")
            waiting.join(timeout=60)
            assert taken.is_set() and not path.exists()
        told = f"output out: process {first.pid} is writing it; waiting for its end\n"
        assert capsys.readouterr().err == told


def test_an_error_in_the_block_releases_it(path: Path) -> None:
    with pytest.raises(RuntimeError), locked(path, Path("out")):
        raise RuntimeError
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="output out: cannot be written: Not a directory"),
        locked(tmp_path / "file" / ".lock", Path("out")),
    ):
        pass


@pytest.mark.parametrize("reason", ["no fcntl", "no locks on this file system"])
def test_without_locks_the_work_goes_on_and_says_so(
    reason: str, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason == "no fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    else:

        def flock(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", flock)
    with locked(path, Path("out")):
        pass
    assert "start no second run on it" in capsys.readouterr().err
    assert not path.exists()
