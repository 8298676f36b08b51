"""A minute of ``make kills``: what a kill, a second run or a full disk leaves, the same command mends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kills.harness import Command, Killer, Trial, differences, spread

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_is_lost_doubled_different_or_left() -> None:
    """In a process of its own, which cuts the work of the commands into small pieces."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--short"],
        cwd=ROOT,
        env=environment | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    total = next(line for line in done.stdout.splitlines() if "**all**" in line)
    kills = int(total.split("|")[3])
    assert kills >= 20, total


def test_the_harness_sees_what_is_wrong() -> None:
    found = {"here/out": b"half", "here/.x.gram.tmp": b"", "here": None}
    assert differences(found, {"here/out": b"whole", "here": None, "here/new": b""}) == [
        "here/new is missing",
        "here/.x.gram.tmp is left over",
        "here/out differs",
    ]
    assert list(spread(3, 10)) == [1, 2, 3] and list(spread(101, 3)) == [1, 51, 101]


def test_a_kill_comes_before_the_operation_that_it_names(tmp_path: Path) -> None:
    """``gram report`` over no runs makes its folder, locks it, and lets go: the folder, the lock, flock..."""
    command = Command("report", ("report", "one", "two", "--output", "out"))
    trial = Trial(command, tmp_path)
    whole = trial.run()
    assert whole.code == 1 and whole.operations > 3
    left = []
    for operation in range(1, whole.operations + 1):
        killed = Trial(command, tmp_path)
        assert killed.run(kill_before=operation).code == -9
        left.append(len([name for name in killed.files() if name.startswith("here/out")]))
    assert left[0] == 0 and max(left) == 2, "nothing before the first; then the folder and its lock"
    with pytest.raises(RuntimeError, match="no finished run there"):
        Killer(command, tmp_path)
