"""``gram plan``: the arithmetic beside numbers by hand, and beside what torch and peft count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import run
from gram.errors import ConfigError
from gram.modeling.trainable import LoraSettings, add_lora
from gram.training.arithmetic import Way, fixed_memory, operations, total, trained
from gram.training.planning import PlanOptions, plan, shape_of
from small_models import ARCHITECTURES, SHARING, config_of, fresh

QWEN3_8B: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
    "tie_word_embeddings": False,
}


@pytest.fixture
def qwen(tmp_path: Path) -> str:
    """A folder with the configuration alone."""
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen" / "config.json").write_text(json.dumps(QWEN3_8B))
    return str(tmp_path / "qwen")


def test_an_8b_model_by_hand(qwen: str) -> None:
    """Qwen3-8B, with 8,190,735,360 weights.

    A layer: queries and output 4096 x 4096 each, keys and values 4096 x 1024 each, the MLP three times 4096
    x 12,288: 192,937,984; norms 2 x 4096 + 2 x 128. Elsewhere 2 x 151,936 x 4096 and a norm of 4096. Adapters
    of rank 16: 16 times inputs and outputs, of a layer 2 x 8192 + 2 x 5120 + 3 x 16,384 = 75,776; of 36
    layers 43,646,976.

    Kept by a token, in bf16: 8 values x 3 bytes x (4096 + 12,288), by 36 layers and 2 more at once.
    """
    shape = shape_of(PlanOptions(model=qwen))
    assert (shape.layers, shape.linear, shape.per_layer) == (36, 192_937_984, 192_946_432)
    assert (shape.rest, shape.weights, shape.width) == (1_244_663_808, 8_190_735_360, 4096)
    assert shape.edges == 75_776 and trained(shape, Way(rank=16)) == 43_646_976
    assert shape.kept == 38 * 8 * 3 * 16_384


def test_its_memory_by_hand(qwen: str) -> None:
    """In GB, all weights: 4 + 4 + 8 + 4 bytes x 8.19 = 163.8 and bf16 copies of 13.89 in each whole copy.

    Divided: 16 bytes x 8.19 / 8 = 16.38; whole for a while 2 x 4 bytes x (2 x 0.193 + 1.245) = 13.04; 13.89.
    Adapters on a base in bf16: 16.38, and 20 bytes x 0.0436; in 4 bits 0.516 x 6.946 + 2 x 1.245.
    """
    shape = shape_of(PlanOptions(model=qwen))

    def memory(**how: Any) -> float:
        return total(fixed_memory(shape, Way(gpus=8, **how))) / 1e9

    assert memory() == pytest.approx(163.81 + 13.89, abs=0.01)
    assert memory(divided=True) == pytest.approx(16.38 + 13.04 + 13.89, abs=0.01)
    assert memory(divided=True, low=False) == pytest.approx(16.38 + 13.04, abs=0.01)
    assert memory(rank=16) == pytest.approx(16.38 + 0.87, abs=0.01)
    assert memory(rank=16, four_bits=True) == pytest.approx(3.58 + 2.49 + 0.87, abs=0.02)


def test_the_command_says_the_arithmetic_and_ends_with_json(
    qwen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All weights fit 8 GPUs of 80 GB divided only; adapters as whole copies; nothing fits 8 GB.

    32 pairs in two orders of 1,024 tokens: 65,536. 10,000 pairs: 313 steps. Linear maps 6 x 6,945,767,424 x
    65,536 = 2731 T, attention 3 x 2 x 4096 x 1024 x 36 x 65,536 = 59 T; by 8 x 300 T a second 1.163 s.
    """
    code, result, said = run(capsys, "plan", "--model", qwen, "--gpus", 8)
    assert code == 0 and result["fits"] == "divided" and result["parameters"] == 8_190_735_360
    assert (result["tokens_per_step"], result["steps"]) == (65_536, 313)
    assert result["seconds_per_step"] == pytest.approx(2790.56 / 2400, rel=1e-4)
    assert result["hours"] == pytest.approx(313 * 2790.56 / 2400 / 3600, rel=1e-4)
    memory = result["memory_gb"]["divided"]
    parts = {name: value for name, value in memory.items() if name not in ("together", "while loading, fp32")}
    assert sum(parts.values()) == pytest.approx(memory["together"], abs=0.01) and memory["together"] < 80
    assert "4 bytes x 8,190,735,360 / 8" in said and "fsdp2.yaml" in said
    _, result, said = run(capsys, "plan", "--model", qwen, "--gpus", 8, "--lora")
    assert result["fits"] == "copies" and result["trained"] == 43_646_976 and "ddp.yaml" in said
    memory = ("--gpu-memory", 24, "--quantise", "4bit", "--gradient-checkpointing")
    _, result, said = run(capsys, "plan", "--model", qwen, "--gpus", 8, "--lora", *memory)
    assert result["fits"] == "copies" and "qlora.yaml" in said and "ddp.yaml" not in said
    _, result, said = run(capsys, "plan", "--model", qwen, "--gpus", 8, "--lora", "--gpu-memory", 8)
    assert result["fits"] is None and result["tokens_per_pass"] == 0 and "none of these fits" in said


