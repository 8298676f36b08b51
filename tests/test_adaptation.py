"""Adapting in memory and by ``gram adapt``: what is learned is kept, what is not leaves the old model."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gram
from conftest import run
from gram import Pair, Preference
from gram.adaptation.adapt import Adaptation, Candidate, adapt, check_rows
from gram.adaptation.learner import AdaptSettings, Method
from gram.asking import Asking
from gram.errors import ConfigError, DataError
from gram.modeling.loading import LoadedModel, load_model
from gram.modeling.manifest import read_manifest
from gram.objectives.likelihood import Likelihood
from gram.objectives.objective import Objective
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Renderer, load_template
from gram.scoring.loading import wrap
from gram.types import FloatArray

WORDS = ("garden", "tower", "river", "market", "harbour", "school")
QUICK = AdaptSettings(method="all", learning_rates=(3e-3,), max_steps=16, batch_size=8, folds=3)
MECHANICAL = AdaptSettings(learning_rates=(1e-3,), max_steps=3, batch_size=4, folds=2)


def task(count: int, *, coin: bool = False, seed: int = 0) -> list[Preference]:
    """The answer "silver" is better than the answer "bread", in any order; or a coin says which."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        first = rng.random() < 0.5
        a, b = ("silver", "bread") if first else ("bread", "silver")
        label = float(rng.random() < 0.5) if coin else float(first)
        prompt = f"what is in the {WORDS[n % 6]} {n} ?"
        rows.append(Preference(Pair(prompt, f"the {a} .", f"the {b} ."), label, id=f"r{n}"))
    return rows


@dataclass
class Subject:
    """A model of one kind, ready to be adapted."""

    loaded: LoadedModel
    objective: Objective[Preference]
    asked: Any

    def adapt(self, rows: list[Preference], settings: AdaptSettings) -> Adaptation:
        return adapt(self.loaded.model, self.objective, self.asked, rows, settings, progress=False)

    def log_odds(self, rows: list[Preference]) -> FloatArray:
        return self.asked.compare([row.pair for row in rows]).log_odds


@pytest.fixture
def make(judge_folder: Path, likelihood_folder: Path, scalar_folder: Path) -> Callable[[str], Subject]:
    """A fresh model of a kind."""

    def fresh(kind: str) -> Subject:
        folder = {"judge": judge_folder, "likelihood": likelihood_folder, "scalar": scalar_folder}[kind]
        loaded = load_model(folder, "score" if kind == "scalar" else "lm")
        renderer = Renderer(loaded.tokenizer, load_template("compact"), 512)
        objectives: dict[str, Any] = {
            "judge": lambda: Judge(renderer, label_smoothing=0.1),
            "likelihood": lambda: Likelihood(renderer, label_smoothing=0.1),
            "scalar": lambda: Scalar(renderer),
        }
        return Subject(loaded, objectives[kind](), wrap(loaded, source=folder))

    return fresh


Make = Callable[[str], Subject]


