"""Several processes train what one trains: the same losses, gradients, weights and folder, whole or divided.

Models of two or three layers, on CPU processes with gloo; sharding (FSDP2) is real there, and so is ZeRO-3,
which is tried where DeepSpeed is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from gram import Preference
from gram.engine.base import TokenRow
from gram.engine.choose import choose_engine
from gram.modeling.loading import LoadedModel
from gram.modeling.trainable import LoraSettings, add_lora, freeze
from gram.objectives.objective import Sample
from gram.rendering import Renderer
from gram.training.fit import FitSettings, fit
from gram.training.stream import Stream, deal
from several_processes import SHARDED, divided_by_deepspeed, needs_deepspeed, together
from test_engine_training import SETTINGS, Work, work_of

# --- Shares of a step ---


def test_shares_by_hand() -> None:
    """10, 7, 6, 5, 4, 1 to three processes: first 10, 7, 6; then 5 to the one with 6, 4 to 7, 1 to 10.

    So 11, 11 and 11 tokens; in each share the order in which the samples came.
    """
    tokens = np.array([[4, 10, 5, 7, 1, 6]])
    assert deal(tokens, 3).tolist() == [[1, 4, 0, 3, 2, 5]]


def test_shares_are_equally_many_and_nearly_equal_in_tokens() -> None:
    """No two differ by more than two samples can; dealt in turn by length, the first always has most."""
    draw = np.random.default_rng(0)
    tokens = draw.integers(1, 500, size=(200, 24))
    for processes in (1, 2, 3, 8):
        places = deal(tokens, processes)
        assert (np.sort(places, axis=1) == np.arange(24)).all()
        shares = np.take_along_axis(tokens, places, 1).reshape(200, processes, -1).sum(axis=2)
        assert (np.ptp(shares, axis=1) <= np.ptp(tokens, axis=1)).all()
        in_turn = -np.sort(-tokens, axis=1).reshape(200, -1, processes).sum(axis=1)
        assert np.ptp(shares, axis=1).sum() <= 0.25 * np.ptp(in_turn, axis=1).sum() or processes == 1


def test_processes_do_not_change_which_samples_a_step_holds() -> None:
    """Rows of a sample count together: lengths (30, 30) weigh as much as 60."""
    samples = [
        Sample((TokenRow([place] * n), TokenRow([1] * (1 + place % 3))))
        for place, n in enumerate(range(40, 10, -1))
    ]
    one, two = (Stream(samples, steps=5, batch_size=6, seed=0, processes=count) for count in (1, 2))
    for step in range(5):
        mine, theirs = ([stream[6 * step + place] for place in range(6)] for stream in (one, two))
        assert sorted(map(id, mine)) == sorted(map(id, theirs))
        halves = [sum(sample.tokens for sample in part) for part in (theirs[:3], theirs[3:])]
        assert abs(halves[0] - halves[1]) <= max(s.tokens for s in mine) - min(s.tokens for s in mine)


# --- Runs in memory ---


def everything(model: Any) -> Any:
    return model


def adapters(model: Any) -> Any:
    torch.manual_seed(0)
    return add_lora(model, LoraSettings(rank=2, alpha=4), score_head="Sequence" in type(model).__name__)


def last_layer(model: Any) -> Any:
    freeze(model, 1)
    return model


RUNS: list[tuple[str, Callable[[Any], Any]]] = [
    ("language", everything),
    ("preference", everything),
    ("likelihood", everything),
    ("scalar", everything),
    ("dpo", everything),
    ("preference", adapters),
    ("scalar", adapters),
    ("preference", last_layer),
]


@pytest.fixture(scope="module")
def make(preset: LoadedModel, renderer: Renderer, preferences: list[Preference]) -> Callable[..., Work]:
    return partial(work_of, preset, renderer, preferences)


def run(work: Work, settings: FitSettings) -> dict[str, Any]:
    """What came of a run; evaluated on five samples on the way, an odd number."""
    model, objective, samples = work
    held: set[int] = set()
    whole = sum(weight.numel() for weight in model.parameters())
    result = fit(
        *(model, objective, samples, settings),
        eval_samples=samples[:5],
        title=None,
        observe=lambda step: held.add(sum(part_of(weight).numel() for weight in model.parameters())),
    )
    steps = [entry for entry in result.history if "loss" in entry]
    return {
        "losses": [entry["loss"] for entry in steps],
        "norms": [entry["grad_norm"] for entry in steps],
        "evaluation": result.evaluation,
        "weights": {name: value.detach() for name, value in result.model.state_dict().items()},
        "trainable": [name for name, value in result.model.named_parameters() if value.requires_grad],
        "kind": type(result.model).__name__,
        "share": max(held) / whole,
    }


def part_of(weight: Tensor) -> Tensor:
    """What this process holds of a weight between two steps; DeepSpeed keeps it beside an empty weight."""
    if weight.numel() == 0:
        return weight.ds_tensor  # type: ignore[attr-defined]
    return weight.to_local() if isinstance(weight, DTensor) else weight


def runs(works: list[Work], settings: FitSettings) -> list[dict[str, Any]]:
    return [run(work, settings) for work in works]


def assert_same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert len(set(mine["losses"])) > 1
    for name in ("losses", "norms", "evaluation"):
        assert mine[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-6), name
    assert mine["kind"] == theirs["kind"] and mine["trainable"] == theirs["trainable"]
    assert mine["weights"].keys() == theirs["weights"].keys()
    for name, value in mine["weights"].items():
        torch.testing.assert_close(value, theirs["weights"][name], rtol=0, atol=2e-5)


def copies(folder: Path) -> dict[str, str]:
    return {}


def sharded(folder: Path) -> dict[str, str]:
    return SHARDED


each_way = pytest.mark.parametrize(
    "environment", [copies, sharded, pytest.param(divided_by_deepspeed, marks=needs_deepspeed)]
)


@pytest.mark.slow
@each_way
def test_two_processes_train_like_one(
    environment: Callable[[Path], dict[str, str]], make: Callable[..., Work], tmp_path: Path
) -> None:
    """Every objective, all weights, adapters and a frozen body: tries of 200 tokens beside one padded batch.

    Losses and gradient norms of every step, and the evaluation, agree to 1e-5; the weights to 2e-5. A process
    holds all weights, or, where they are divided, about a half of them between two steps.
    """
    works = [make(name, True, prepare) for name, prepare in RUNS]
    spare = replace(SETTINGS, token_budget=200)
    both = together(2, runs, works, spare, folder=tmp_path, **environment(tmp_path))
    for (name, prepare), first, second in zip(RUNS, *both, strict=True):
        wanted = run(make(name, False, prepare), SETTINGS)
        assert_same(first, wanted)
        assert second["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
        shares = first["share"], second["share"]
        assert shares == (1.0, 1.0) if environment is copies else max(shares) < 0.55


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [everything, adapters])
def test_a_divided_model_in_bf16_recomputes(
    prepare: Callable[[Any], Any], make: Callable[..., Work], tmp_path: Path
) -> None:
    """Fused layers, whose weights come and go, and activations computed again: to the rounding of bf16."""
    low = replace(SETTINGS, dtype="bf16", gradient_checkpointing=True)
    work = make("preference", True, prepare)
    mine, _ = together(2, low_run, work, replace(low, token_budget=200), folder=tmp_path, **SHARDED)
    wanted = low_run(make("preference", True, prepare), low)
    for name in ("losses", "norms"):
        assert mine[name] == pytest.approx(wanted[name], rel=2e-2)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("prepare", [everything, adapters])
def test_deepspeed_trains_in_bf16_what_one_process_does(
    prepare: Callable[[Any], Any], make: Callable[..., Work], tmp_path: Path
) -> None:
    """To the rounding of bf16, activations computed again. Fused layers step aside for DeepSpeed's hooks."""
    low = replace(SETTINGS, dtype="bf16", gradient_checkpointing=True)
    work, divided = make("preference", True, prepare), divided_by_deepspeed(tmp_path)
    mine, _ = together(2, low_run, work, replace(low, token_budget=200), folder=tmp_path, **divided)
    wanted = run(make("preference", True, prepare), low)
    for name in ("losses", "norms"):
        assert mine[name] == pytest.approx(wanted[name], rel=5e-3)


