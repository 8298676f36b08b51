"""The laws of one training run: exact normalisation, resume, best weights, and what may change.

A two-layer model on 24 samples of very different length, so that micro-batches hold different numbers of
tokens and a wrong denominator would show.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from conftest import sharpened
from gram import Preference, ResponsePair, Text
from gram.errors import ConfigError, TrainingError
from gram.modeling.language_head import keep_language_head
from gram.modeling.loading import LoadedModel, add_score_head
from gram.modeling.presets import Preset, build_model
from gram.modeling.trainable import LoraSettings, add_lora, freeze, merged
from gram.objectives.language import Language
from gram.objectives.likelihood import Likelihood
from gram.objectives.objective import Batch, Objective, Sample, Sums, TokenRow
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Renderer
from gram.training.arguments import training_arguments
from gram.training.callbacks import Guard, check_finite, mean_loss
from gram.training.checkpoints import last_checkpoint
from gram.training.config import ObjectiveName
from gram.training.fit import FitResult, FitSettings, fit
from gram.training.record import KINDS
from gram.training.stream import Stream, steps_for

MICRO = Preset(hidden=32, layers=2, heads=2, mlp=64, vocab_size=400, context=1024)
SETTINGS = FitSettings(steps=6, batch_size=8, learning_rate=3e-3, log_steps=1)
MakeModel = Callable[..., Any]

OBJECTIVES: dict[str, Callable[[Renderer], Objective[Any]]] = {
    "language": Language,
    "preference": lambda renderer: Judge(renderer, label_smoothing=0.1),
    "scalar": lambda renderer: Scalar(renderer, margin=True, centring=0.01),
    "regularised": lambda renderer: Scalar(renderer, text_regulariser=0.2),
    "likelihood": lambda renderer: Likelihood(renderer, label_smoothing=0.1, length_power=1.0),
}
each_objective = pytest.mark.parametrize("name", OBJECTIVES)


def test_every_objective_makes_a_model_with_its_head(renderer: Renderer) -> None:
    """Of the names of ``--objective``: a score head where the model that comes out is scalar."""
    names = get_args(ObjectiveName)
    assert set(KINDS) == set(names) <= set(OBJECTIVES)
    for name in names:
        assert (OBJECTIVES[name](renderer).head == "score") == (KINDS[name] == "scalar")


def micro(preset: LoadedModel, seed: int) -> Any:
    """A fresh two-layer language model with the preset's tokenizer."""
    return build_model(MICRO, cast(Any, preset.tokenizer), seed)


@pytest.fixture
def make_model(preset: LoadedModel) -> MakeModel:
    """A fresh model with the head that an objective needs; always the same."""

    def make(objective: Objective[Any] | None = None) -> Any:
        model: Any = sharpened(micro(preset, seed=3), 2.0)
        if objective is None or objective.head == "lm":
            return model
        return add_score_head(LoadedModel(model, preset.tokenizer, None), seed=4).model

    return make


