"""The linear layers of a frozen decoder in 4 bits, for adapters to be trained on (QLoRA, arXiv 2305.14314).

NF4 with its scales quantised again, by bitsandbytes: about half a byte per weight. Embeddings, norms and
heads stay as they are. Knows modules; knows no training.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gram.errors import ConfigError
from gram.modeling.trainable import decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_quantising(device: str) -> None:
    """Check that layers in 4 bits can be trained through on ``device``.

    Raises:
        ConfigError: it is no GPU, or bitsandbytes is missing.
    """
    if device != "cuda":  # bitsandbytes 0.50 gives wrong gradients on a CPU once it has scored there
        raise ConfigError(f"quantise 4bit needs a GPU, and the device is {device}")
    if find_spec("bitsandbytes") is None:
        raise ConfigError("quantise 4bit needs bitsandbytes: pip install 'gram-rm[quantise]'")


def quantise(model: PreTrainedModel, *, compute: torch.dtype) -> None:
    """Put the linear layers of ``model``, an fp32 model on the CPU, into 4 bits, in place.

    They are quantised when the model is moved to its device. Layers with adapters, which peft made, are not
    for it.

    Args:
        compute: precision of the products.

    Raises:
        ConfigError: there is no layer that could be quantised.
    """
    bnb: Any = import_module("bitsandbytes")
    found = [
        (parent, name, child)
        for parent in decoder_layers(model).modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    if not found:
        raise ConfigError(f"{type(model).__name__}: has no linear layers that could be put into 4 bits")
    for parent, name, linear in found:
        low: Any = bnb.nn.LinearNF4(1, 1, bias=False, compute_dtype=compute)
        low.in_features, low.out_features = linear.in_features, linear.out_features
        low.weight = bnb.nn.Params4bit(
            linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True, module=low
        )
        low.bias = linear.bias
        setattr(parent, name, low)
    model.is_loaded_in_4bit = True  # type: ignore[attr-defined]  # peft asks for it
