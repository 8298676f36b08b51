"""How many tokens one forward pass may read: enough to be fast, few enough for the memory that is free."""

from __future__ import annotations

from typing import Any

import psutil
import torch
from torch import nn

from gram.engine.heads import core

MOST = {"cpu": 4_096, "cuda": 131_072}
"""Tokens per forward pass where memory is no limit: a CPU has a cache, a GPU wants large products."""

_FEWEST = 2_048
_SHARE = 0.4  # of the free memory; the rest is for the output layer, the keys of paths, and other programs


def token_budget_for(model: nn.Module) -> int:
    """Tokens per forward pass without gradients, for a model on its device."""
    inner = core(model)
    config: Any = inner.config.get_text_config()
    place = inner.device.type
    free = torch.cuda.mem_get_info(inner.device)[0] if place == "cuda" else psutil.virtual_memory().available
    # What one layer holds at a time: the hidden states and their norm, queries, keys, values, gated product.
    mlp_size = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    bytes_per_token = inner.dtype.itemsize * (8 * config.hidden_size + 3 * mlp_size)
    return max(_FEWEST, min(MOST.get(place, MOST["cpu"]), int(_SHARE * free / bytes_per_token)))