@pytest.fixture(scope="module")
def work(
    renderer: Renderer, preferences: list[Preference]
) -> Callable[[str], tuple[Objective[Any], list[Sample]]]:
    """An objective by name, and 24 samples of it."""

    def make(name: str) -> tuple[Objective[Any], list[Sample]]:
        objective = OBJECTIVES[name](renderer)
        items: Sequence[Any] = preferences[:24]
        if name == "language":
            items = [ResponsePair(item.pair.prompt, item.pair.a, item.pair.b) for item in items]
        return objective, objective.encode(items)

    return make


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_close(mine: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def losses(result: FitResult) -> list[float]:
    return [entry["loss"] for entry in result.history if "loss" in entry]


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- Exact normalisation ---


@pytest.mark.law(4)
@each_objective
def test_micro_batches_change_nothing(name: str, make_model: MakeModel, work: Any) -> None:
    """Eight samples per step as one batch, a few or one each: one loss curve, one set of final weights."""
    objective, samples = work(name)
    whole = make_model(objective)
    settings = replace(SETTINGS, steps=4)
    wanted = fit(whole, objective, samples, settings, eval_samples=samples[:7])
    assert len(losses(wanted)) == 4 and len(set(losses(wanted))) > 2
    for budget in (500, 200, 1):
        model = make_model(objective)
        settings = replace(settings, token_budget=budget)
        result = fit(model, objective, samples, settings, eval_samples=samples[:7])
        assert losses(result) == pytest.approx(losses(wanted), rel=1e-5)
        assert result.evaluation == pytest.approx(wanted.evaluation, rel=1e-5, abs=1e-6)
        assert_close(weights(model), weights(whole), atol=1e-5)


@pytest.mark.law(4)
@pytest.mark.parametrize("name", ["language", "preference"])
def test_the_logged_loss_is_the_mean_over_the_global_batch(
    name: str, make_model: MakeModel, work: Any
) -> None:
    """Sum over the eight samples divided by their tokens or pairs, computed here one sample at a time."""
    objective, samples = work(name)
    model = make_model(objective).eval()
    stream = Stream(samples, steps=1, batch_size=8, seed=0)
    batches = [objective.collate([stream[place]]) for place in range(8)]
    with torch.no_grad():
        total = sum(objective.loss_sum(model, batch).loss.item() for batch in batches)
    count = sum(objective.count(batch).item() for batch in batches)
    result = fit(model, objective, samples, replace(SETTINGS, steps=1, token_budget=200))
    assert losses(result) == pytest.approx([total / count], rel=1e-5)


def test_batches_that_do_not_divide_are_refused(
    make_model: MakeModel, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, samples = work("preference")
    with pytest.raises(ConfigError, match="save_steps 3 must be a multiple of eval_steps 2"):
        settings = replace(SETTINGS, eval_steps=2, save_steps=3)
        fit(make_model(), objective, samples, settings, eval_samples=samples, checkpoints=Path("never"))
    with pytest.raises(ConfigError, match="nothing to train on"):
        fit(make_model(), objective, [], SETTINGS)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="batch_size 8 cannot be dealt to 3 processes"):
        fit(make_model(), objective, samples, SETTINGS)


# --- The stream ---


def plain_samples(count: int) -> list[Sample]:
    """Samples of 1 to 13 tokens, in no order."""
    return [Sample((TokenRow([place] * (1 + 7 * place % 13)),)) for place in range(count)]


def contents(stream: Stream, step: int, batch_size: int) -> list[int]:
    return sorted(stream[step * batch_size + place].rows[0].ids[0] for place in range(batch_size))


def test_a_step_depends_on_seed_and_step_alone() -> None:
    """A longer run begins like a shorter one; another seed, or another step, gives another batch."""
    samples = plain_samples(20)
    short = Stream(samples, steps=4, batch_size=6, seed=1)
    long = Stream(samples, steps=30, batch_size=6, seed=1)
    other = Stream(samples, steps=4, batch_size=6, seed=2)
    assert (len(short), len(long)) == (24, 180)
    assert [contents(short, step, 6) for step in range(4)] == [contents(long, step, 6) for step in range(4)]
    assert contents(short, 0, 6) != contents(other, 0, 6)
    assert contents(short, 0, 6) != contents(short, 1, 6)


def test_every_pass_covers_every_sample_once() -> None:
    """20 samples in batches of 6: steps run across the ends of passes, and no sample is seen twice early."""
    batch, passes = 6, 3
    stream = Stream(plain_samples(20), steps=10, batch_size=batch, seed=0)
    seen = np.zeros(20, dtype=int)
    for step in range(10):
        for place in contents(stream, step, batch):
            seen[place] += 1
        done = (step + 1) * batch / 20
        assert seen.max() <= math.ceil(done) and seen.min() >= math.floor(done)
    assert seen.tolist() == [passes] * 20


def test_two_passes_have_different_orders() -> None:
    stream = Stream(plain_samples(20), steps=10, batch_size=4, seed=0)
    assert [contents(stream, k, 4) for k in range(5)] != [contents(stream, k, 4) for k in range(5, 10)]


def test_a_step_is_sorted_by_length() -> None:
    stream = Stream(plain_samples(20), steps=5, batch_size=8, seed=0)
    for step in range(5):
        lengths = [stream[step * 8 + place].length for place in range(8)]
        assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("samples", "batch", "epochs", "max_steps", "steps"),
    [
        (100, 10, 1.0, None, 10),
        (101, 10, 1.0, None, 11),
        (100, 10, 2.5, None, 25),
        (3, 32, 1.0, None, 1),
        (3, 32, 0.01, None, 1),
        (100, 10, 9.0, 7, 7),
    ],
)
def test_steps_for(samples: int, batch: int, epochs: float, max_steps: int | None, steps: int) -> None:
    assert steps_for(samples, batch, epochs=epochs, max_steps=max_steps) == steps


