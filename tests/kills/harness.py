"""Commands of gram, killed: at random moments, before every file operation, two at once, on a full disk.

A process that has imported everything forks a child for each run, which takes a fraction of a second. In the
child an audit hook counts the operations on files below the folder of the trial (open for writing, rename,
link, remove, make and remove folders, truncate) and, with ``os.fsync`` and ``flock``, kills it before one of
them. What it left is then compared with what an uninterrupted run leaves, byte by byte, after the same
command was given again.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gram.files import is_ours

_WATCHED = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Command:
    """One command line, and the folder as it is before it runs (None: empty).

    Attributes:
        keeps_the_old: whether an older model in the output stays until the new one takes its place.
        real: run it as ``python -m gram``, imports and all; then no file operations are counted.
    """

    name: str
    arguments: tuple[str, ...]
    before: Path | None = None
    output: str = "out"
    keeps_the_old: bool = False
    real: bool = False


@dataclass(frozen=True)
class Ended:
    """How a run ended: its code (negative: killed by that signal), what it said, how long it took."""

    code: int
    out: str
    err: str
    seconds: float
    operations: int

    @property
    def finished(self) -> bool:
        """Whether its result was told; a kill after that is no kill."""
        return self.out.endswith("}\n")


@dataclass
class Run:
    """A child that runs a command."""

    pid: int
    out: int
    err: int
    counted: int
    began: float = field(default_factory=time.monotonic)

    def wait(self) -> Ended:
        """Until it ends; all pipes are small enough to be read afterwards."""
        texts = [_read(pipe) for pipe in (self.out, self.err, self.counted)]
        _, status = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self.began
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, texts[0], texts[1], seconds, texts[2].count("."))

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def start(
    command: Command, folder: Path, *, kill_before: int | None = None, largest_file: int | None = None
) -> Run:
    """Run ``command`` in ``folder``.

    Args:
        kill_before: number of the file operation, from 1, before which the process dies.
        largest_file: bytes beyond which no file can grow: a disk that is full.
    """
    pipes = [os.pipe() for _ in range(3)]
    pid = os.fork()
    if pid:
        for _, end in pipes:
            os.close(end)
        return Run(pid, *(beginning for beginning, _ in pipes))
    try:
        code = _child(command, folder, [end for _, end in pipes], kill_before, largest_file)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _child(
    command: Command, folder: Path, ends: Sequence[int], kill_before: int | None, largest_file: int | None
) -> int:
    from gram.cli.main import main

    os.dup2(ends[0], 1)
    os.dup2(ends[1], 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    os.chdir(folder / "here")
    tempfile.tempdir = str(folder / "temporary")
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    if command.real:
        environment = os.environ | {"TMPDIR": str(tempfile.tempdir)}
        os.execve(sys.executable, [sys.executable, "-m", "gram", *command.arguments], environment)
    _watch(str(folder), ends[2], kill_before)
    return main(list(command.arguments))


def _watch(folder: str, counted: int, kill_before: int | None) -> None:
    """Count file operations below ``folder`` from now on: a dot for each goes to ``counted``."""
    count = 0

    def operation() -> None:
        nonlocal count
        count += 1
        if count == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counted, b".")

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _WATCHED or not arguments or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
            return
        if os.path.realpath(os.fsdecode(arguments[0])).startswith(folder):
            operation()

    def counting(function: Callable[..., None]) -> Callable[..., None]:
        def counted_function(*arguments: object) -> None:
            operation()
            function(*arguments)

        return counted_function

    import fcntl

    os.fsync, fcntl.flock = counting(os.fsync), counting(fcntl.flock)
    sys.addaudithook(hook)


def _read(pipe: int) -> str:
    parts = []
    while part := os.read(pipe, 1 << 16):
        parts.append(part)
    os.close(pipe)
    return b"".join(parts).decode(errors="replace")


class Trial:
    """A fresh folder in which a command runs, is stopped, and runs again."""

    def __init__(self, command: Command, place: Path) -> None:
        self.command = command
        self.folder = Path(tempfile.mkdtemp(dir=place))
        (self.folder / "temporary").mkdir()
        if command.before is None:
            (self.folder / "here").mkdir()
        else:
            shutil.copytree(command.before, self.folder / "here")

    def run(self, **how: int | None) -> Ended:
        return start(self.command, self.folder, **how).wait()

    def files(self) -> dict[str, bytes | None]:
        """Everything that is there, folders (None) and temporary files included."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
        }

    def end(self) -> None:
        shutil.rmtree(self.folder)


@dataclass
class Tally:
    """What a series of kills came to; ``faults`` says in words what was wrong."""

    kills: int = 0
    finished: int = 0
    refused: int = 0
    full: int = 0
    faults: list[str] = field(default_factory=list)


def differences(found: dict[str, bytes | None], expected: dict[str, bytes | None]) -> list[str]:
    """What is missing, too much or different, in words."""
    return [
        *(f"{name} is missing" for name in expected.keys() - found.keys()),
        *(f"{name} is left over" for name in found.keys() - expected.keys()),
        *(f"{name} differs" for name in expected.keys() & found.keys() if found[name] != expected[name]),
    ]


