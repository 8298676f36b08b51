"""A served model as the model of a command: ``--model http://HOST:PORT``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import make_preferences, run
from gram.cli.options import ModelOptions
from served import TOKEN_OF_TESTS, Here, Served, serving


@pytest.fixture
def served(judge_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(judge_folder), fingerprint="one")) as server:
        yield server


@pytest.fixture
def contests(tmp_path: Path) -> Path:
    file = tmp_path / "contests.jsonl"
    answers = [item.pair.a for item in make_preferences(4, seed=5)]
    rows = [{"prompt": f"what is {k} ?", "responses": answers} for k in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {
            "prompt": item.pair.prompt[-1].content,
            "chosen": item.pair.a,
            "rejected": item.pair.b,
            "id": item.id,
        }
        for item in make_preferences(12, seed=6)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def close(one: Any, other: Any) -> bool:
    """Equal, numbers to 1e-5."""
    match one:
        case dict():
            return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
        case list():
            return len(one) == len(other) and all(map(close, one, other))
        case float():
            return one == pytest.approx(other, abs=1e-5)
    return one == other


@pytest.mark.parametrize("command, rows", [("rank", "contests"), ("score", "pairs"), ("mine", "contests")])
def test_it_writes_what_the_model_here_does(
    command: str,
    rows: str,
    served: Served,
    judge_folder: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = []
    for name, model in (("here", judge_folder), ("there", served.url)):
        output = tmp_path / f"{name}.jsonl"
        source = request.getfixturevalue(rows)
        code, result, err = run(capsys, command, "--model", model, "--input", source, "--output", output)
        assert code == 0, err
        results.append((rows_of(output), result | {"output": "", "seconds": 0}))
    [(here, about_here), (there, about_there)] = results
    assert here and close(here, there)
    assert about_there.pop("tokens", 0) == pytest.approx(about_here.pop("tokens", 0), rel=0.02)
    assert close(about_here, about_there)


def test_eval_of_a_served_model(
    served: Served, judge_folder: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records are those of the model here; the run goes on with the same model, and not with another."""
    records = []
    for name, model in (("here", judge_folder), ("there", served.url)):
        arguments = ["eval", "--model", model, "--data", pairs, "--output", tmp_path / name]
        assert run(capsys, *arguments)[0] == 0
        records.append([{**row, "run": ""} for row in rows_of(tmp_path / name / "records.jsonl")])
    assert len(records[0]) == 12 and close(*records)
    _, result, _ = run(capsys, *arguments)
    assert result["resumed"] == 12
    with serving(Here(gram.load(judge_folder), fingerprint="another")) as other:
        arguments[2] = other.url
        assert run(capsys, *arguments)[1]["resumed"] == 0


def test_what_is_said_where_it_is_served_cannot_be_given(
    served: Served, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["score", "--model", served.url, "--input", pairs, "--output", tmp_path / "x.jsonl"]
    code, _, err = run(capsys, *asked, "--max-length", "100", "--single-order")
    assert code == 1 and err == (
        f"gram score: --max-length, --single-order: how a served model is asked is said where it is served "
        f"({served.url})\n"
    )
    code, _, err = run(capsys, "serve", "--model", served.url)
    assert code == 1 and err == f"gram serve: {served.url} is a server already\n"
    calibrate = ["eval", "--model", served.url, "--calibrate", pairs, "--output", tmp_path / "c"]
    code, _, err = run(capsys, *calibrate)
    assert code == 1 and "give that, not a server" in err and not (tmp_path / "c").exists()


def test_its_token_comes_from_the_environment(
    judge_folder: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    with serving(Here(gram.load(judge_folder)), token=TOKEN_OF_TESTS) as server:
        asked = ["score", "--model", server.url, "--input", pairs, "--output", tmp_path / "x.jsonl"]
        code, _, err = run(capsys, *asked)
        assert code == 1 and "401" in err
        monkeypatch.setenv("GRAM_TOKEN", TOKEN_OF_TESTS)
        assert run(capsys, *asked)[0] == 0


def test_in_several_processes(
    served: Served, contests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a client of its own."""
    options = ModelOptions(model=served.url, workers=2)
    with options.at_work(2) as workers:
        assert list(workers.map(kind_of, [None, None])) == ["judge"] * 2


def kind_of(model: Any, _: None) -> str:
    return model.kind


@pytest.mark.parametrize("command", ["rank", "score", "eval"])
def test_no_torch_is_loaded(
    command: str, served: Served, contests: Path, pairs: Path, tmp_path: Path
) -> None:
    data = ["--data", str(pairs)] if command == "eval" else ["--input", str(contests)]
    arguments = [command, "--model", served.url, *data, "--output", str(tmp_path / "o")]
    code = (
        "import sys; from gram.cli.main import main; "
        f"code = main({arguments!r}); print(sorted({{'torch', 'transformers'}} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr
