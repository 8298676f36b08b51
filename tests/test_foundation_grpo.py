"""Reinforcement learning against the reward model: the check that is its gold, and two steps of a toy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments.foundation import checked, grpo
from experiments.foundation.checked import Checked

from gram.errors import ConfigError
from gram.rl import LikelihoodReward, ReferenceReward
from gram.types import FloatArray


def test_an_answer_is_right_if_it_names_the_right_output_alone() -> None:
    asked = Checked("colours", "The sky?", "blue", ("blue", "red", "light blue"))
    right = ["blue", "Blue.", "The answer is: BLUE", '"blue"']
    wrong = ["red", "blue or red", "light blue", "bluest", "", "I do not know"]
    assert [asked.gold(text) for text in right] == [1.0] * 4
    assert [asked.gold(text) for text in wrong] == [0.0] * 6
    assert Checked("digits", "1 + 1?", "2", ("1", "2")).gold("12") == 0.0


def test_prompts_are_short_ones_of_closed_tasks_without_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten closed tasks of 25 rows; of one the prompts are long, of one 19 are short; and one that is open."""

    def rows(kind: str, source: str, split: str) -> list[dict[str, Any]]:
        assert (kind, source, split) == ("pref", "superni", "eval")
        return [
            {
                "id": f"{task}-{k}",
                "task": f"task{task}",
                "subset": "Any/label" if task < 10 else "Any/other",
                "prompt": f"{task} or {k}? " + "long " * (100 if task == 0 or (task == 1 and k >= 19) else 1),
                "chosen": "yes" if k % 2 else "no",
                "rejected": "no" if k % 2 else "yes",
            }
            for task in range(11)
            for k in range(25)
        ]

    monkeypatch.setattr(checked, "read", rows)
    found = checked.checked()
    assert found == checked.checked()
    counts = {task: sum(one.task == task for one in found) for task in {one.task for one in found}}
    assert counts == {f"task{k}": 4 for k in range(2, 10)}
    assert {one.outputs for one in found} == {("no", "yes")}
    assert [one.task for one in found] != sorted(one.task for one in found), "tasks are mixed"


@pytest.fixture
def toy(converted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Checked]:
    """Four prompts, two answers of four tokens to each of two a step, and files of its own."""
    prompts = [Checked("any", f"what is the letter {k} ?", "the", ("the", "of")) for k in range(4)]
    for name, value in {"LONGEST": 4, "GROUP": 2, "TOGETHER": 2, "PASS": 1}.items():
        monkeypatch.setattr(grpo, name, value)
    monkeypatch.setattr(grpo, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(grpo, "model_folder", lambda name: converted)
    monkeypatch.setattr(grpo, "checked", lambda: prompts)
    return prompts


@pytest.mark.parametrize("kind", ["judge", "likelihood"])
def test_two_steps_of_a_toy(
    kind: str, toy: list[Checked], converted: Path, request: pytest.FixtureRequest
) -> None:
    folder = str(request.getfixturevalue(f"{kind}_folder"))
    reward = grpo.reward_of(folder, str(converted), "cpu")
    assert isinstance(reward, ReferenceReward if kind == "judge" else LikelihoodReward)
    run = grpo.train(0, reward, toy, str(converted), steps=2)
    assert {len(run[key]) for key in ("reward", "gold", "kl", "tokens")} == {2}
    assert all(0.0 <= value <= 1.0 for value in run["gold"]) and run["steps"] == 2
    assert all(0 < value <= 4 for value in run["tokens"])
    assert run["kl"][0] == pytest.approx(0.0, abs=1e-3)


def test_gold_is_measured_and_has_no_weight(
    toy: list[Checked], converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reward of 5 for every answer stays 5, though each of them is worth a gold of 1."""

    class Five:
        def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> FloatArray:
            return np.full(len(responses), 5.0)

    monkeypatch.setattr(Checked, "gold", lambda self, answer: 1.0)
    run = grpo.train(0, LikelihoodReward(Five()), toy, str(converted), steps=1)
    assert (run["reward"], run["gold"]) == ([5.0], [1.0])


@pytest.mark.usefixtures("toy")
def test_a_seed_on_file_is_not_run_again(likelihood_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []

    def train(seed: int, *_: Any, **__: Any) -> dict[str, Any]:
        called.append(seed)
        return run(seed, [0.1, 0.2])

    monkeypatch.setattr(grpo, "train", train)
    command = ["--model", str(likelihood_folder), "--device", "cpu", "--seeds", "0", "1"]
    for _ in range(2):
        grpo.main(command)
    assert called == [0, 1]
    with pytest.raises(ConfigError, match="has results of"):
        grpo.main([*command, "2", "--model", "another"])


def run(seed: int, gold: list[float]) -> dict[str, Any]:
    return {"seed": seed, "gold": gold, "reward": [10 * value for value in gold]}


def test_passes_are_compared_over_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Passes of two steps. Gold goes from 0.2 to 0.5 with one seed, from 0.2 to 0.7 with the other: 0.4 more,
    and Student's t of one degree of freedom (12.706) times a standard error of 0.1 to each side."""
    monkeypatch.setattr(grpo, "PASS", 2)
    found = [run(0, [0.1, 0.3, 0.4, 0.6, 0.9]), run(1, [0.2, 0.2, 0.7, 0.7, 0.9])]
    table = grpo.table(found)
    assert "| gold | 0.200 [0.200, 0.200] | 0.600 [-0.671, 1.871] | 0.400 [-0.871, 1.671] |" in table
    assert "| reward | 2.00 [2.00, 2.00] |" in table
    grpo.picture(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
