"""The commands of docs/serving.md are run as they stand there, and the load benchmark runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import run
from gram.bench.decision import pipeline_is_there
from served import Here, Served, serving

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- run: (\w+) -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def served(judge_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(judge_folder)), names=("judge",)) as server:
        yield server


def test_there_are_commands_for_all() -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert {kind: kinds.count(kind) for kind in kinds} == {"curl": 7, "python": 4, "gram": 1}
    for name in ("TRL", "OpenRLHF", "verl", "Rerank", "Typed questions"):
        assert f"\n## {name}" in PAGE


@pytest.mark.parametrize("place", [k for k, (kind, _) in enumerate(BLOCKS) if kind == "curl"])
def test_a_curl_command(served: Served, place: int) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    command = BLOCKS[place][1].replace(ADDRESS, served.url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert "detail" not in answer and any(
        answer.get(key) for key in ("data", "order", "rewards", "results", "answers")
    )


@pytest.mark.parametrize("place", [k for k, (kind, _) in enumerate(BLOCKS) if kind == "python"])
def test_a_python_example(served: Served, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    if "import cohere" in BLOCKS[place][1]:
        pytest.importorskip("cohere")
    exec(compile(BLOCKS[place][1].replace(ADDRESS, served.url), "docs/serving.md", "exec"), {})
    assert re.search(r"\d", capsys.readouterr().out)


def test_a_command(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("candidates.jsonl").write_text('{"prompt": "why ?", "responses": ["music", "the bread"]}\n')
    [text] = [text for kind, text in BLOCKS if kind == "gram"]
    code, result, err = run(capsys, *text.replace(ADDRESS, served.url).split()[1:])
    assert (code, result["prompts"]) == (0, 1), err
    assert Path("rankings.jsonl").exists()


def test_the_page_names_every_endpoint_metric_and_status(served: Served) -> None:
    _, api = served.get("/openapi.json")
    ours = {path for path in api["paths"] if "{" not in path and path not in ("/v1/score", "/v1/classify")}
    assert all(f"`{path}`" in PAGE or f"8000{path} " in PAGE for path in ours - {"/v1/models"})
    _, text = served.get("/metrics")
    names = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name for name in names if not name.endswith("_created") and f"`{name}" not in PAGE} == set()


@pytest.fixture(scope="module")
def measured(judge_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The numbers of the load benchmark in its smallest setting, and what it prints."""
    output = tmp_path_factory.mktemp("load") / "load.json"
    command = [
        "-m",
        "benchmarks.serve_load",
        "--quick",
        "--questions",
        5,
        "--model",
        judge_folder,
        "--output",
        output,
    ]
    command += [] if pipeline_is_there() else ["--only", "rewards"]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text()), done.stdout


@pytest.mark.slow
def test_the_load_benchmark_runs(measured: tuple[dict[str, Any], str]) -> None:
    """Its rewards are those of the library, and with batching off every batch has one answer."""
    result, table = measured
    assert [row["callers"] for row in result["server"]] == [1, 8, 64, 64]
    assert max(row["largest_difference"] for row in result["server"]) < 1e-5
    assert result["server"][-1]["units_per_batch"] == 1 < result["server"][-2]["units_per_batch"]
    assert table.count("|") > 60


@pytest.mark.slow
@pytest.mark.skipif(not pipeline_is_there(), reason="needs a newer transformers")
def test_it_measures_typed_questions_beside_transformers(measured: tuple[dict[str, Any], str]) -> None:
    """Both servers show the same prompts: the same numbers in one order, and about as many tokens."""
    result, table = measured
    theirs, one, both = result["decisions"]
    assert [row["requests"] for row in (theirs, one, both)] == [64] * 3
    assert theirs["largest_difference"] == 0 and one["largest_difference"] < 1e-5 < both["largest_difference"]
    assert "| transformers serve |" in table and "| gram serve --orders 1 |" in table
