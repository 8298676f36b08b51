"""Frozen weights in bf16 while others train, and what they are afterwards."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from conftest import make_preferences
from gram.modeling.loading import LoadedModel
from gram.modeling.lowered import Lowered
from gram.training.config import TrainConfig
from gram.training.pipeline import train


def two_layers() -> Any:
    """The first is frozen and holds numbers that bf16 does not; the second is trained."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].requires_grad_(False)
    return model


def test_frozen_weights_are_bf16_and_come_back_to_the_last_bit() -> None:
    model = two_layers()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    lowered = Lowered(model)
    dtypes = {name: weight.dtype for name, weight in model.named_parameters()}
    assert {dtypes["0.weight"], dtypes["0.bias"]} == {torch.bfloat16}
    assert {dtypes["1.weight"], dtypes["1.bias"]} == {torch.float32}
    lowered.restore()
    lowered.restore()
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name])


def test_what_bf16_holds_needs_no_copy() -> None:
    """A published bf16 model is not held twice."""
    model = two_layers()
    model[0].weight.data = model[0].weight.data.bfloat16().float()
    lowered = Lowered(model)
    copies = [original.shape for _, original in lowered._kept if original is not None]
    assert copies == [torch.Size([8])]  # the bias


def test_changes_while_lowered_are_not_kept_of_frozen_weights() -> None:
    """Only the trained layer may change; a frozen one is what it was, whatever happened to its bf16 copy."""
    model = two_layers()
    original = model[0].weight.detach().clone()
    lowered = Lowered(model)
    with torch.no_grad():
        model[1].weight.add_(1)
    trained = model[1].weight.detach().clone()
    lowered.restore()
    assert torch.equal(model[0].weight, original)
    assert torch.equal(model[1].weight, trained)


@pytest.mark.parametrize("how", [{"lora": True}, {"freeze": True}], ids=["lora", "freeze"])
def test_a_model_trained_in_bf16_is_not_rounded_where_it_was_frozen(
    how: dict[str, Any], preset: LoadedModel, tmp_path: Path
) -> None:
    """At a rate of 1e-9 nothing moves by 1e-7; bf16 would round weights of 0.02 by up to 4e-5."""
    copy.deepcopy(preset.model).save_pretrained(tmp_path / "base")
    preset.tokenizer.save_pretrained(tmp_path / "base")
    rows = [
        {"prompt": item.pair.prompt[0].content, "chosen": item.pair.a, "rejected": item.pair.b}
        for item in make_preferences(12)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TrainConfig(
        model=str(tmp_path / "base"),
        data=[str(tmp_path / "rows.jsonl")],
        output=tmp_path / "trained",
        template="compact",
        max_length=256,
        dtype="bf16",
        max_steps=2,
        batch_size=4,
        learning_rate=1e-9,
        device="cpu",
        **how,
    )
    assert train(config)["dtype"] == "bf16"
    before, after = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("base", "trained")
    )
    rounding = [float((w.bfloat16().float() - w).abs().max()) for w in before.values()]
    assert max(rounding) > 1e-5, "nothing would be rounded: nothing was tested"
    for name, weight in before.items():
        assert after[name].dtype == torch.float32
        assert float((after[name] - weight).abs().max()) < 1e-6, name
