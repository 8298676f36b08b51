"""A base in 4 bits under adapters.

Layers are made and read here on the CPU, where bitsandbytes is installed; a whole training needs a GPU.
"""

from __future__ import annotations

import copy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gram.cli.main import main
from gram.errors import ConfigError
from gram.modeling.quantised import check_quantising, quantise
from gram.modeling.trainable import LoraSettings, add_lora
from gram.training.config import TrainConfig
from small_models import fresh

WITH_ADAPTERS: dict[str, Any] = {"lora": True, "adapter": "kept"}


def test_what_it_goes_with() -> None:
    common: dict[str, Any] = {"model": "m", "data": ["d"], "output": Path("o"), "quantise": "4bit"}
    assert TrainConfig(**common, **WITH_ADAPTERS).quantise == "4bit"
    others: list[dict[str, Any]] = [{}, {"lora": True}, {"lora": True, "adapter": "continued"}]
    for other in others:
        with pytest.raises(ConfigError, match="quantise goes with lora and adapter kept"):
            TrainConfig(**common, **other)


def test_elsewhere_it_is_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["train", "--model", "m", "--data", "d", "--output", "o", "--lora", "--adapter", "kept"]
    assert main([*given, "--quantise", "4bit", "--device", "cpu"]) == 1
    assert "quantise 4bit needs a GPU, and the device is cpu" in capsys.readouterr().err


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gram.modeling.quantised.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'gram-rm\[quantise\]'"):
        check_quantising("cuda")


def adapted(model: Any) -> Any:
    torch.manual_seed(1)
    wrapped: Any = add_lora(model, LoraSettings(rank=4, alpha=8), score_head=False)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.05)
    return wrapped


def gradients(model: Any, ids: Tensor) -> dict[str, Tensor]:
    model(input_ids=ids, labels=ids).loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_adapters_get_the_gradients_that_the_rounded_weights_give() -> None:
    """Beside the same model with each quantised weight written out in fp32: equal, and only adapters train.

    Of 64 x 32 weights a layer holds 1,024 bytes. Norms, embeddings and the head keep their fp32.
    """
    bnb: Any = import_module("bitsandbytes")
    plain = fresh("llama", 60)
    low: Any = copy.deepcopy(plain)
    quantise(low, compute=torch.float32)
    low.to("cpu")
    written: Any = copy.deepcopy(plain)
    for (_, layer), (_, other) in zip(low.named_modules(), written.named_modules(), strict=True):
        if isinstance(layer, bnb.nn.Linear4bit):
            weight: Any = layer.weight
            other.weight.data = bnb.functional.dequantize_4bit(weight.data, weight.quant_state).float()
    layer = low.model.layers[0].mlp.up_proj.weight
    assert layer.dtype == torch.uint8 and layer.numel() == 1024
    assert low.lm_head.weight.dtype == low.model.norm.weight.dtype == torch.float32
    assert not torch.equal(
        written.model.layers[0].mlp.up_proj.weight, plain.model.layers[0].mlp.up_proj.weight
    )
    ids = torch.arange(2, 50).view(3, 16)
    mine, theirs = (gradients(adapted(model), ids) for model in (low, written))
    assert mine.keys() == theirs.keys() and all("lora" in name for name in mine)
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-6)