def write(path: Path, rows: list[Preference]) -> Path:
    lines = [
        {"id": row.id, "prompt": row.pair.prompt[0].content, "a": row.pair.a, "b": row.pair.b, "p_a": row.p_a}
        for row in rows
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


# --- In memory ---


@pytest.fixture(scope="module")
def learned(judge_folder: Path) -> tuple[Adaptation, FloatArray]:
    """A judge adapted to the task, and its log-odds on rows it has never seen."""
    loaded = load_model(judge_folder, "lm")
    renderer = Renderer(loaded.tokenizer, load_template("compact"), 512)
    subject = Subject(loaded, Judge(renderer, label_smoothing=0.1), wrap(loaded, source=judge_folder))
    outcome = subject.adapt(task(36), QUICK)
    return outcome, subject.log_odds(task(40, seed=1))


def test_what_can_be_learned_is_adopted(learned: tuple[Adaptation, FloatArray]) -> None:
    outcome, log_odds = learned
    assert outcome.adopted and outcome.chosen.steps > 0 and outcome.train_loss is not None
    assert outcome.decision.after.accuracy.value > outcome.decision.before.accuracy.value
    labels = np.array([row.p_a for row in task(40, seed=1)])
    assert np.mean((log_odds.sum(axis=1) > 0) == (labels > 0.5)) > 0.9


def test_the_same_seed_gives_the_same_model(learned: tuple[Adaptation, FloatArray], make: Make) -> None:
    subject = make("judge")
    outcome = subject.adapt(task(36), QUICK)
    assert np.array_equal(outcome.decision.choice.losses, learned[0].decision.choice.losses)
    assert np.array_equal(subject.log_odds(task(40, seed=1)), learned[1])


@pytest.mark.parametrize("method", ["lora", "all", "frozen"])
def test_coin_flips_leave_the_old_model_to_the_last_bit(method: Method, make: Make) -> None:
    subject = make("judge")
    subject.asked.temperature = 1.5
    weights = copy.deepcopy(subject.loaded.model.state_dict())
    rows = task(24, coin=True)
    before = subject.log_odds(rows)
    outcome = subject.adapt(rows, replace(MECHANICAL, method=method))
    assert not outcome.adopted and outcome.train_loss is None
    assert np.array_equal(subject.log_odds(rows), before) and subject.asked.temperature == 1.5
    after = subject.loaded.model.state_dict()
    assert set(after) == set(weights) and all(torch.equal(after[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", ["judge", "likelihood", "scalar"])
def test_every_kind_is_adapted_with_adapters_and_stays_a_plain_model(
    kind: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever three steps have done, it is taken: the weights move, no adapter is left behind."""
    from gram.adaptation import adapt as module

    decide = module.decide
    monkeypatch.setattr(module, "decide", lambda held: forced(decide(held)))
    subject = make(kind)
    rows = task(12)
    names, before = set(subject.loaded.model.state_dict()), subject.log_odds(rows)
    outcome = subject.adapt(rows, MECHANICAL)
    assert outcome.candidates == (Candidate(0.0, 0), Candidate(1e-3, 2), Candidate(1e-3, 3))
    assert set(subject.loaded.model.state_dict()) == names
    assert all(weight.requires_grad for weight in subject.loaded.model.parameters())
    assert subject.asked.temperature == outcome.decision.choice.temperature
    assert not np.allclose(subject.log_odds(rows) * subject.asked.temperature, before, rtol=1e-5)


def forced(decision: Any) -> Any:
    return replace(decision, adopted=True, choice=replace(decision.choice, candidate=2))


def test_a_longer_run_passes_through_every_shorter_one(make: Make) -> None:
    """Verdicts after two steps are the same, whether the run was to be of two steps or of three."""
    said = {}
    for steps in (2, 3):
        outcome = make("judge").adapt(task(12), replace(MECHANICAL, max_steps=steps))
        said[steps] = outcome.decision.choice.losses
    assert np.array_equal(said[2], said[3][:2])


def test_a_rate_that_is_named_twice_is_one_candidate(make: Make) -> None:
    """Each candidate is measured once: the same ones, and the same losses, as with the rate named once."""
    once = make("judge").adapt(task(12), MECHANICAL)
    twice = make("judge").adapt(task(12), replace(MECHANICAL, learning_rates=(1e-3, 1e-3)))
    assert twice.candidates == once.candidates
    assert np.array_equal(twice.decision.choice.losses, once.decision.choice.losses)
    assert AdaptSettings(learning_rates=(3e-3, 1e-3, 3e-3)).rates == (3e-3, 1e-3)


def test_ties_and_soft_labels_are_learned_from(make: Make) -> None:
    rows = [replace(row, p_a=(0.5, 0.8, row.p_a)[n % 3]) for n, row in enumerate(task(18))]
    outcome = make("judge").adapt(rows, MECHANICAL)
    assert (outcome.rows, outcome.ties, outcome.questions, outcome.folds) == (18, 6, 18, 2)
    assert outcome.decision.gain.n == 18 and outcome.decision.accuracy_gain.n == 12


def test_an_old_model_of_another_kind_is_the_one_to_beat(make: Make) -> None:
    subject = make("judge")
    rows = task(12)
    likelihood = wrap(subject.loaded, Asking("likelihood"))
    old = likelihood.compare([row.pair for row in rows]).log_odds
    outcome = adapt(
        subject.loaded.model,
        subject.objective,
        subject.asked,
        rows,
        MECHANICAL,
        before=likelihood,
        progress=False,
    )
    right = np.mean((old[:, 0] > 0) == np.array([row.p_a > 0.5 for row in rows]))
    assert outcome.decision.before.accuracy.value == pytest.approx(right)


# --- Rows and settings that cannot serve ---


def test_rows_that_cannot_serve_are_refused() -> None:
    rows = task(12)
    for bad, reason in (
        (rows[:9], "too few rows: 9; adapting takes at least 10"),
        ([*rows[:8], *(replace(row, p_a=0.5) for row in rows[8:])], "too few rows: 8, besides 4 ties"),
        ([replace(row, p_a=0.5) for row in rows], "all 12 rows are ties"),
        ([replace(row, pair=replace_prompt(row)) for row in rows], "ask only 1 different question;"),
        ([replace(row, group=f"g{n % 4}") for n, row in enumerate(rows)], "only 4 different questions"),
    ):
        with pytest.raises(DataError, match=reason):
            check_rows(bad)
    check_rows([replace(row, pair=replace_prompt(row), group=row.id) for row in rows])  # a constant task


def replace_prompt(row: Preference) -> Pair:
    return Pair("which one ?", row.pair.a, row.pair.b)


def test_settings_that_make_no_sense_are_refused() -> None:
    for options, reason in (
        ({"method": "some"}, "method must be one of"),
        ({"learning_rates": (0.0,)}, "learning_rates must be in"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=reason):
            AdaptSettings(**options)  # type: ignore[arg-type]


# --- The command ---


def test_the_command_adapts_and_says_so(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = write(tmp_path / "few.jsonl", task(36)), tmp_path / "out"
    quick = ["--method", "all", "--learning-rates", 3e-3, "--max-steps", 16, "--batch-size", 8, "--folds", 3]
    quick += ["--device", "cpu"]
    code, result, said = run(
        capsys, "adapt", "--model", judge_folder, "--data", data, "--output", output, *quick
    )
    assert code == 0 and result["adopted"] and "is the adapted model" in said
    assert result["after"]["accuracy"]["value"] > 0.9 and result["log_loss_gain"]["low"] > 0
    manifest = read_manifest(output)
    assert manifest is not None and manifest.kind == "judge"
    assert manifest.adaptation["adopted"] and manifest.adaptation["rows"] == 36
    assert manifest.training["steps"] == result["steps"] and manifest.data[-1]["use"] == "adapt"
    assert manifest.calibration["temperature"] == result["temperature"]
    report = json.loads((output / "adapt.json").read_text())
    assert report["candidates"][0]["steps"] == 0 and report["settings"]["seed"] == 0
    new = task(40, seed=1)
    p_a = gram.load(output).compare([row.pair for row in new]).p_a
    assert np.mean((p_a > 0.5) == np.array([row.p_a > 0.5 for row in new])) > 0.9

    code, _, said = run(capsys, "adapt", "--model", judge_folder, "--data", data, "--output", output, *quick)
    assert code == 1 and "holds a finished model; use --overwrite" in said
    code, _, said = run(
        capsys, "adapt", "--model", output, "--data", data, "--output", output, "--overwrite", *quick
    )
    assert code == 1 and "which this run reads" in said


def test_a_judge_with_another_template_has_to_beat_the_old_template(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``before`` is the accuracy of the model as it was, which is what OUTPUT holds if it stays."""
    rows = task(30)
    old = gram.load(judge_folder).compare([row.pair for row in rows])
    options = ["--template", "default", "--max-steps", 1, "--folds", 2, "--device", "cpu"]
    code, result, said = run(
        capsys,
        "adapt",
        "--model",
        judge_folder,
        "--data",
        write(tmp_path / "few.jsonl", rows),
        "--output",
        tmp_path / "out",
        *options,
    )
    assert code == 0, said
    right = np.array([row.p_a > 0.5 for row in rows])
    assert result["before"]["accuracy"]["value"] == pytest.approx(np.mean((old.p_a > 0.5) == right), abs=1e-4)
    p = np.where(right, old.p_a, 1 - old.p_a)
    assert result["before"]["log_loss"] == pytest.approx(-np.log(p).mean(), abs=1e-4)


@pytest.fixture
def stage_1_folder(likelihood_folder: Path, tmp_path: Path) -> Path:
    """The likelihood model as stage 1 leaves it."""
    folder = tmp_path / "stage-1"
    shutil.copytree(likelihood_folder, folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    replace(manifest, objective={"name": "language"}, context="judge").write(folder)
    return folder


@pytest.mark.parametrize("start", ["judge", "likelihood", "scalar", "stage_1"])
def test_the_command_keeps_an_old_model_that_is_not_beaten(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """A model of stage 1 is adapted as a judge, and stays a likelihood where that fails."""
    folder = request.getfixturevalue(f"{start}_folder")
    kind = "likelihood" if start == "stage_1" else start
    rows = task(20, coin=True)
    data, output = write(tmp_path / "few.jsonl", rows), tmp_path / "out"
    options = tmp_path / "options.yaml"
    options.write_text("learning_rates: [0.001]\nmax_steps: 2\nfolds: 2\nlabel_smoothing: 0.2\ndevice: cpu\n")
    code, result, said = run(
        capsys, "adapt", "--model", folder, "--data", data, "--output", output, "--config", options
    )
    assert code == 0 and result["adopted"] is False and "is the old model, unchanged" in said
    assert result["kind"] == kind
    pairs = [row.pair for row in rows]
    old, new = gram.load(folder), gram.load(output)
    assert np.array_equal(old.compare(pairs).log_odds, new.compare(pairs).log_odds)
    manifest = read_manifest(output)
    assert manifest is not None and manifest.kind == kind and not manifest.adaptation["adopted"]
    assert (output / "adapt.json").is_file()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".draft")]


def test_errors_name_what_is_wrong_and_write_nothing(
    judge_folder: Path, scalar_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write(tmp_path / "few.jsonl", task(4))
    enough = write(tmp_path / "enough.jsonl", task(12))
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"prompt": "x", "chosen": "y"}\n')
    output = tmp_path / "out"
    for model, data, options, reason in (
        (judge_folder, few, (), "few.jsonl: too few rows: 4"),
        (judge_folder, wrong, (), "wrong.jsonl:1: no known form of row"),
        (
            judge_folder,
            enough,
            ("--kind", "scalar"),
            "is a judge model and cannot be adapted as kind 'scalar'",
        ),
        (scalar_folder, enough, ("--kind", "judge"), "is a scalar model and cannot be adapted"),
        (judge_folder, enough, ("--label-smoothing", "0.7"), "label_smoothing must be in"),
        (judge_folder, enough, ("--max-per-source", "0"), "max_per_source must be at least 1"),
        (tmp_path / "none", enough, (), "no such folder"),
    ):
        code, result, said = run(
            capsys, "adapt", "--model", model, "--data", data, "--output", output, *options
        )
        assert code == 1 and not result and reason in said, said
        assert not output.exists()
