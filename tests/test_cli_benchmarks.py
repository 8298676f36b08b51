"""``gram eval --bench`` and ``gram report`` as commands, with small models and local files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import make_preferences, run
from gram.evaluation import BENCHMARKS, runner
from gram.modeling.manifest import read_manifest
from small_models import mostly_right


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(count: int, seed: int, subset: str = "") -> list[dict[str, Any]]:
    made = make_preferences(count, seed=seed)
    return [
        {"id": f"{seed}-{k}", "prompt": p.pair.prompt[-1].content, "chosen": p.pair.a, "rejected": p.pair.b}
        | ({"subset": subset} if subset else {})
        for k, p in enumerate(made)
    ]


def rows_of(name: str) -> list[dict[str, Any]]:
    """A few rows of each benchmark, in its published form."""
    some = pairs(6, 5)
    a, b = [row["chosen"] for row in some], [row["rejected"] for row in some]
    match name:
        case "rewardbench":
            return pairs(3, 1, "hep-go") + pairs(3, 2, "math-prm")
        case "rewardbench-prior":
            return pairs(3, 1, "hep-go") + pairs(3, 2, "shp")
        case "rewardbench2":
            best = {"id": "7", "prompt": "q ?", "chosen": a[:1], "rejected": b[:3], "subset": "Math"}
            ref = {"id": "ref:1", "prompt": "r ?", "chosen": a[:1], "rejected": b[:2], "subset": "Ties"}
            return [best, ref, ref | {"id": "tied:1", "chosen": a[:2]}]
        case "rm-bench":
            row = {"prompt": "q ?", "chosen": a[:3], "rejected": b[:3]}
            return [row | {"id": 1, "domain": "chat"}, row | {"id": 2, "domain": "safety-refuse"}]
        case "judgebench":
            row = {"source": "mmlu-pro-law", "question": "q ?", "response_model": "gpt-4o", "label": "B>A"}
            return [row | {"pair_id": k, "response_A": b[k], "response_B": a[k]} for k in range(4)]
        case "best-of-k":
            return [{"id": "k", "prompt": "q ?", "responses": [*a[:2], *b[:2]], "scores": [0, 1, 0, 1]}]
        case "hhh":
            return pairs(3, 1, "honest") + pairs(3, 2, "other")
        case _:
            return pairs(3, 1, "Natural") + pairs(3, 2, "Manual")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_from_a_file(
    name: str, judge_folder: Path, scalar_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows_of(name))
    for folder in (judge_folder, scalar_folder):
        output = tmp_path / folder.name
        code, result, err = run(
            capsys, "eval", "--model", folder, "--bench", f"{name}={source}", "--output", output
        )
        assert code == 0, err
        found = json.loads((output / "results.json").read_text(), parse_constant=pytest.fail)
        [part] = found["benchmarks"]
        assert (part["source"], part["benchmark"]) == (name, name)
        assert result["scores"][name] == part["scores"]["score"]
        records = [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]
        assert {record["v"] for record in records} == {1} and {record["source"] for record in records} == {
            name
        }
        assert all((record["scores"] is None) == (folder is judge_folder) for record in records)
        outputs = [json.loads(line) for line in (output / f"{name}_outputs.jsonl").read_text().splitlines()]
        assert {"prompt", "results", "scores_chosen", "scores_rejected", "subset"} <= outputs[0].keys()
        for row in outputs:
            assert row["results"] == (row["scores_chosen"] > row["scores_rejected"])


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    rm = write_rows(tmp_path / "rm.jsonl", rows_of("rm-bench"))
    data = write_rows(tmp_path / "pairs.jsonl", pairs(14, 3))
    return ["--bench", f"rm-bench={rm}", str(data), "--perturb", "markdown"]


FILES = ("records.jsonl", "results.json", "report.md", "report.html", "rm-bench_outputs.jsonl")


@pytest.mark.parametrize("at", [1, 3, 6])
def test_a_killed_run_over_benchmarks_ends_in_the_same_bytes(
    at: int,
    judge_folder: Path,
    two: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """32 comparisons and as many dressed up, in calls of about nine; killed at the given call."""
    evaluate, calls = runner.evaluate, [0]

    def small(workers: Any, items: Any, **keywords: Any) -> Any:
        model = workers.model
        compare = model.compare

        def counted(asked: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                raise KeyboardInterrupt
            return compare(asked)

        model.compare = counted
        return evaluate(workers, items, chunk=9, **keywords)

    monkeypatch.setattr(runner, "evaluate", small)
    command = ["eval", "--model", judge_folder, *two, "--output"]
    assert run(capsys, *command, tmp_path / "killed")[0] == 130
    code, result, _ = run(capsys, *command, tmp_path / "killed")
    assert code == 0 and (result["resumed"] > 0) == (at > 1)
    calls[0] = 100
    assert run(capsys, *command, tmp_path / "whole")[0] == 0
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    before, asked = (tmp_path / "whole" / "results.json").read_bytes(), calls[0]
    (tmp_path / "whole" / "results.json").unlink()
    code, result, _ = run(
        capsys, *command, tmp_path / "whole"
    )  # killed after the last record: nothing to ask
    assert code == 0 and calls[0] == asked and result["resumed"] == result["rows"]
    assert (tmp_path / "whole" / "results.json").read_bytes() == before


def test_shards_merge_into_the_whole_run(
    judge_folder: Path,
    two: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate = runner.evaluate
    monkeypatch.setattr(runner, "evaluate", lambda *a, **k: evaluate(*a, chunk=9, **k))
    command = ["eval", "--model", judge_folder, *two, "--output"]
    assert run(capsys, *command, tmp_path / "whole")[0] == 0
    copied = shutil.copytree(judge_folder, tmp_path / "copied", copy_function=shutil.copy)  # of other times
    other = ["eval", "--model", copied, *two, "--output", tmp_path / "parts"]
    code, result, _ = run(capsys, *other, "--shard", "2/2")
    assert code == 0 and result["waiting_for"] == ["records-1-of-2.jsonl"]
    assert not (tmp_path / "parts" / "results.json").exists()
    code, result, err = run(capsys, *command, tmp_path / "parts", "--shard", "1/2")
    assert code == 0 and "scores" in result, err
    for name in FILES:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    code, _, err = run(capsys, *command, tmp_path / "parts", "--shard", "3/2")
    assert code == 1 and "--shard 3/2" in err


def test_shards_merge_where_an_id_holds_a_line_separator(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python ends a line of text at U+2028 and U+0085; JSON Lines do not, and leave both as they are."""
    rows = pairs(3, 1, "part\u0085one")
    rows[1]["id"] = "a\u2028b"
    source = write_rows(tmp_path / "pairs.jsonl", rows)
    command = ["eval", "--model", judge_folder, "--data", source, "--output"]
    assert run(capsys, *command, tmp_path / "whole")[0] == 0
    for shard in ("1/2", "2/2"):
        code, _, err = run(capsys, *command, tmp_path / "parts", "--shard", shard)
        assert code == 0, err
    assert (tmp_path / "parts" / FILES[0]).read_bytes() == (tmp_path / "whole" / FILES[0]).read_bytes()


