"""How a run stops that cannot go on: one line, an exit code, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import make_preferences, run

INTERRUPT = """
import os, signal, sys
module, done = sys.argv.pop(1), []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module and not done:
            done.append(name)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from gram.__main__ import entry
sys.exit(entry())
"""


def gram(*arguments: object, stdout: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    """``python -m gram``."""
    command = [sys.executable, "-m", "gram", *map(str, arguments)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    contests = [{"prompt": "q", "responses": [x.pair.a, x.pair.b]} for x in make_preferences(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in contests), encoding="utf-8")
    return file


@pytest.mark.parametrize("module", ["gram.cli.main", "numpy", "gram.errors", "gram.cli.score", "tyro"])
def test_an_interrupt_while_the_imports_run_is_no_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT, module, "score", "--model", "x", "--input", "y", "--output", "z"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.endswith("interrupted\n") and len(done.stderr.splitlines()) == 1, done.stderr


def test_importing_gram_loads_nothing_that_could_be_interrupted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, gram.__main__; print([m for m in sys.modules if 'numpy' in m])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads: ``| head -1``, after its line."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["score", "--help"]])
@pytest.mark.parametrize("reason", ["Broken pipe", "No space left on device"])
def test_a_stdout_that_takes_nothing_is_one_line(arguments: list[str], reason: str) -> None:
    full = reason.startswith("No space")
    if full and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    stdout = os.open("/dev/full", os.O_WRONLY) if full else closed_pipe()
    done = gram(*arguments, stdout=stdout)
    os.close(stdout)
    assert done.returncode == 1
    assert done.stderr.startswith("gram") and done.stderr.endswith(f": {reason}\n")
    assert len(done.stderr.splitlines()) == 1


def test_rankings_for_a_reader_that_went_away(judge_folder: Path, rows: Path) -> None:
    stdout = closed_pipe()
    done = gram("rank", "--model", judge_folder, "--input", rows, stdout=stdout)
    os.close(stdout)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "gram rank: stdout: Broken pipe"


def test_closed_streams_are_none_of_our_business(judge_folder: Path, rows: Path, tmp_path: Path) -> None:
    """As a daemon starts it: without stdout and stderr the work is done all the same."""
    output = tmp_path / "out.jsonl"
    line = f"{sys.executable} -m gram score --model {judge_folder} --input {rows} --output {output} >&- 2>&-"
    assert subprocess.run(line, shell=True, check=False).returncode == 0
    assert len(output.read_text().splitlines()) == 6


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    size: int, judge_folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file can grow beyond ``size`` bytes: the lock, the header, or the rows have no room."""
    output = tmp_path / "out" / "scores.jsonl"
    flags = ["rank", "--model", judge_folder, "--input", rows, "--output", output]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        code, _, said = run(capsys, *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and "File too large" in said.splitlines()[-1]
    assert not output.exists() and not list(output.parent.glob(".*"))
    assert run(capsys, *flags)[0] == 0
    assert [path.name for path in output.parent.iterdir()] == ["scores.jsonl"]


@pytest.mark.parametrize(
    "line",
    [
        "score --model none --input rows.jsonl --output out.jsonl",
        "rank --model none --input rows.jsonl --output out.jsonl",
        "mine --model none --input rows.jsonl --output out.jsonl",
        "eval --model none --data rows.jsonl --output out",
        "train --model none --data rows.jsonl --output out",
        "adapt --model none --data rows.jsonl --output out",
        "report one two --output out",
        "bench score --output out.json",
        "demo --output out",
    ],
)
@pytest.mark.parametrize("reason", [errno.EACCES, errno.EROFS])
def test_a_place_that_cannot_be_written_is_found_before_any_work(
    line: str,
    reason: int,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A superuser may write anywhere, so the system's refusal is played: the first file is the lock."""
    monkeypatch.chdir(rows.parent)
    opened = os.open

    def refusing(path: Any, flags: int, *rest: int, **more: Any) -> int:
        if flags & os.O_CREAT and str(path).endswith(".gram.lock"):
            raise OSError(reason, os.strerror(reason), str(path))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    code, _, said = run(capsys, *line.split())
    output = line.split()[-1]
    assert code == 1
    assert said.endswith(f"output {output}: cannot be written: {os.strerror(reason)}\n"), said
    assert [path.name for path in rows.parent.iterdir()] == ["rows.jsonl"]


def test_a_second_run_is_told_who_the_first_is(judge_folder: Path, rows: Path, tmp_path: Path) -> None:
    """The first is stopped while it holds the lock; then it ends as if nothing had been."""
    output = tmp_path / "out.jsonl"
    command = ["score", "--model", str(judge_folder), "--input", str(rows), "--output", str(output)]
    with subprocess.Popen([sys.executable, "-m", "gram", *command], stdout=subprocess.DEVNULL) as first:
        lock = tmp_path / ".out.jsonl.gram.lock"
        while not (lock.exists() and lock.read_text()):
            assert first.poll() is None
        first.send_signal(signal.SIGSTOP)
        second = gram(*command)
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == (
        f"gram score: output {output}: process {first.pid} is writing it; "
        "wait for its end, or name another output"
    )
    assert first.returncode == 0 and len(output.read_text().splitlines()) == 6
    assert not list(tmp_path.glob(".*"))
