"""The scripts behind docs/fan.md: what their tables say, by hand, and both in their smallest setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments import fan, fan_cost, fan_page


def cell(arm: str, seed: int, seen: str, unseen: str) -> dict[str, object]:
    halves = {
        half: {
            "accuracy": sum(map(int, right)) / 2 / len(right),
            "right": right,
            "position_gap": 0.1,
            "one_winner": 0.75,
        }
        for half, right in (("seen", seen), ("unseen", unseen))
    }
    return {"seed": seed, "labels": "clean", "arm": arm, **halves}


def test_the_table_by_hand() -> None:
    """Sequence: 3 and 2 of 4 right; fan: 2 of 4, and 1 of 4 and a tie: 0.375. Minus 0.25 and 0.125."""
    rows = [cell("sequence", 1, "2220", "2200"), cell("fan_body", 1, "2200", "2100")]
    lines = fan_page.table(rows, "clean").splitlines()[2:]
    assert lines[0] == "| sequence | 0.750 | 0.500 |  |  | 0.750 | 1 |"
    assert lines[1].startswith("| fan_body | 0.500 | 0.375 | -0.250 (") and "| -0.125 (" in lines[1]
    assert fan_page.table([], "clean").count("\n") == 1


def test_ratios_are_taken_round_by_round() -> None:
    """2 / 1 and 9 / 3, which no ratio of medians would give."""
    row = {"paths": {"fan": {"seconds": [2.0, 9.0]}, "scalar": {"seconds": [1.0, 3.0]}}}
    assert fan_cost.ratios(row, "fan", "scalar") == [2.0, 3.0]


@pytest.mark.experiments
def test_the_smallest_cost_fills_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens do not depend on the machine: the fan reads the scalar model's, and little for each verdict."""
    output, page = tmp_path / "cost.json", tmp_path / "fan.md"
    fan_cost.main(["--quick", "--n", "2", "3", "--rounds", "1", "--output", str(output)])
    costs = json.loads(output.read_text())
    for row in costs["results"]:
        paths, verdicts = row["paths"], row["n"] * (row["n"] - 1)
        more = paths["fan"]["tokens"] - paths["scalar"]["tokens"]
        assert 2 * verdicts <= more < 2 * verdicts + 40
        assert paths["one by one"]["tokens"] > paths["tree"]["tokens"] > paths["fan"]["tokens"]
    page.write_text(fan_page.PAGE.read_text())
    for module, name, value in (
        (fan_page, "PAGE", page),
        (fan_page, "COSTS", output),
        (fan_page, "RESULTS", tmp_path / "none.jsonl"),
        (fan_cost, "PICTURE", tmp_path / "cost.png"),
    ):
        monkeypatch.setattr(module, name, value)
    fan_page.write_page()
    assert "| 3 | fan |" in page.read_text() and (tmp_path / "cost.png").stat().st_size > 1000


@pytest.mark.experiments
def test_the_smallest_study_runs(tmp_path: Path) -> None:
    arms = ["sequence", "fan_zero_shot", "fan_unlabeled", "scalar"]
    flags = ["--smoke", "--seeds", "5", "--labels", "wrong", "--models", str(tmp_path)]
    output = tmp_path / "world.jsonl"
    fan.main([*flags, "--arms", *arms, "--output", str(output)])
    results = fan.read(output)
    assert [row["arm"] for row in results] == arms
    assert all(set(row["unseen"]["right"]) <= set("012") for row in results)
    fan.main([*flags, "--arms", *arms, "--output", str(output)])  # all is on file
    assert fan.read(output) == results