def test_a_run_of_one_step_has_the_peak_rate(make_model: MakeModel, work: Any) -> None:
    """Warm-up begins at rate 0, and 5% of one step, rounded up, are all of it: nothing would be learned.

    AdamW's first step moves a weight with gradient g by rate * |g| / (|g| + 1e-8): the farthest by the rate.
    """
    objective, samples = work("preference")
    model = make_model(objective)
    before = weights(model)
    assert FitSettings(1).warmup == 0.05
    fit(model, objective, samples, FitSettings(steps=1, batch_size=24, learning_rate=1e-3), title=None)
    farthest = max(float((after - before[name]).abs().max()) for name, after in weights(model).items())
    assert farthest == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "share", "rising"),
    [(1, 0.05, 0), (1, 0.9, 0), (2, 0.05, 1), (2, 0.9, 2), (100, 0.05, 5), (6, 0, 0)],
)
def test_steps_of_warm_up(steps: int, share: float, rising: int, tmp_path: Path) -> None:
    """Of two and more steps ceil(share * steps): what runs of earlier versions had."""
    settings = FitSettings(steps=steps, warmup=share)
    how = training_arguments(settings, tmp_path, saves=False, evaluates=False, lowers=False)
    assert how.get_warmup_steps(steps) == rising


def test_the_log_counts_passes_over_the_data(make_model: MakeModel, work: Any) -> None:
    """6 steps of 8 out of 24 samples are two epochs."""
    objective, samples = work("preference")
    result = fit(make_model(), objective, samples, replace(SETTINGS, token_budget=300))
    assert result.history[-1]["epoch"] == pytest.approx(2.0)


# --- Resume ---


class Killed(BaseException):
    """Stands for a kill: nothing in the trainer catches it."""


class Mortal(Objective[Any]):
    """An objective that dies at a given training step."""

    def __init__(self, inner: Objective[Any], calls: int) -> None:
        super().__init__(inner._engine)
        self._inner, self._left = inner, calls

    def encode(self, examples: Sequence[Any]) -> list[Sample]:
        return self._inner.encode(examples)

    def count(self, batch: Batch) -> Tensor:
        return self._inner.count(batch)

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        if model.training:
            self._left -= 1
            if self._left < 0:
                raise Killed
        return self._inner.loss_sum(model, batch)


def everything(model: Any) -> Any:
    return model


def only_the_head(model: Any) -> Any:
    freeze(model, 0)
    return model


def adapters(model: Any) -> Any:
    torch.manual_seed(0)
    return add_lora(model, LoraSettings(rank=2, alpha=4), score_head=False)


def adapters_under_a_score(model: Any) -> Any:
    torch.manual_seed(0)
    return add_lora(model, LoraSettings(rank=2, alpha=4), score_head=True)


@pytest.mark.parametrize("prepare", [everything, only_the_head, adapters])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    prepare: Callable[[Any], Any], make_model: MakeModel, work: Any, tmp_path: Path
) -> None:
    """Saved every 2 of 8 steps, killed within step 6: weights, losses and evaluation are equal."""
    objective, samples = work("preference")
    settings = replace(SETTINGS, steps=8, token_budget=300, eval_steps=2, log_steps=3)
    stream = Stream(samples, steps=8, batch_size=8, seed=0)
    steps = [[stream[step * 8 + place] for place in range(8)] for step in range(6)]
    passes = [len(list(objective.micro_batches(batch, 300))) for batch in steps]
    assert min(passes) > 1

    def run(folder: str, objective: Objective[Any]) -> tuple[dict[str, Tensor], FitResult]:
        model = prepare(make_model())
        result = fit(
            model, objective, samples, settings, eval_samples=samples[:6], checkpoints=tmp_path / folder
        )
        return weights(merged(model)), result

    whole, wanted = run("whole", objective)
    with pytest.raises(Killed):
        run("killed", Mortal(objective, sum(passes[:5]) + 1))
    assert last_checkpoint(tmp_path / "killed") == tmp_path / "killed" / "checkpoint-4"
    (tmp_path / "killed" / "checkpoint-6").mkdir()  # the kill came while this one was written
    (tmp_path / "killed" / "checkpoint-6" / "model.safetensors").write_bytes(b"half")
    again, result = run("killed", objective)
    assert_close(again, whole, atol=0)
    assert result.steps == wanted.steps == 8
    assert without_timing(result.history) == without_timing(wanted.history)
    assert result.train_loss == wanted.train_loss
    assert result.evaluation == wanted.evaluation


