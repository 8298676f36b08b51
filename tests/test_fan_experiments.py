"""The scripts behind docs/results-fan.md: their tables, by hand, and both in their smallest setting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from experiments import fan, fan_cost, fan_page, fan_text, fan_use
from experiments.claims.workshop import SMOKE
from experiments.foundation import lessons

import gram
from gram.rendering import FanRenderer
from gram.rendering.fan import LOOKING
from gram.rl import GroupReward
from gram.training.config import TrainConfig
from gram.types import Pair, Preference, Verdicts


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


def test_one_token_beside_two_by_hand() -> None:
    """Seen 2 of 4 and 3 of 4, others 3 of 4 and 2 of 4: one right more, and one less."""
    one, two = (cell("fan_start", 1, *right) for right in (("2200", "2220"), ("2220", "2200")))
    [line] = fan_page.one_token_table([one], [two]).splitlines()[2:]
    assert line.startswith("| fan_start | 1 | 0.500 | 0.750 | 0.750 | 0.500 | +0.000 (-")


def test_ratios_are_taken_round_by_round() -> None:
    """2 / 1 and 9 / 3, which no ratio of medians would give."""
    row = {"paths": {"fan": {"seconds": [2.0, 9.0]}, "scalar": {"seconds": [1.0, 3.0]}}}
    assert fan_cost.ratios(row, "fan", "scalar") == [2.0, 3.0]


def test_the_gold_of_the_chosen_by_hand() -> None:
    """Three questions of three groups: the sequence chooses 1, 0, 1 and the fan 1, 1, 1, so it leads
    by a third; it is 4, 2 and 3 times as fast, 3 in the middle. Two equal runs of GRPO leave no spread."""
    row = {"part": "best_of_n", "pool": "zeroeval", "answers": 8, "groups": ["a", "b", "c"]}
    row |= {"best": [1, 1, 1], "random": [0.25, 0.5, 0.75], "gold": {"sequence": [1, 0, 1], "fan": [1, 1, 1]}}
    row |= {"seconds": {"sequence": [4, 4, 3], "fan": [1, 2, 1]}}
    [line] = fan_use.chosen_table([row]).splitlines()[2:]
    assert line.startswith("| 8 of maths and code, right or wrong | 3 | 0.500 | 0.667 (") and line.endswith(
        "| 3.0 |"
    )
    assert "| +0.333 (" in line and "| 1.000 | 3.67 | 1.33 |" in line
    ends = [{"seen": {"gold": gold}, "unseen": {"gold": 0.5}} for gold in (0.25, 0.75)]
    run = {
        "part": "grpo",
        "seed": 1,
        "layout": "fan",
        "step_seconds": 2.0,
        "reward_seconds": 0.5,
        "curve": ends,
    }
    lines = fan_use.grpo_table([run, run | {"seed": 2}]).splitlines()[2:]
    assert lines[0] == "| fan | families with labels | 0.250 ± 0.000 | 0.750 ± 0.000 | 2.000 | 0.500 | 2 |"
    assert len(lines) == 2 and fan_use.chosen_table([run]).count("\n") == 1


def test_a_timed_reward_is_the_reward() -> None:
    """Calls for all completions of a step are timed, tests with one answer to a prompt are not."""

    class Longer:
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            leads = np.array([[len(pair.a) - len(pair.b)] * 2 for pair in pairs], dtype=float)
            return Verdicts(leads, np.ones_like(leads))

    reward, count = GroupReward(Longer()), fan_use.GROUP * fan_use.PROMPTS
    timed, answers = fan_use.Timed(reward), ["a" * k for k in range(count)]
    asked = [f"Question {k % fan_use.PROMPTS}?" for k in range(count)]
    assert timed(asked, answers) == reward(asked, answers)
    timed(["Why?"], ["So."])
    assert len(timed.began) == len(timed.took) == 1


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
        (fan_page, "ONE_TOKEN", tmp_path / "none.jsonl"),
        (fan_page, "ONE_TOKEN_COSTS", tmp_path / "none.json"),
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


@pytest.mark.experiments
def test_the_smallest_run_of_grpo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps with the judge as a fan: two rewards are timed, and one time lies between them."""
    monkeypatch.setattr(fan_use, "POLICY", replace(fan_use.POLICY, steps=5))
    found = fan_use.grpo(5, "fan", tmp_path, SMOKE, steps=2)
    assert found["steps"] == 2 and found["reward_seconds"] > 0 and found["step_seconds"] > 0
    assert [point["step"] for point in found["curve"]] == [0]