def dropping(work: Work) -> tuple[list[float], list[float]]:
    """The losses of a model that came with dropout, and the shares that the trained model has."""
    model = work[0]
    for holder in (model.config, *(layer.self_attn for layer in model.model.layers)):
        holder.attention_dropout = 0.5
    result = fit(*work, SETTINGS, title=None)
    trained: Any = result.model
    layers = [layer.self_attn.attention_dropout for layer in trained.model.layers]
    losses = [entry["loss"] for entry in result.history if "loss" in entry]
    return losses, [trained.config.attention_dropout, *layers]


@pytest.mark.slow
def test_a_divided_model_drops_nothing_and_keeps_its_shares(
    make: Callable[..., Work], tmp_path: Path
) -> None:
    """As a whole one: one process without any dropout has the same losses."""
    [(losses, shares), _] = together(
        2, dropping, make("preference", True, everything), folder=tmp_path, **SHARDED
    )
    assert losses == pytest.approx(run(make("preference", True, everything), SETTINGS)["losses"], rel=1e-5)
    assert set(shares) == {0.5} and len(shares) > 2


def low_run(work: Work, settings: FitSettings) -> dict[str, Any]:
    choose_engine(work[0], training=True, bf16=True)  # fused layers cannot be sent to a process
    return run(work, settings)
