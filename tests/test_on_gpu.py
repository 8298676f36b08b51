"""The script for a GPU on loan: it runs as it stands on a CPU, and no part can stop the others. No speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from benchmarks.gpu import Part, parts, run, summary

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_dry_run(tmp_path: Path) -> None:
    """All parts end well; the table comes last, with a line per workload, step and size of a call."""
    done = script("--dry-run", OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.rstrip().splitlines()
    table = lines[lines.index("| part | outcome | seconds | figures |") :]
    ends = [[cell.strip() for cell in line.split("|")[1:3]] for line in table[2:]]
    assert [name for name, words in ends if words == "done"] == [
        "score 0.6b",
        "train 0.6b",
        "latency 0.6b",
        "CUDA tests",
    ]
    assert all(words in ("done", "") for _, words in ends)
    text = "\n".join(table)
    for words in ("W1: ", "W4 n=3: ", "stage 2, LoRA: ", "stage 1: ", "calls of 2: ", "48 skipped"):
        assert words in text
    assert text.count("% of torch.mm") == 7  # four workloads and three steps
    assert text.count("times ours: unfused ") == 7
    assert text.count("; unfused ") == 2  # sizes of a call
    assert (tmp_path / "out" / "tables.md").read_text(encoding="utf-8").strip() == done.stdout.strip()
    [row, *_] = json.loads((tmp_path / "out" / "score-0.6b.json").read_text(encoding="utf-8"))["rows"]
    assert abs(row["tokens"]["prompts"] / row["prompts"] - 300) < 60


def test_a_part_that_fails_or_hangs_is_named(tmp_path: Path) -> None:
    """What an earlier run has left is not taken for the result of this one."""
    old = tmp_path / "old.json"
    old.write_text('{"rows": []}', encoding="utf-8")
    fails = Part("one", ["-c", "import sys; print('mend | me'); sys.exit(3)"], 20, old)
    hangs = Part("two", ["-c", "import time; time.sleep(60)"], 1)
    good = Part("three", ["-c", "print('fine')"], 20)
    outcomes = [run(part, part.limit, tmp_path) for part in (fails, hangs, good)]
    outcomes.append(run(good, -2.0, tmp_path))
    assert [outcome.words for outcome in outcomes] == [
        "failed with 3: mend / me",
        "stopped after 1 s",
        "done",
        "not run: no time left",
    ]
    assert not old.exists()
    assert summary(outcomes).splitlines()[-1] == "| three | not run: no time left | 0 |  |"


def test_tests_that_ended_before_the_limit_are_counted(tmp_path: Path) -> None:
    text = "tests/a.py::test_x[1] PASSED   [ 50%]\ntests/a.py::test_x[2] FAILED   [100%]"
    outcome = run(Part("tests", ["-c", f"print({text!r})"], 20), 20, tmp_path)
    assert outcome.figures == "1 failed, 1 passed"


def test_the_parts_fit_into_their_time(tmp_path: Path) -> None:
    """Before the tests, which take what is left of 470 seconds; both models, and nothing heavy in fp32."""
    *measured, tests = parts("cuda", False, tmp_path)
    assert [part.name.split()[0] for part in measured] == ["score", "train", "latency"] * 2
    assert sum(part.limit for part in measured) <= 470 - 60
    assert any(Path(argument).name == "test_engine_attention.py" for argument in tests.command)
    for part in measured:
        assert "fp32" not in part.command and "cuda" in part.command


def test_requirements() -> None:
    """All that the package needs, TRL, and what the CUDA tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = script("--requirements").stdout.split("\n")
    assert set(project["dependencies"]) < set(listed)
    assert {name.split(">")[0] for name in listed} >= {"torch", "trl", "pytest", "hypothesis"}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    assert "unknown argument --fast" in script("--fast").stderr
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    bare.chmod(0o755)
    done = script(PYTHON=str(bare), WHEELS="")
    assert done.returncode == 1 and "lacks packages: name a folder of wheels" in done.stderr
