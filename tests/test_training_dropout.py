"""Training drops nothing, whatever the model or its adapter came with: how a step is cut changes no result.

TRL does so by default (``disable_dropout``) in torch's own layers; here also where an architecture draws
by a number of its own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from conftest import make_preferences
from gram import Preference
from gram.adaptation.learner import AdaptSettings, Learner
from gram.modeling.loading import LoadedModel
from gram.objectives.preference import Judge
from gram.rendering import Renderer
from gram.training.config import TrainConfig
from gram.training.dropout import without_dropout
from gram.training.pipeline import train
from small_models import config_of, fresh, small_shape

VOCAB = 60
HALF: dict[str, Any] = {"attention_dropout": 0.5}
ENDS: dict[str, Any] = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
OPT: dict[str, Any] = {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.5, "layerdrop": 0.5}


def with_adapter(model: Any, share: float) -> Any:
    """As another program saves it: its adapter says something, and drops ``share`` of what it reads."""
    how: dict[str, Any] = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False}
    return get_peft_model(model, LoraConfig(lora_dropout=share, task_type="CAUSAL_LM", **how))


# Where each keeps its shares: torch's layers; a number in the attention; numbers in layers, and whole layers;
# the configuration, read in each pass; a layer inside an adapter.
MODELS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: hf.GPT2LMHeadModel(config_of("gpt2", VOCAB)),  # type: ignore[arg-type]
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**small_shape(VOCAB), **HALF)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **ENDS, **OPT, **HALF)
    ),
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, hidden_dropout=0.5, **ENDS, **HALF
        )
    ),
    "adapter": lambda: with_adapter(fresh("llama", VOCAB), 0.5),
}


def numbers(model: nn.Module) -> list[dict[str, object]]:
    """All numbers that modules and their configurations hold beside weights."""
    holders = [*model.modules(), *(getattr(module, "config", None) for module in model.modules())]
    return [
        {name: value for name, value in vars(holder).items() if isinstance(value, float)}
        for holder in holders
        if holder is not None
    ]


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_dropped_wherever_the_share_stands(name: str) -> None:
    """In training mode a model says what it says in evaluation mode; behind it, every share is back."""
    torch.manual_seed(0)
    model = MODELS[name]()
    ids = torch.arange(2, 26).view(2, 12)

    def said() -> Tensor:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False).logits

    wanted, before = (model.eval(), said())[1], numbers(model)
    model.train()
    assert not torch.allclose(said(), wanted, atol=1e-3)
    with without_dropout(model):
        torch.testing.assert_close(said(), wanted, rtol=0, atol=1e-5)
        assert model.training
    assert numbers(model) == before
    assert not torch.allclose(said(), wanted, atol=1e-3)


def test_every_share_is_back_after_an_error() -> None:
    model = MODELS["gpt2"]()
    before = numbers(model)
    with pytest.raises(ValueError, match="stop"), without_dropout(model):
        raise ValueError("stop")
    assert numbers(model) == before


# --- The law: how a step is cut into forward passes changes no result ---


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    lines = [
        {"prompt": item.pair.prompt[0].content, "a": item.pair.a, "b": item.pair.b, "p_a": item.p_a}
        for item in make_preferences(8)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def gpt2(preset: LoadedModel) -> Any:
    """With the shares that are its default: 0.1 of embeddings, attention and residual stream."""
    return fresh("gpt2", len(preset.tokenizer))


@pytest.mark.law(4)
@pytest.mark.parametrize("kind", ["gpt2", "adapter"])
def test_the_token_budget_changes_no_result(
    kind: str, preset: LoadedModel, rows: str, tmp_path: Path
) -> None:
    """One pair in a forward pass, or all at once. What is saved has the shares that the model came with."""
    start, how = tmp_path / "start", {}
    if kind == "gpt2":
        gpt2(preset).save_pretrained(start)
    else:
        copy.deepcopy(preset.model).save_pretrained(tmp_path / "base")
        preset.tokenizer.save_pretrained(tmp_path / "base")
        base = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        with_adapter(base, 0.1).save_pretrained(start)
        how = {"lora": True, "adapter": "continued"}
    preset.tokenizer.save_pretrained(start)
    quick: dict[str, Any] = {"template": "compact", "max_steps": 3, "batch_size": 4, "device": "cpu", **how}
    found = []
    for budget in (1, 10_000):
        output = tmp_path / f"by-{budget}"
        result = train(
            TrainConfig(str(start), [rows], output, token_budget=budget, learning_rate=1e-3, **quick)
        )
        assert result["engine"] == "tree"
        found.append(result["train_loss"])
        file, shares = ("config.json", ("embd_pdrop", "attn_pdrop", "resid_pdrop"))
        if kind == "adapter":
            file, shares = "adapter_config.json", ("lora_dropout",)
        saved = json.loads((output / file).read_text(encoding="utf-8"))
        assert [saved[share] for share in shares] == [0.1] * len(shares)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.law(4)
def test_the_token_budget_changes_no_adaptation(
    preset: LoadedModel, renderer: Renderer, preferences: list[Preference]
) -> None:
    """Of GPT-2 with its default shares: the same loss over three steps, and the same weights of the head."""
    heads = []
    for budget in (1, 10_000):
        model = gpt2(preset)
        objective = Judge(renderer, label_smoothing=0.1)
        settings = AdaptSettings(method="all", batch_size=4, token_budget=budget)
        learner = Learner(model, objective, objective.encode(preferences[:8]), settings)
        loss = learner.learn(np.arange(8), rate=1e-3, steps=3)
        heads.append((loss, model.lm_head.weight.detach().clone()))
        assert model.transformer.drop.p == 0.1
    assert heads[0][0] == pytest.approx(heads[1][0], rel=1e-5)
    torch.testing.assert_close(heads[0][1], heads[1][1], rtol=0, atol=1e-5)