@pytest.mark.parametrize("prepare", [everything, adapters_under_a_score])
def test_a_killed_run_with_a_language_head_of_its_own_goes_on_too(
    prepare: Callable[[Any], Any], preset: LoadedModel, work: Any, tmp_path: Path
) -> None:
    """The head is no part of the finished model, but of the run: killed in step 4 of 4, saved after 2."""
    objective, samples = work("regularised")
    settings = replace(SETTINGS, steps=4, save_steps=2)

    def run(folder: str, objective: Objective[Any]) -> tuple[dict[str, Tensor], FitResult]:
        body = build_model(MICRO, cast(Any, preset.tokenizer), seed=3)
        untied = cast(Any, body)
        untied.lm_head.weight = nn.Parameter(2.0 * body.lm_head.weight.detach().clone())
        untied.config.tie_word_embeddings = False
        model = add_score_head(LoadedModel(untied, preset.tokenizer, None), seed=4).model
        keep_language_head(model, untied)
        model = prepare(model)
        result = fit(model, objective, samples, settings, checkpoints=tmp_path / folder)
        return weights(merged(model)), result

    whole, wanted = run("whole", objective)
    with pytest.raises(Killed):
        run("killed", Mortal(objective, 3))
    again, result = run("killed", objective)
    assert "language_head.weight" in again
    assert_close(again, whole, atol=0)
    assert result.train_loss == wanted.train_loss