def test_the_page_stands_alone(
    judge_folder: Path, two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is inside: no address but those of embedded pictures; text from data is escaped."""
    evil = write_rows(tmp_path / "evil.jsonl", pairs(3, 8, "<script>alert(1)</script>") + pairs(3, 9, "b"))
    command = ["eval", "--model", judge_folder, *two[:3], str(evil), "--output", tmp_path / "out"]
    assert run(capsys, *command)[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    addresses = re.findall(r"""(?:src|href)=["']?([^"'> ]+)""", page)
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "<script" not in page and "&lt;script&gt;" in page and "http" not in page
    pytest.importorskip("matplotlib")
    assert len(addresses) == 4


def test_calibration_is_stored_and_applied(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ``--calibrate`` the loaded model's log-odds are those of before over the temperature.

    With a template of its own choice it is another judge, and gets none, which is said before it is asked.
    Fitting again finds the same; from records on file, as a kill before storing leaves them, too.
    """
    folder = shutil.copytree(judge_folder, tmp_path / "judge")
    data = write_rows(tmp_path / "pairs.jsonl", mostly_right(folder, pairs(20, 3)))
    asked = [p.pair for p in make_preferences(4, seed=1)]
    before = gram.load(folder).compare(asked).log_odds
    uncalibrated = (folder / "gram.json").read_text()
    command = ["eval", "--model", folder, "--calibrate", data, "--output"]
    code, result, err = run(capsys, *command, tmp_path / "out")
    assert code == 0, err
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.calibration["temperature"] == result["temperature"]
    assert result["log_loss_after"] <= result["log_loss_before"]
    after = gram.load(folder).compare(asked).log_odds
    assert after * result["temperature"] == pytest.approx(before)
    other = gram.load(folder, template="default")
    assert other.temperature == 1.0
    code, again, _ = run(capsys, *command, tmp_path / "again")
    assert again["temperature"] == pytest.approx(result["temperature"])
    (folder / "gram.json").write_text(uncalibrated)
    code, kept, _ = run(capsys, *command, tmp_path / "out")
    assert code == 0 and kept["temperature"] == result["temperature"]
    assert read_manifest(folder) == manifest
    (folder / "gram.json").write_text(uncalibrated)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "run.yaml"
    file.write_text(f"model: ~/judge\ncalibrate: {data}\noutput: ~/out\n")
    assert run(capsys, "eval", "--config", file)[0] == 0 and read_manifest(folder) == manifest
    raw = ["eval", "--model", folder, "--template", "default", "--calibrate", data]
    code, _, err = run(capsys, *raw, "--output", tmp_path / "raw")
    assert code == 1 and "than trained" in err
    assert not (tmp_path / "raw" / "records.jsonl").exists()


def test_calibrating_counts_the_prompts_that_were_cut(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of 20 questions are longer than the judge's 512 tokens; the records on file say so too."""
    folder = shutil.copytree(judge_folder, tmp_path / "judge")
    rows = pairs(20, 3)
    for row in rows[:3]:
        row["prompt"] += " word" * 600
    data = write_rows(tmp_path / "pairs.jsonl", mostly_right(folder, rows))
    uncalibrated = (folder / "gram.json").read_text()
    for _ in range(2):
        (folder / "gram.json").write_text(uncalibrated)
        code, result, err = run(
            capsys, "eval", "--model", folder, "--calibrate", data, "--output", tmp_path / "out"
        )
        assert code == 0 and result["truncated_prompts"] == 3, err


def test_runs_side_by_side(
    judge_folder: Path,
    scalar_folder: Path,
    two: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in (judge_folder, scalar_folder):
        assert run(capsys, "eval", "--model", folder, *two, "--output", tmp_path / folder.name)[0] == 0
    runs = [tmp_path / "judge", tmp_path / "scalar"]
    code, result, err = run(capsys, "report", *runs, "--output", tmp_path / "both")
    assert code == 0, err
    accuracy = [json.loads((r / "results.json").read_text())["overall"]["accuracy"]["value"] for r in runs]
    assert result["differences"]["scalar"]["difference"] == pytest.approx(accuracy[1] - accuracy[0])
    page = (tmp_path / "both" / "report.html").read_text()
    assert "rm-bench" in page and "McNemar" in page
    assert (tmp_path / "both" / "report.md").read_text().count("\n| scalar |") == 3

    limited = ["eval", "--model", judge_folder, *two, "--max-per-source", "2", "--output", tmp_path / "less"]
    assert run(capsys, *limited)[0] == 0
    code, _, err = run(capsys, "report", runs[0], tmp_path / "less", "--output", tmp_path / "x")
    assert code == 1 and "cannot compare judge and less over" in err
    hhh = ["eval", "--model", judge_folder, *two[:2], "--output", tmp_path / "other"]
    assert run(capsys, *hhh)[0] == 0
    code, _, err = run(capsys, "report", runs[0], tmp_path / "other", "--output", tmp_path / "x")
    assert code == 1 and "one is over rm-bench, pairs" in err
    assert not (tmp_path / "x").exists()


def test_what_cannot_work_is_said(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_rows(tmp_path / "good.jsonl", pairs(3, 1))
    empty = write_rows(tmp_path / "empty.jsonl", [])
    lacking = write_rows(
        tmp_path / "lacking.jsonl", [{"prompt": "q", "chosen": ["a"], "subset": "Math", "id": 1}]
    )
    equal = {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 1, 1]}
    level = write_rows(tmp_path / "level.jsonl", [equal, equal])
    template = tmp_path / "template.json"
    text = "{prompt}\n{a}\n{b}\n"
    template.write_text(json.dumps({"name": "t", "text": text, "labels": ["first answer", "second answer"]}))
    base = ["eval", "--model", judge_folder, "--output", tmp_path / "out"]
    for arguments, said in [
        ([], "--bench"),
        (["--bench", empty], "empty.jsonl: holds no rows"),
        (["--bench", "rewardbnech"], "no such benchmark"),
        (["--bench", f"rewardbench2={lacking}"], "lacking.jsonl:1: field 'rejected': missing"),
        (["--bench", good, f"best-of-k={level}"], "level.jsonl: nothing to measure"),
        (["--bench", good, "--template", template], "must be one token"),
        (["--bench", good, "--perturb", "glitter"], "no perturbation 'glitter'"),
        (["--bench", good, "--max-per-source", "0"], "max_per_source must be at least 1"),
        (["--calibrate", good, "--bench", good], "--calibrate takes one file"),
    ]:
        code, result, err = run(capsys, *base, *arguments)
        assert code == 1 and not result and said in err, (arguments, err)
        assert not (tmp_path / "out" / "records.jsonl").exists(), "it was asked for nothing"
    code, _, err = run(capsys, "report", tmp_path / "nothing", tmp_path / "none", "--output", tmp_path / "x")
    assert code == 1 and "no finished run" in err
    code, _, err = run(capsys, "report", "--output", tmp_path / "x")
    assert code == 1 and "two runs or more" in err