class Killer:
    """One command, its uninterrupted run, and everything that can happen to it."""

    def __init__(self, command: Command, place: Path) -> None:
        self.command, self.place = command, place
        self.tally = Tally()
        trial = Trial(command, place)
        self.before = trial.files()
        whole = trial.run()
        if whole.code != 0:
            raise RuntimeError(f"{command.name}: {whole.err}")
        self.seconds, self.operations = whole.seconds, whole.operations
        self.expected = trial.files()
        trial.end()

    def kill_before(self, operation: int) -> None:
        """Die before a file operation, and go on."""
        trial = Trial(self.command, self.place)
        self._go_on(trial, trial.run(kill_before=operation), f"killed before operation {operation}")

    def kill_after(self, seconds: float) -> None:
        """Die at a moment, and go on."""
        trial = Trial(self.command, self.place)
        run = start(self.command, trial.folder)
        time.sleep(seconds)
        run.kill()
        self._go_on(trial, run.wait(), f"killed after {seconds:.3f} s")

    def fill_disk(self, largest_file: int) -> None:
        """Meet a full disk: one line, no traceback, nothing half-written; then go on with room."""
        trial = Trial(self.command, self.place)
        ended = trial.run(largest_file=largest_file)
        how = f"no file above {largest_file} bytes"
        if ended.code == 0:
            trial.end()
            return
        self.tally.full += 1
        lines = ended.err.strip().splitlines()  # warnings of other kinds may stand before
        if ended.code != 1 or "Traceback" in ended.err or not lines[-1].startswith("gram "):
            self.tally.faults.append(f"{self.command.name}: {how}: exit {ended.code}: {ended.err}")
        self._repeat(trial, how)

    def two_at_once(self, moment: float) -> None:
        """A second run while the first one stands still: refused, with the id of the first."""
        trial = Trial(self.command, self.place)
        first = start(self.command, trial.folder)
        time.sleep(moment)
        os.kill(first.pid, signal.SIGSTOP)
        has_begun = any(is_ours(Path(name).name) for name in trial.files())
        second = trial.run() if has_begun else None
        os.kill(first.pid, signal.SIGCONT)
        ended = first.wait()
        if second is not None:
            self.tally.refused += 1
            if second.code != 1 or f"process {first.pid} is writing it" not in second.err:
                self.tally.faults.append(
                    f"{self.command.name}: a second run: exit {second.code}: {second.err}"
                )
        if ended.code != 0:
            self.tally.faults.append(f"{self.command.name}: the first of two: exit {ended.code}: {ended.err}")
        else:
            self._compare(trial, "beside a second run")
        trial.end()

    def _go_on(self, trial: Trial, ended: Ended, how: str) -> None:
        if ended.code == 0 or ended.finished:
            self.tally.finished += 1
            trial.end()
            return
        self.tally.kills += 1
        if ended.code != -signal.SIGKILL:
            self.tally.faults.append(f"{self.command.name}: {how}: exit {ended.code}: {ended.err}")
        self._repeat(trial, how)

    def _repeat(self, trial: Trial, how: str) -> None:
        self._is_whole(trial, how)
        again = trial.run()
        if again.code != 0:
            self.tally.faults.append(f"{self.command.name}: {how}, again: exit {again.code}: {again.err}")
        else:
            self._compare(trial, how)
        trial.end()

    def _compare(self, trial: Trial, how: str) -> None:
        for difference in differences(trial.files(), self.expected):
            self.tally.faults.append(f"{self.command.name}: {how}: {difference}")

    def _is_whole(self, trial: Trial, how: str) -> None:
        """What has its final name is the old file or the new one; of a model folder all of them are."""
        found = trial.files()
        wrong = [
            name
            for name, content in found.items()
            if content is not None
            and not any(is_ours(part) for part in Path(name).parts)
            and not any(
                part in ("checkpoints", "gram-train.json") or part.endswith(".partial")
                for part in Path(name).parts
            )
            and content not in (self.before.get(name), self.expected.get(name))
        ]
        self.tally.faults += [f"{self.command.name}: {how}: half of {name}" for name in wrong]
        manifest = f"here/{self.command.output}/gram.json"
        must_be_there = self.command.keeps_the_old and manifest in self.before
        if manifest in found or must_be_there:  # then a model is whole: the old one or the new one
            states = [self._model(files) for files in (found, self.before, self.expected)]
            if states[0] not in states[1:]:
                self.tally.faults.append(f"{self.command.name}: {how}: neither the old model nor the new one")

    def _model(self, files: dict[str, bytes | None]) -> dict[str, bytes | None]:
        folder = f"here/{self.command.output}"
        inside = {name: content for name, content in files.items() if str(Path(name).parent) == folder}
        return {
            name: content
            for name, content in inside.items()
            if content is not None and not is_ours(Path(name).name) and Path(name).name != "gram-train.json"
        }


def spread(count: int, most: int) -> Iterator[int]:
    """Numbers from 1 to ``count``: all, or ``most`` of them, evenly spread with both ends."""
    if count <= most:
        yield from range(1, count + 1)
    else:
        yield from sorted({1 + round(k * (count - 1) / max(1, most - 1)) for k in range(most)})