def without_timing(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trainer's last entry tells of speed, and only of the steps since the resume."""
    return [entry for entry in history if "train_runtime" not in entry]


def test_a_finished_run_is_not_trained_again(make_model: MakeModel, work: Any, tmp_path: Path) -> None:
    """The kill came after the last checkpoint: the same result, without a single step."""
    objective, samples = work("language")
    first = make_model()
    wanted = fit(first, objective, samples, SETTINGS, checkpoints=tmp_path)
    second = make_model()
    result = fit(second, Mortal(objective, 0), samples, SETTINGS, checkpoints=tmp_path)
    assert_close(weights(second), weights(first), atol=0)
    assert (result.steps, result.train_loss) == (wanted.steps, wanted.train_loss)


def test_the_last_checkpoint_is_the_newest_complete_one(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None
    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_step": 10}'), (12, '{"glob'), (14, "{}")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    (tmp_path / "checkpoint-16").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_mean_loss() -> None:
    """Entries at steps 1, 4 and 5 cover 1, 3 and 1 steps: (6 + 3 * 2 + 3) / 5 = 3."""
    history = [
        {"step": 1, "loss": 6.0},
        {"step": 2, "eval_loss": 9.0},
        {"step": 4, "loss": 2.0},
        {"step": 5, "loss": 3.0},
    ]
    assert mean_loss(history) == 3.0


def test_no_step_is_missing_in_the_log(make_model: MakeModel, work: Any) -> None:
    """Logged every 4 of 6 steps: the first, the fourth and the last; their mean is that of all six."""
    objective, samples = work("preference")
    every = fit(make_model(), objective, samples, SETTINGS)
    some = fit(make_model(), objective, samples, replace(SETTINGS, log_steps=4))
    assert [entry["step"] for entry in some.history if "loss" in entry] == [1, 4, 6]
    assert some.train_loss == pytest.approx(every.train_loss, rel=1e-6)
    assert every.train_loss == pytest.approx(np.mean(losses(every)), rel=1e-6)


# --- Runs that go wrong ---


def test_a_weight_that_is_no_number_stops_the_run(make_model: MakeModel, work: Any) -> None:
    objective, samples = work("preference")
    model = make_model()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[5, 5] = float("nan")
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        fit(model, objective, samples, SETTINGS)


def test_a_gradient_that_is_no_number_stops_the_run_at_its_last_step_too(
    make_model: MakeModel, work: Any
) -> None:
    """The loss of the last step is fine; its gradient would go into the weights that are saved."""
    objective, samples = work("preference")
    model = make_model()
    model.model.norm.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"the gradient's norm is (nan|inf) at step 1"):
        fit(model, objective, samples, replace(SETTINGS, steps=1))


@pytest.mark.parametrize("log_steps", [1, 20])
@pytest.mark.parametrize("name", ["language", "preference"])
def test_a_diverging_run_stops(name: str, log_steps: int, make_model: MakeModel, work: Any) -> None:
    """A learning rate of 100 throws the weights away within a few steps, however rarely the log looks."""
    objective, samples = work(name)
    settings = replace(SETTINGS, steps=24, learning_rate=100.0, log_steps=log_steps)
    with pytest.raises(TrainingError, match=r"the loss diverges: .* lower --learning-rate"):
        fit(make_model(), objective, samples, settings)


def logged(*seen: float) -> None:
    """Shows the guard a log of these losses, the newest last."""
    state = TrainerState(log_history=[{"loss": loss, "step": k + 1} for k, loss in enumerate(seen)])
    arguments = TrainingArguments(use_cpu=True, report_to=[])
    Guard().on_log(arguments, state, TrainerControl(), logs={"loss": seen[-1]})


def test_the_guard_compares_with_the_first_step() -> None:
    """Four times the first loss, and never below 10: 6 allows 24, a lucky 0.01 allows 10."""
    logged(6.0)
    logged(6.0, 5.0, 23.9)
    logged(0.01, 9.9)
    with pytest.raises(TrainingError, match=r"24\.1 at step"):
        logged(6.0, 0.5, 24.1)
    with pytest.raises(TrainingError, match=r"10\.1 at step"):
        logged(0.01, 10.1)


def test_check_finite() -> None:
    check_finite("loss", 3.0, 1)
    for loss in (math.nan, math.inf, -math.inf):
        with pytest.raises(TrainingError, match=f"the loss is {loss} at step 8"):
            check_finite("loss", loss, 8)


# --- Evaluation ---


WORSENING = replace(SETTINGS, steps=10, eval_steps=1, learning_rate=3e-2)


@pytest.fixture
def strange(work: Any) -> list[Sample]:
    """Texts of letters that the training data hardly hold: a model that learns expects them less and less."""
    objective, _ = work("language")
    return objective.encode([Text("zqxjvkw QXZJ 0987 " * 3), Text("%&$ ~^ {} || JJKKQQ")])


def eval_losses(result: FitResult) -> list[float]:
    return [entry["eval_loss"] for entry in result.history if "eval_loss" in entry]


def test_the_best_weights_are_kept(
    make_model: MakeModel, work: Any, strange: list[Sample], tmp_path: Path
) -> None:
    """They are the weights of a run that was stopped right after the best evaluation."""
    objective, samples = work("language")
    model = make_model()
    result = fit(model, objective, samples, WORSENING, eval_samples=strange, checkpoints=tmp_path)
    curve = eval_losses(result)
    best = curve.index(min(curve))
    assert len(curve) == 10 and best < 9 and curve[-1] > min(curve) + 0.5
    assert result.evaluation["eval_loss"] == pytest.approx(min(curve), rel=1e-6)
    stopped = make_model()
    with pytest.raises(Killed):
        fit(stopped, Mortal(objective, best + 1), samples, WORSENING)
    assert_close(weights(model), weights(stopped), atol=0)


class Scripted(Mortal):
    """Whose evaluations, of one batch each, have given losses in turn."""

    def __init__(self, inner: Objective[Any], losses: Sequence[float], calls: int = 1000) -> None:
        super().__init__(inner, calls)
        self._losses = iter(losses)

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        if model.training:
            return super().loss_sum(model, batch)
        return Sums(next(self._losses) * self.count(batch).double())


CURVE = (0.7390, 0.7313, 0.7071, 0.6986, 0.7019, 0.7016, 0.7018, 0.7080, 0.7161, 0.7191, 0.7183, 0.7185)
RARELY_SAVED = replace(SETTINGS, steps=12, eval_steps=1, save_steps=3)
ITS_LAST = 9.0  # of the weights that are kept, after the twelve


@pytest.mark.parametrize("killed", [False, True])
def test_of_the_weights_that_are_saved_the_best_are_kept(
    killed: bool, make_model: MakeModel, work: Any, tmp_path: Path
) -> None:
    """Saved are steps 3 (.7071), 6 (.7016), 9 (.7161) and 12 (.7185): the sixth is kept. The lowest loss,
    .6986, is that of step 4, which is not saved. A run that is killed in step 8 goes on from step 6, with the
    evaluations from the seventh on.
    """
    objective, samples = work("language")
    how: dict[str, Any] = {"eval_samples": samples[:3], "checkpoints": tmp_path}
    if killed:
        with pytest.raises(Killed):
            fit(make_model(), Scripted(objective, CURVE, 7), samples, RARELY_SAVED, **how)
        assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"
    to_come = (*CURVE[6 if killed else 0 :], ITS_LAST)
    model = make_model()
    result = fit(model, Scripted(objective, to_come), samples, RARELY_SAVED, **how)
    assert eval_losses(result) == pytest.approx([*CURVE])
    stopped = make_model()
    with pytest.raises(Killed):
        fit(stopped, Mortal(objective, 6), samples, RARELY_SAVED)
    assert_close(weights(model), weights(stopped), atol=0)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-6", "checkpoint-12"}


def test_without_checkpoints_the_last_weights_stay(
    make_model: MakeModel, work: Any, strange: list[Sample]
) -> None:
    objective, samples = work("language")
    result = fit(make_model(), objective, samples, WORSENING, eval_samples=strange)
    curve = eval_losses(result)
    assert result.evaluation["eval_loss"] == pytest.approx(curve[-1], rel=1e-6)
    assert curve[-1] > min(curve) + 0.5


@each_objective
def test_evaluation_is_exact(name: str, make_model: MakeModel, work: Any) -> None:
    """Means over all 23 samples, computed here one by one on the trained model."""
    objective, samples = work(name)
    model = make_model(objective)
    result = fit(model, objective, samples, replace(SETTINGS, steps=2), eval_samples=samples[:23])
    count, sums = 0.0, dict.fromkeys(result.evaluation, 0.0)
    with torch.no_grad():
        for sample in samples[:23]:
            batch = objective.collate([sample])
            found = objective.loss_sum(model, batch)
            count += objective.count(batch).item()
            for metric, value in {"loss": found.loss, **found.metrics}.items():
                sums[f"eval_{metric}"] += value.item()
    usual = {"eval_accuracy", "eval_margin"}
    metrics = {"language": set[str](), "regularised": usual | {"eval_text_loss"}}
    assert set(sums) == {"eval_loss"} | metrics.get(name, usual)
    assert result.evaluation == pytest.approx({k: v / count for k, v in sums.items()}, rel=1e-5, abs=1e-6)
    assert not model.training


# --- Which weights change, and how they are computed ---


@each_objective
def test_all_weights_train(name: str, make_model: MakeModel, work: Any) -> None:
    objective, samples = work(name)
    model = make_model(objective)
    before = weights(model)
    fit(model, objective, samples, replace(SETTINGS, steps=2))
    assert changed(before, weights(model)) == set(before)


@each_objective
@pytest.mark.parametrize("layers", [0, 1])
def test_frozen_weights_stay(name: str, layers: int, make_model: MakeModel, work: Any) -> None:
    """Only the head changes, and the last layer on request; a tied head leaves the embedding alone."""
    objective, samples = work(name)
    model = make_model(objective)
    freeze(model, layers)
    before = weights(model)
    fit(model, objective, samples, replace(SETTINGS, steps=2))
    head = "score.weight" if objective.head == "score" else "lm_head.weight"
    last = {key for key in before if key.startswith("model.layers.1.")} if layers else set()
    assert changed(before, weights(model)) == {head} | last


@each_objective
def test_lora_moves_the_linear_layers_alone(name: str, make_model: MakeModel, work: Any) -> None:
    """After merging: every projection moved, by a matrix of the rank asked for; the rest did not."""
    objective, samples = work(name)
    before = weights(make_model(objective))
    torch.manual_seed(0)
    model = add_lora(
        make_model(objective), LoraSettings(rank=2, alpha=4), score_head=objective.head == "score"
    )
    fit(model, objective, samples, replace(SETTINGS, steps=3))
    after = weights(merged(model))
    assert after.keys() == before.keys()
    projections = {key for key in before if "_proj" in key}
    head = {"score.weight"} if objective.head == "score" else set()
    assert len(projections) == 14
    assert changed(before, after) == projections | head
    for key in projections:
        assert torch.linalg.matrix_rank(after[key] - before[key], atol=1e-5) == 2


def test_recomputing_activations_changes_nothing(make_model: MakeModel, work: Any) -> None:
    objective, samples = work("preference")
    plain, sparing = make_model(), make_model()
    wanted = fit(plain, objective, samples, SETTINGS)
    result = fit(sparing, objective, samples, replace(SETTINGS, gradient_checkpointing=True))
    assert losses(result) == pytest.approx(losses(wanted), rel=1e-6)
    assert_close(weights(sparing), weights(plain), atol=1e-6)


def test_recomputing_activations_works_with_adapters(make_model: MakeModel, work: Any) -> None:
    objective, samples = work("preference")
    model = adapters(make_model())
    before = weights(model)
    fit(model, objective, samples, replace(SETTINGS, steps=3, gradient_checkpointing=True))
    moved = changed(before, weights(model))
    assert moved and all("lora_" in key for key in moved)


@each_objective
def test_bf16_computes_coarsely_and_leaves_the_model_as_it_was(
    name: str, make_model: MakeModel, work: Any
) -> None:
    """Losses near those in fp32 but not equal; afterwards weights and forward passes are fp32 again."""
    objective, samples = work(name)
    exact = fit(make_model(objective), objective, samples, replace(SETTINGS, steps=3))
    model = make_model(objective)
    result = fit(
        model, objective, samples, replace(SETTINGS, steps=3, dtype="bf16"), eval_samples=samples[:5]
    )
    assert losses(result) == pytest.approx(losses(exact), rel=0.05)
    assert losses(result) != pytest.approx(losses(exact), rel=1e-6)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    fresh = make_model(objective)
    fresh.load_state_dict(model.state_dict())
    batch = objective.collate(samples[:4])
    with torch.no_grad():
        mine = objective.loss_sum(model, batch).loss
        assert mine.item() == objective.loss_sum(fresh.eval(), batch).loss.item()


def test_the_configuration_that_is_saved_with_the_model_is_not_touched(
    make_model: MakeModel, work: Any
) -> None:
    """The trainer would switch the key-value cache off for whoever generates with the model later."""
    objective, samples = work("preference")
    model = make_model()
    before = copy.deepcopy(model.config.to_dict())
    fit(model, objective, samples, replace(SETTINGS, steps=1))
    assert model.config.to_dict() == before and before["use_cache"]


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(make_model: MakeModel, work: Any) -> None:
    objective, samples = work("preference")
    runs = [losses(fit(make_model(), objective, samples, replace(SETTINGS, seed=seed))) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_progress_goes_to_stderr(
    make_model: MakeModel, work: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    objective, samples = work("preference")
    settings = replace(SETTINGS, steps=2)
    fit(make_model(), objective, samples, settings, eval_samples=samples[:4], title="stage 2")
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("stage 2")]
    assert lines[0].startswith("stage 2 1/2 loss ")
    assert any("eval_accuracy" in line and "eval_loss" in line for line in lines)


def test_checkpoints_are_few(make_model: MakeModel, work: Any, tmp_path: Path) -> None:
    """At most the best and the last are kept."""
    objective, samples = work("preference")
    fit(make_model(), objective, samples, replace(SETTINGS, save_steps=1), checkpoints=tmp_path)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["checkpoint-5", "checkpoint-6"]
    state = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["global_step"] == 6