def test_a_preset_needs_no_file() -> None:
    assert plan(PlanOptions(model="preset:tiny"), lambda line: None)["fits"] == "copies"


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="quantise goes with lora"):
        PlanOptions(model="m", quantise="4bit")
    with pytest.raises(ConfigError, match="batch_size 32 cannot be dealt to 3 GPUs"):
        plan(PlanOptions(model="m", gpus=3), lambda line: None)


@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES, *SHARING, "gemma4"} - {"qwen3_moe"}))
def test_counts_are_those_of_the_model_and_of_peft(architecture: str, tmp_path: Path) -> None:
    """Gemma 4 has a linear map outside its layers, and layers that differ."""
    config_of(architecture, 60).save_pretrained(tmp_path)
    shape = shape_of(PlanOptions(model=str(tmp_path)))
    model = fresh(architecture, 60)
    assert shape.weights == model.num_parameters()
    adapted = add_lora(model, LoraSettings(rank=4), score_head=False)
    in_training = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert trained(shape, Way(rank=4)) == in_training


def test_layers_of_two_widths(tmp_path: Path) -> None:
    """Gemma 4: four heads of 8 in one layer and of 16 in the other, planned as 4 * 16 wide."""
    config_of("gemma4", 60).save_pretrained(tmp_path)
    shape = shape_of(PlanOptions(model=str(tmp_path)))
    assert (shape.width, shape.weights) == (64, fresh("gemma4", 60).num_parameters())


def test_experts_are_refused(tmp_path: Path) -> None:
    """A token is multiplied with some of the weights only."""
    config_of("qwen3_moe", 60).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has experts"):
        shape_of(PlanOptions(model=str(tmp_path)))


@pytest.mark.parametrize("rank", [0, 4])
def test_products_are_those_that_torch_counts(rank: int, tmp_path: Path) -> None:
    """Forward and backward of the decoder: torch counts two operations per weight and token of each product.

    Adapters add their own products: three times two per weight and token. The first layer's input needs no
    gradient under adapters; there torch counts less.
    """
    config_of("llama", 60).save_pretrained(tmp_path)
    shape = shape_of(PlanOptions(model=str(tmp_path)))
    model: Any = fresh("llama", 60)
    model = add_lora(model, LoraSettings(rank=rank), score_head=False) if rank else model
    tokens = 24
    with FlopCounterMode(display=False) as counter:
        body = model.get_base_model().model if rank else model.model
        body(input_ids=torch.arange(2, 2 + tokens)[None]).last_hidden_state.sum().backward()
    counted = sum(n for name, n in counter.get_flop_counts()["Global"].items() if str(name) == "aten.mm")
    planned = operations(shape, Way(rank=rank), tokens, tokens)[0].value
    if not rank:
        assert counted == planned
        return
    adapters = 6 * trained(shape, Way(rank=rank)) * tokens
    assert counted == pytest.approx(planned + adapters, rel=0.05) and counted <= planned + adapters
