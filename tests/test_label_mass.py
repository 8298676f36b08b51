"""Label mass: the probability of a judge's two labels together, in every result of a judge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import run
from gram import Pair
from gram.evaluation import Record, summarize
from gram.rendering import JudgeTemplate
from gram.report.markdown import markdown
from gram.scoring.ensemble import JudgeEnsemble
from gram.scoring.judge import JudgeModel, LabelLogprobs
from gram.types import Usage

TEMPLATE = JudgeTemplate("short", "{prompt} {a} {b} ", ("A", "B"))


class Fixed:
    """A backend that gives A and B the same two probabilities in every prompt."""

    def __init__(self, first: float, second: float) -> None:
        self.probabilities = [first, second]

    def label_logprobs(self, pairs: Any, template: JudgeTemplate) -> LabelLogprobs:
        return LabelLogprobs(np.log(np.tile(self.probabilities, (len(pairs), 1))), Usage(tokens=len(pairs)))

    def tokens_cut(self, pairs: Any) -> None:
        return None


def test_the_mean_over_all_prompts_of_a_judge() -> None:
    """Three pairs in both orders: six prompts of mass 0.6 + 0.2; two judges of 0.8 and 0.4 together: 0.6."""
    judge = JudgeModel(Fixed(0.6, 0.2), TEMPLATE)
    assert judge.usage.label_mass is None
    verdicts = judge.compare([Pair("Which?", "this", "that")] * 3)
    assert verdicts.usage.label_mass == judge.usage.label_mass == pytest.approx(0.8)
    assert judge.usage.judged == 6
    one_order = JudgeModel(Fixed(0.3, 0.1), TEMPLATE, both_orders=False)
    one_order.compare([Pair("Which?", "this", "that")] * 3)
    assert (one_order.usage.judged, one_order.usage.label_mass) == (3, pytest.approx(0.4))
    both = JudgeEnsemble([JudgeModel(Fixed(0.6, 0.2), TEMPLATE), JudgeModel(Fixed(0.3, 0.1), TEMPLATE)])
    both.compare([Pair("Which?", "this", "that")])
    assert both.usage.label_mass == pytest.approx(0.6)
    assert (judge.usage - judge.usage).label_mass is None


def test_a_low_mass_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """0.005 is what a judge has that reads its labels inside of thoughts."""
    for probabilities, warnings in [((0.003, 0.002), 1), ((0.05, 0.06), 0)]:
        caplog.clear()
        judge = JudgeModel(Fixed(*probabilities), TEMPLATE)
        for _ in range(3):
            judge.compare([Pair("Which?", "this", "that")])
        assert len(caplog.records) == warnings
    judge = JudgeModel(Fixed(0.003, 0.002), TEMPLATE)
    judge.compare([Pair("Which?", "this", "that")])
    assert "('A', 'B') together have a probability of 0.005" in caplog.text


@pytest.mark.parametrize(
    ("objective", "template", "warnings"),
    [({"name": "preference"}, None, 0), ({}, None, 1), ({"name": "preference"}, "default", 1)],
)
def test_a_judge_that_was_trained_to_choose_does_not_warn(
    objective: dict[str, str],
    template: str | None,
    warnings: int,
    judge_folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its loss looks at the two labels alone: mass that went elsewhere is no sign, with its own template."""
    folder = Path(shutil.copytree(judge_folder, tmp_path / "judge"))
    content = json.loads((folder / "gram.json").read_text()) | {"objective": objective}
    (folder / "gram.json").write_text(json.dumps(content))
    verdict = gram.load(folder, template=template).compare([Pair("Which?", "this one", "that one")])
    assert verdict.mass.max() < 0.1
    assert len([record for record in caplog.records if "together have" in record.message]) == warnings


def record(mass: tuple[float, float], template: str = "hash") -> Record:
    return Record("q", "", 1.0, (1.0, 1.0), mass, length_a=1, length_b=1, template=template)


def test_the_summary_and_the_report_have_it() -> None:
    """(0.9 + 0.7 + 0.2) / 3, where one order was not asked."""
    summary = summarize([record((0.9, 0.7)), record((0.2, float("nan")))])
    assert summary.label_mass == pytest.approx(0.6)
    assert "the two labels together: mean 0.600" in markdown(summary)
    scalar = summarize([record((1.0, 1.0), template="")])
    assert scalar.to_dict()["label_mass"] is None
    assert "Label mass" not in markdown(scalar)


def test_every_command_that_asks_prints_it(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = {"prompt": "Which?", "chosen": "this one", "rejected": "that one"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    contest = {"prompt": "Which?", "responses": ["this", "that", "those"]}
    (tmp_path / "contests.jsonl").write_text(json.dumps(contest) + "\n")
    judge = gram.load(judge_folder)
    judge.compare([Pair("Which?", "this one", "that one")])
    mass = judge.usage.label_mass
    model = ("--model", judge_folder)
    _, scored, _ = run(
        capsys, "score", *model, "--input", tmp_path / "pairs.jsonl", "--output", tmp_path / "s"
    )
    _, measured, _ = run(
        capsys, "eval", *model, "--data", tmp_path / "pairs.jsonl", "--output", tmp_path / "e"
    )
    assert scored["label_mass"] == measured["label_mass"] == pytest.approx(mass)
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert results["label_mass"] == pytest.approx(mass)
    assert "mean label mass" in (tmp_path / "e" / "report.html").read_text()
    for command in ("rank", "mine"):
        _, ranked, _ = run(
            capsys, command, *model, "--input", tmp_path / "contests.jsonl", "--output", tmp_path / command
        )
        assert 0 < ranked["label_mass"] < 1
    _, scored, _ = run(
        capsys, "score", *model, "--input", tmp_path / "pairs.jsonl", "--output", tmp_path / "l",
        "--kind", "likelihood",
    )  # fmt: skip
    assert scored["label_mass"] is None
