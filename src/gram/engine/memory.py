"""How many tokens one forward pass may read: enough to be fast, few enough for the memory that is free.

Estimates, from the shape of a model alone. Knows decoders; knows no rows and no losses.
"""

from __future__ import annotations

from typing import Any

import psutil
import torch
from torch import nn

from gram.asking import Precision
from gram.engine.fused import is_fused
from gram.engine.heads import core
from gram.engine.shape import head_width, widest

MOST = {"cpu": 4_096, "cuda": 131_072}
"""Tokens per forward pass where memory is no limit: a CPU has a cache, a GPU wants large products."""

_FEWEST = 2_048
_SHARE = 0.4  # of the free memory; the rest is for the output layer, the keys of paths, and other programs
_SHARE_KEPT = 0.1  # of the free memory, for keys and values that later passes use again

_MOST_TRAINED = {"cpu": 8_192, "cuda": 65_536}
_KEPT = 8  # values per token, layer and unit of width that wait for the backward pass; 7.9 were counted
_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 3}  # each; under autocast about half are kept in fp32
_FUSED = 1  # bytes in place of that in fused layers, which keep a third of the values, in bf16
_AT_ONCE = 2  # layers whose values and gradients are there together, beside what waits
_LOGITS = 12  # bytes per token and word where all logits are made: themselves, their softmax, their gradient
_OPTIMIZER = 12  # bytes per trained weight: gradient and two moments in fp32


def token_budget_for(model: nn.Module) -> int:
    """Tokens per forward pass without gradients, for a model on its device."""
    inner = core(model)
    config: Any = inner.config.get_text_config()
    # What one layer holds at a time: the hidden states and their norm, queries, keys, values, gated product.
    bytes_per_token = inner.dtype.itemsize * (8 * config.hidden_size + 3 * _mlp_size(config))
    most = MOST.get(inner.device.type, MOST["cpu"])
    return max(_FEWEST, min(most, int(_SHARE * _free(inner) / bytes_per_token)))


def training_budget_for(
    model: nn.Module,
    dtype: Precision,
    *,
    checkpointing: bool,
    all_logits: bool,
    processes: int = 1,
    parts: int = 1,
) -> int:
    """Tokens per forward pass of a training step, for a model on its device, before its first step.

    A power of two, so that a little more or less free memory does not cut the batches elsewhere.

    Args:
        dtype: precision of the products.
        checkpointing: whether activations are computed again in the backward pass.
        all_logits: whether every token gets the logits of the whole vocabulary, as in the plain layout.
        processes: that train on this machine, and share its memory if they train on the CPU.
        parts: into which the model is divided, if it is, each with a process of its own.
    """
    inner = core(model)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    shared = 1 if inner.device.type == "cuda" else processes
    spare = _SHARE * (_free(inner) / shared - _OPTIMIZER * trained / parts)
    config = inner.config.get_text_config()
    fused = dtype == "bf16" and is_fused(inner)
    each = bytes_per_trained_token(
        config, dtype, checkpointing=checkpointing, all_logits=all_logits, fused=fused
    )
    tokens = max(1, int(spare / each))
    most = _MOST_TRAINED.get(inner.device.type, _MOST_TRAINED["cpu"])
    return min(most, 1 << (tokens.bit_length() - 1))


def bytes_per_trained_token(
    config: Any, dtype: Precision, *, checkpointing: bool, all_logits: bool, fused: bool = False
) -> int:
    """What a token holds in memory between the forward and the backward pass, for a decoder of this shape.

    All layers keep what they computed; with ``checkpointing`` only what came in, and one layer after another
    is computed again.

    Args:
        config: of the text model.
        fused: its layers are computed by ``engine.layer``.

    Example:
        >>> from transformers import LlamaConfig
        >>> shape = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30)
        >>> bytes_per_trained_token(shape, "fp32", checkpointing=False, all_logits=False)  # 8 * 4 * 32 * 2112
        2162688
        >>> bytes_per_trained_token(shape, "fp32", checkpointing=True, all_logits=False)
        273408
    """
    heads = widest(config, "num_attention_heads") * widest(config, "head_dim")
    hidden = max(config.hidden_size, heads)
    layer = _KEPT * (_FUSED if fused else _BYTES[dtype]) * (hidden + _mlp_size(config))
    kept = 2 * 4 * hidden if checkpointing else layer  # the input in fp32, and its copy for the next layer
    logits = _LOGITS * config.vocab_size if all_logits else 0
    return config.num_hidden_layers * kept + _AT_ONCE * layer + logits


def keys_that_fit(model: nn.Module) -> int:
    """Tokens whose keys and values may be kept between forward passes, for a model on its device."""
    inner = core(model)
    config: Any = inner.config.get_text_config()
    heads = widest(config, "num_key_value_heads") or widest(config, "num_attention_heads")
    each = 2 * config.num_hidden_layers * heads * head_width(config) * inner.dtype.itemsize
    return max(_FEWEST, int(_SHARE_KEPT * _free(inner) / each))


def _free(inner: Any) -> int:
    """Free memory of a model's device, in bytes."""
    if inner.device.type == "cuda":
        return torch.cuda.mem_get_info(inner.device)[0]
    return psutil.virtual_memory().available


def _mlp_size(config: Any) -> int:
    return widest(config, "intermediate_size") or 4 * config.hidden_size
