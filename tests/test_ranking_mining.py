"""Mining: which pairs come out of a ranking, and that the command writes what TRL reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import gram
from conftest import run
from gram.cli.main import main
from gram.data import read_preferences
from gram.errors import ConfigError
from gram.ranking import SCHEDULES, Ranking, mine, rank
from gram.ranking.mining import Rule
from gram.types import Contest, Pair, Verdicts, as_chat

PROMPT = as_chat("which ?")


def ranking(strengths: list[float]) -> Ranking:
    n = len(strengths)
    values = np.array(strengths)
    order = [int(i) for i in np.argsort(-values, kind="stable")]
    empty = np.zeros(n)
    return Ranking(order, values, empty, empty, empty, np.zeros((n, n)), 0, 0, 0.0, 0.0)


def test_best_against_worst_and_by_margin_by_hand() -> None:
    """Strengths 1, -2, 0.5, 0.5: best 0, worst 1, margin 3. Gaps above 1: 3, 2.5, 2.5, all to 1."""
    contest = Contest(PROMPT, ("a", "b", "c", "d"))
    got = ranking([1.0, -2.0, 0.5, 0.5])
    [pair] = mine(contest, got)
    assert (pair.chosen, pair.rejected, pair.margin) == ("a", "b", 3.0)
    wide = mine(contest, got, "margin", margin=1.0)
    assert [(p.chosen, p.rejected, p.margin) for p in wide] == [
        ("a", "b", 3.0),
        ("c", "b", 2.5),
        ("d", "b", 2.5),
    ]
    assert mine(contest, got, "margin", margin=1.0, limit=1) == wide[:1]
    assert mine(contest, got, margin=3.0) == []


def test_equal_texts_and_equal_strengths_make_no_pair() -> None:
    assert mine(Contest(PROMPT, ("a", "a ")), ranking([1.0, 0.0])) == []
    assert mine(Contest(PROMPT, ("a", "b")), ranking([0.0, 0.0])) == []
    assert mine(Contest(PROMPT, ("a",)), ranking([0.0])) == []
    twice = mine(Contest(PROMPT, ("a", "a", "b")), ranking([1.0, 1.0, 0.0]), "margin")
    assert [(p.chosen, p.rejected) for p in twice] == [("a", "b")]


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_copies_lose_no_pair(schedule: str) -> None:
    """x beats y beats z beats x, and three answers are x: whoever comes first, another text comes last."""
    odds = {("x", "y"): 1.0, ("y", "z"): 3.0, ("z", "x"): 0.2}

    class Cycle:
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            values = [odds.get((p.a, p.b), -odds.get((p.b, p.a), 0.0)) for p in pairs]
            return Verdicts(np.array([[value] * 2 for value in values]), np.ones((len(pairs), 2)))

    for seed in range(10):
        got = rank(Cycle(), "q", list("xyxzx"), schedule, seed=seed)
        assert "xyxzx"[got.order[0]] != "xyxzx"[got.order[-1]]
        alone = rank(Cycle(), "q", list("xyz"), schedule, seed=seed)
        for rule in get_args(Rule):
            pairs = mine(Contest(PROMPT, tuple("xyxzx")), got, rule)
            assert pairs == mine(Contest(PROMPT, tuple("xyz")), alone, rule) != []


def test_nonsense_is_refused() -> None:
    contest, got = Contest(PROMPT, ("a", "b")), ranking([1.0, 0.0])
    with pytest.raises(ConfigError, match="margin"):
        mine(contest, got, margin=-1)
    with pytest.raises(ConfigError, match="limit"):
        mine(contest, got, "margin", limit=0)
    for margin in ("1", None, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="margin must be a"):
            mine(contest, got, margin=margin)  # type: ignore[arg-type]
    for limit in (1.5, "1", True):
        with pytest.raises(ConfigError, match="limit must be a whole number"):
            mine(contest, got, "margin", limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rule"):
        mine(contest, got, "best")  # type: ignore[arg-type]


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    rows = [
        {"id": "q0", "prompt": "what ?", "responses": ["a short one .", "the bread is old .", "silver"]},
        {
            "id": "q1",
            "prompt": [{"role": "user", "content": "and this ?"}],
            "responses": ["silver", "silver"],
        },
    ]
    path = tmp_path / "candidates.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_writes_the_format_of_trl(
    scalar_folder: Path, candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pairs.jsonl"
    code, result, _ = run(capsys, "mine", "--model", scalar_folder, "--input", candidates, "--output", output)
    assert code == 0
    assert (result["prompts"], result["pairs"], result["prompts_without_pairs"]) == (2, 1, 1)
    assert result["comparisons"] == 3 and result["tokens"] > 0
    [row] = [json.loads(line) for line in output.read_text().splitlines()]
    assert set(row) == {"id", "prompt", "chosen", "rejected", "margin"} and row["margin"] > 0
    model = gram.load(scalar_folder)
    assert isinstance(model, gram.ScalarModel)
    answers = ["a short one .", "the bread is old .", "silver"]
    scores = model.score([as_chat("what ?")] * 3, answers)
    assert row["chosen"] == [{"role": "assistant", "content": answers[int(np.argmax(scores))]}]
    assert row["rejected"] == [{"role": "assistant", "content": answers[int(np.argmin(scores))]}]
    [read] = read_preferences(output).examples
    assert (read.pair.prompt, read.p_a, read.margin) == (as_chat("what ?"), 1.0, row["margin"])
    rankings = [json.loads(line) for line in Path(f"{output}.rankings.jsonl").read_text().splitlines()]
    assert [len(ranked["pairs"]) for ranked in rankings] == [1, 0]
    code, _, error = run(
        capsys, "mine", "--model", scalar_folder, "--input", candidates, "--output", output, "--margin=-1"
    )
    assert code == 1 and "margin" in error


@pytest.mark.parametrize(("schedule", "asked"), [("knockout", 2), ("linear", 2), ("merge", 3), ("swiss", 3)])
def test_rank_takes_a_schedule_and_reports_its_cost(
    schedule: str,
    asked: int,
    judge_folder: Path,
    candidates: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Three candidates: n-1 comparisons find the best, all three at most order them; each is two prompts."""
    options = ["rank", "--model", str(judge_folder), "--input", str(candidates)]
    assert main([*options, "--schedule", schedule]) == 0
    *rows, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert rows[0]["comparisons"] == summary["comparisons"] <= asked
    assert summary["schedule"] == schedule
    assert rows[1]["comparisons"] == 0 and rows[1]["cyclic"] is None
    assert sum(rows[0]["p_best"]) == pytest.approx(1)
    assert main([*options, "--schedule", schedule, "--budget", "1"]) == 0
    *_, cheap = map(json.loads, capsys.readouterr().out.splitlines())
    assert cheap["comparisons"] == 1
    assert cheap["tokens_per_prompt"] == round(cheap["tokens"] / 2)
    assert cheap["tokens"] < summary["tokens"]