def test_the_table_of_real_text_by_hand() -> None:
    """Right of four: the judge 3, its control 1, the fan 2. That is 0.25 less, and 0.25 more."""

    def row(arm: str, right: str) -> dict[str, object]:
        part = {"right": right, "groups": list("aabb"), "one_winner": 0.5}
        return {"arm": arm, "unseen": part, "seen": part}

    results = [row("sequence", "2220"), row("sequence_longer", "2000"), row("fan_converted", "2200")]
    judge, control, fan = fan_page.text_table(results).splitlines()[2:]
    assert judge.startswith("| sequence | 0.750 (") and judge.endswith("|  |  |  |  | 0.500 |")
    assert control.count("| -0.500 (") == 2 and control.endswith("|  |  | 0.500 |")
    assert fan.startswith("| fan_converted | 0.500 (")
    assert fan.count("| -0.250 (") == fan.count("| +0.250 (") == 2


def test_an_arm_on_real_text_is_asked_as_its_layout_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right, right, wrong; in the second pair the two orders name two winners. Gaps 0, 1 and 0."""
    asked = []

    class Fixed:
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            odds = np.array([[1.0, 1.0], [1.5, -0.5], [-1.0, -1.0]])
            return Verdicts(odds, np.ones_like(odds))

    def load(path: str, **options: object) -> Fixed:
        asked.append((path, options.get("layout")))
        return Fixed()

    monkeypatch.setattr(gram, "load", load)
    rows = [Preference(Pair("?", "yes", "no"), 1.0, group="g")] * 3
    for arm in ("sequence", "fan_zero_shot"):
        found = fan_text.run(arm, {"unseen": rows})["unseen"]
        assert found["right"] == "220" and found["groups"] == ["g"] * 3
        assert found["accuracy"] == found["one_winner"] == pytest.approx(2 / 3)
    assert asked == [(fan_text.JUDGE, None), (fan_text.JUDGE, "fan")]


def test_trainings_differ_in_what_their_arm_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions go on from the judge, the other two from the base; all on 3,200 labels: 200 steps of 16."""
    seen, looking = [], []

    def train(config: TrainConfig) -> None:
        seen.append(config)
        looking.append(signature(FanRenderer).parameters["looking"].default)

    monkeypatch.setattr(fan_text, "train", train)
    monkeypatch.setattr(fan_text, "MODELS", tmp_path)
    monkeypatch.setattr(lessons, "EASY", tmp_path / "easy.jsonl")
    monkeypatch.setattr(lessons, "SHORT", tmp_path / "short.jsonl")
    trained = [*fan_text.CONVERSIONS, *fan_text.STARTS]
    for arm in trained:
        assert fan_text.model_of(arm) == str(tmp_path / "fan" / arm)
    of = dict(zip(trained, seen, strict=True))
    assert {arm for arm, config in of.items() if config.layout == "fan"} == {
        arm for arm in trained if arm.startswith("fan_")
    }
    assert {of[arm].model for arm in fan_text.CONVERSIONS} == {fan_text.JUDGE}
    assert {of[arm].model for arm in fan_text.STARTS} == {"smollm2-135m"}
    assert [arm for arm in trained if of[arm].distil] == ["fan_distilled"]
    assert [arm for arm, count in zip(trained, looking, strict=True) if count != LOOKING] == ["fan_one_token"]
    assert signature(FanRenderer).parameters["looking"].default == LOOKING
    assert of["fan_distilled"].distil == fan_text.JUDGE and of["scalar"].objective == "scalar"
    for arm, name in (("scalar", "short"), ("fan_start", "easy")):
        lines = Path(of[arm].data[0]).read_text().splitlines()
        assert lines == (tmp_path / f"{name}.jsonl").read_text().splitlines()[: 200 * 16]
        assert len(lines) == 200 * 16 == fan_text.STEPS * of[arm].batch_size


def test_what_trains_is_compared_with_what_it_started_from() -> None:
    """The arms of the table are all that are asked or trained, each once."""
    trained = {*fan_text.CONVERSIONS, *fan_text.STARTS}
    assert {*fan_text.ARMS} == {"sequence", "fan_zero_shot", *trained} and len(fan_text.ARMS) == len(
        trained
    ) + 2
