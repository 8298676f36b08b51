"""Sizes in a model's configuration: one for all layers, a list of one per layer, or each layer's own.

Knows configurations of transformers; knows no weights.
"""

from __future__ import annotations

from typing import Any


def over_layers(config: Any, name: str) -> list[Any]:
    """The values that a setting has in the layers, those that are None or not there left out.

    Example:
        >>> from transformers import Gemma3nTextConfig, LlamaConfig
        >>> over_layers(LlamaConfig(intermediate_size=64), "intermediate_size")
        [64]
        >>> sizes = Gemma3nTextConfig(num_hidden_layers=2, intermediate_size=[64, 128])
        >>> over_layers(sizes, "intermediate_size")
        [64, 128]
    """
    each = list(config.per_layer_config) if getattr(config, "is_heterogeneous", False) else [config]
    found = [getattr(layer, name, None) for layer in each]
    values = [value for item in found for value in (item if isinstance(item, list | tuple) else [item])]
    return [value for value in values if value is not None]


def widest(config: Any, name: str) -> int:
    """The largest size of any layer; 0 where the configuration names none.

    Example:
        >>> from transformers import LlamaConfig
        >>> widest(LlamaConfig(num_attention_heads=4), "num_attention_heads")
        4
    """
    return max(over_layers(config, name), default=0)


def head_width(config: Any) -> int:
    """The width of one head of the attention, of the widest layer."""
    return widest(config, "head_dim") or config.hidden_size // widest(config, "num_attention_heads")
