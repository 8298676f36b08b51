"""``gram bulk`` on Ray for real: actors and the command itself killed in the middle, and rows that kill.

Slow: Ray takes seconds to start, and each actor loads torch. What needs no Ray is in ``test_bulk``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import make_preferences, run

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow

ACTOR = "ray::MapWorker"
SHARD = 8


def environment(home: Path) -> dict[str, str]:
    """Ray keeps a token in the home folder."""
    source = str(Path(__file__).parents[1] / "src")
    return os.environ | {"HOME": str(home), "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def rows_file(path: Path, count: int) -> Path:
    rows = [
        {
            "id": item.id,
            "prompt": [{"role": turn.role, "content": turn.content} for turn in item.pair.prompt],
            "a": item.pair.a,
            "b": item.pair.b,
        }
        for item in make_preferences(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(model: Path, rows: Path, output: Path, actors: int) -> list[str]:
    options = {"model": model, "input": rows, "output": output, "num-actors": actors, "shard-rows": SHARD}
    flags = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "gram", "bulk", *flags]


def shards_in(output: Path) -> list[Path]:
    return sorted(output.glob("shard-*[0-9].jsonl"))


def started(*arguments: Any, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        *arguments, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_shards(process: subprocess.Popen[str], output: Path, count: int) -> None:
    end = time.monotonic() + 300
    while len(shards_in(output)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def an_actor(process: subprocess.Popen[str]) -> psutil.Process:
    """The oldest one. Once, on a slow machine, there was one more than were asked for."""
    below = psutil.Process(process.pid).children(recursive=True)
    return min((child for child in below if child.name().startswith(ACTOR)), key=psutil.Process.create_time)


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    [line] = out.splitlines()  # whatever Ray says goes to stderr
    return json.loads(line)


def check_rows(output: Path, wanted: list[dict[str, Any]]) -> None:
    """Each row once, and the numbers those of ``gram score``."""
    rows = [json.loads(line) for path in shards_in(output) for line in path.read_text().splitlines()]
    assert sorted(row["row"] for row in rows) == list(range(1, len(wanted) + 1))
    for row in rows:
        same = wanted[row.pop("row") - 1]
        assert row.keys() == same.keys() and row["id"] == same["id"]
        assert row["p_a"] == pytest.approx(same["p_a"], abs=1e-5)
        assert row["log_odds"] == pytest.approx(same["log_odds"], abs=1e-4)
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["complete"] and manifest["scored"] == len(wanted) and manifest["rejected"] == 0


def test_two_actors_of_which_one_is_killed_and_then_the_command_itself(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is lost or doubled: the killed actor's shard is asked again, and a second command, with another
    number of actors, goes on with the shards that the first left. The numbers are those of ``gram score``.
    """
    rows, output = rows_file(tmp_path / "rows.jsonl", 240), tmp_path / "bulk"
    code, _, errors = run(
        capsys, "score", "--model", judge_folder, "--input", rows, "--output", tmp_path / "wanted.jsonl"
    )
    assert code == 0, errors
    wanted = [json.loads(line) for line in (tmp_path / "wanted.jsonl").read_text().splitlines()]

    first = started(command(judge_folder, rows, output, 2), home=tmp_path)
    wait_for_shards(first, output, 1)
    below = psutil.Process(first.pid).children(recursive=True)
    an_actor(first).kill()
    before = len(shards_in(output))
    wait_for_shards(first, output, before + 3)  # the other goes on
    first.send_signal(signal.SIGKILL)
    first.communicate()
    there = {path: path.read_bytes() for path in shards_in(output)}
    assert before < len(there)
    assert not json.loads((output / "manifest.json").read_text())["complete"]

    second = started(command(judge_folder, rows, output, 1), home=tmp_path)
    wait_for_shards(second, output, len(there) + 1)
    an_actor(second).kill()  # now the only one
    result = result_of(second)
    assert (result["rows"], result["rejected"], result["shards"]) == (240, 0, len(shards_in(output)))
    assert result["resumed"] == sum(content.count(b"\n") for content in there.values())
    assert {path: path.read_bytes() for path in there} == there
    check_rows(output, wanted)
    assert not psutil.wait_procs(below, timeout=300)[1]  # Ray's own end with the command that started them


POISON = """
import json, os, sys
from pathlib import Path
from gram.bulk.job import score_in_bulk
from gram.bulk.options import BulkOptions
from gram.data import Scorable
from gram.errors import ScoringError
from gram.types import Answer, as_chat

def load(share):
    return None

def lengths(model, rows):
    texts = [row.item.response for row in rows]
    if "deadly" in texts:
        os._exit(1)
    if "refused" in texts:
        raise ScoringError("is refused")
    return [{"id": row.id, "score": len(row.item.response)} for row in rows]

if __name__ == "__main__":
    texts = ["x" * k for k in range(1, 41)]
    texts[7], texts[30] = "deadly", "refused"
    rows = [Scorable(f"r{k}", Answer(as_chat("why ?"), text)) for k, text in enumerate(texts)]
    output = Path(sys.argv[1])
    output.mkdir()
    options = BulkOptions(output=output, num_actors=2, shard_rows=8)
    done = score_in_bulk(rows, load, lengths, options, {})
    print(json.dumps([done.rows, done.failed, done.shards]))
"""


def test_a_row_over_which_processes_die_goes_to_the_rejects(tmp_path: Path) -> None:
    """And so does one that the model refuses; the rows beside them have their scores."""
    script, output = tmp_path / "poison.py", tmp_path / "out"
    script.write_text(POISON)
    process = started([sys.executable, script, output], home=tmp_path)
    assert result_of(process) == [38, 2, 5]
    rejects = {
        row["id"]: (row["row"], row["reason"])
        for path in output.glob("*.rejects.jsonl")
        for row in map(json.loads, path.read_text().splitlines())
    }
    assert rejects == {"r7": (8, "the process that scored it died"), "r30": (31, "is refused")}
    scored = [json.loads(line) for path in shards_in(output) for line in path.read_text().splitlines()]
    assert {row["row"]: row["score"] for row in scored} == {k: k for k in range(1, 41) if k not in (8, 31)}


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    """The actors tell; here the weights are cut off after the command has looked at the folder's settings."""
    script, output = tmp_path / "broken.py", tmp_path / "out"
    text = POISON.replace("return None", 'raise CheckpointError("the weights are cut off")')
    script.write_text(text.replace("import ScoringError", "import CheckpointError, ScoringError"))
    process = started([sys.executable, script, output], home=tmp_path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and "CheckpointError: the weights are cut off" in errors
    assert not shards_in(output)
