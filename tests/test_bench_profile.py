"""Kinds of operations: known names cover nearly all of the time of a model that has something to do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from gram.bench import profiling
from gram.bench.learner import Learner
from gram.bench.ours import for_scoring, for_training
from gram.bench.profiling import kind_of, shares, times
from gram.bench.shapes import Shape, build
from gram.bench.tables import KINDS
from gram.engine.base import TokenRow
from gram.objectives.objective import Sample

SHAPE = Shape("llama", layers=3, hidden=288, heads=6, kv_heads=3, mlp=768, vocabulary=4096)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::_flash_attention_forward", "attention"),
        ("torch_attn::_varlen_attn", "attention"),
        ("aten::add_", "elementwise"),
        ("aten::_fused_adamw_", "elementwise"),
        ("aten::_index_put_impl_", "copies"),
        ("aten::copy_", "copies"),
        ("aten::transpose", "rest"),
        ("something new", "rest"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_name_has_one_kind() -> None:
    names = Counter(name for names in profiling._NAMES.values() for name in names.split())
    assert len(names) > 50 and max(names.values()) == 1
    assert set(profiling._NAMES) == set(KINDS) - {"rest"}


@pytest.mark.parametrize("bf16", [False, True])
def test_a_real_profile_has_a_small_rest(bf16: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Scoring and a step of LoRA: all kinds are met, little is of unknown kind, and nothing is printed."""
    model: Any = build(SHAPE, dtype=torch.float32, device="cpu", seed=0)
    rows = [TokenRow([*range(2, 400), number, *range(5, 300)]) for number in (1, 2)]
    runner = for_scoring(model.to(torch.bfloat16) if bf16 else model, None)
    found = shares(lambda: runner.next_logprobs(rows, [4, 5]), "cpu")
    assert list(found) == list(KINDS) and sum(found.values()) == pytest.approx(1)
    assert min(found[kind] for kind in KINDS[:4]) > 0 and found["rest"] < 0.15

    training = for_training(build(SHAPE, dtype=torch.float32, device="cpu", seed=0), bf16=bf16, lora=True)

    def loss(samples: list[Sample]) -> torch.Tensor:
        batch = training.engine.lay_out([row for sample in samples for row in sample.rows])
        return training.engine.next_logits(training.model, batch, [4, 5]).logsumexp(-1).sum()

    learner = Learner(loss, training.parameters, training.optimizer, training.autocast)  # type: ignore[arg-type]
    found = shares(learner.steps([[Sample(tuple(rows))]]), "cpu")
    assert (
        min(found[kind] for kind in KINDS[:4]) > 0 and found["rest"] < 0.25
    )  # with Python inside the fused layers
    assert "USDT" not in capfd.readouterr().err


def test_times_are_of_operations_themselves() -> None:
    """A layer's own time does not hold that of the product it calls, which is nearly all there is."""
    layer = nn.Linear(500, 500)
    # A pause that another program makes falls on either of the two; in one of ten tries it does not.
    tries = [times(lambda: layer(torch.ones(500, 500)), "cpu") for _ in range(10)]
    assert any(found["aten::addmm"] > 5 * found["aten::linear"] > 0 for found in tries)
