"""One report with four judges: ours, a remote one, a scalar classifier, DPO's implicit reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import make_preferences, run
from fake_servers import Fake, log_odds, running
from gram.rendering import load_template
from gram.scoring.remote.prompts import shown_text

ROWS = [item for item in make_preferences(24, seed=9) if item.p_a != 0.5]


def test_four_judges_in_one_report(
    judge_folder: Path,
    likelihood_folder: Path,
    scalar_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``gram eval`` four times with the same data, then ``gram report``.

    DPO's implicit reward is the sum of an answer's token log-probabilities under a model minus that under its
    reference; two models that are scored one by one give it again.
    """
    data = tmp_path / "pairs.jsonl"
    rows = []
    for item in ROWS:
        better, worse = (item.pair.a, item.pair.b) if item.p_a > 0.5 else (item.pair.b, item.pair.a)
        prompt = [{"role": turn.role, "content": turn.content} for turn in item.pair.prompt]
        rows.append({"id": item.id, "prompt": prompt, "chosen": better, "rejected": worse})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running(Fake()) as fake:
        runs: dict[str, tuple[Any, ...]] = {
            "ours": (judge_folder,),
            "remote": (f"openai:judge@{fake.v1}", "--cache", tmp_path / "answers.sqlite"),
            "scalar": (scalar_folder,),
            "dpo": (likelihood_folder, "--kind", "likelihood", "--reference", judge_folder),
        }
        for name, (model, *more) in runs.items():
            command = ("eval", "--model", model, "--data", data, "--output", tmp_path / name, *more)
            code, _, err = run(capsys, *command)
            assert code == 0, (name, err)
    folders = [tmp_path / name for name in runs]
    code, result, err = run(capsys, "report", *folders, "--output", tmp_path / "report")
    assert code == 0, err
    assert list(result["scores"]) == ["ours", "remote", "scalar", "dpo"]
    assert list(result["differences"]) == ["remote", "scalar", "dpo"]
    page = (tmp_path / "report" / "report.html").read_text()
    table = (tmp_path / "report" / "report.md").read_text()
    assert all(name in page and name in table for name in runs)
    records = {name: read(tmp_path / name) for name in runs}
    assert [len(found) for found in records.values()] == [len(ROWS)] * 4
    both = [tuple(shown_text(x, load_template(None), True) for x in shown(row)) for row in rows]
    told = [[log_odds(one), -log_odds(other)] for one, other in both]
    assert [record["log_odds"] for record in records["remote"]] == [pytest.approx(pair) for pair in told]
    model: Any = gram.load(likelihood_folder, kind="likelihood", length_power=0.0)
    base: Any = gram.load(judge_folder, kind="likelihood", length_power=0.0)
    prompts = [row["prompt"] for row in rows]
    for place, key in enumerate(("chosen", "rejected")):
        answers = [row[key] for row in rows]
        implicit = model.score(prompts, answers) - base.score(prompts, answers)
        found = [record["scores"][place] for record in records["dpo"]]
        assert found == pytest.approx(implicit.tolist(), abs=1e-3)


def shown(row: dict[str, Any]) -> tuple[gram.Pair, gram.Pair]:
    pair = gram.Pair(row["prompt"], row["chosen"], row["rejected"])
    return pair, pair.swapped()


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
