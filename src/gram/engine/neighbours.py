"""Which rows may share a batch, where a model's numbers would depend on what else is in it.

Knows configurations of transformers; knows no rows but their lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from gram.engine.heads import core
from gram.engine.shape import over_layers
from gram.errors import ConfigError


def rotary_switch(model: PreTrainedModel) -> int | None:
    """The length in tokens above which a model embeds all positions of a batch differently (LongRoPE).

    None for models that embed a position the same way whatever the length.
    """
    config: Any = core(model).config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if "longrope" not in str(rope):
        return None
    return rope.get("original_max_position_embeddings") or config.original_max_position_embeddings


def sees_padding_beyond(model: PreTrainedModel) -> int | None:
    """The length in tokens above which a model's numbers depend on the padding in front of a row.

    DeepSeek V3.2, GLM 5 and others attend to the tokens that an indexer picks, as many as ``index_topk``; up
    to that many they are all, beyond it the place of tokens decides among equals. DeepSeek V4 puts tokens
    together in blocks, which padding shifts: 0. None for models that do neither.
    """
    config: Any = core(model).config.get_text_config()
    if over_layers(config, "compress_rates"):
        return 0
    blocks, size = over_layers(config, "index_topk_blocks"), over_layers(config, "index_block_size")
    budgets = [*over_layers(config, "index_topk"), *over_layers(config, "indexer_budget")]
    return min([*budgets, *([min(blocks) * min(size)] if blocks and size else [])], default=None)


def kind_of_length(model: PreTrainedModel) -> Callable[[int], int]:
    """Rows may share a batch where this says the same of their lengths in tokens."""
    switch, beyond = rotary_switch(model), sees_padding_beyond(model)

    def kind(length: int) -> int:
        if beyond is not None and length > beyond:
            return length
        return int(switch is not None and length > switch)

    return kind


def refuse_unlike_rows(model: PreTrainedModel, max_length: int) -> None:
    """Refuse training in which rows of several lengths would share a batch, and change each other.

    Raises:
        ConfigError: rows of up to ``max_length`` tokens would.
    """
    beyond = sees_padding_beyond(model)
    if beyond is not None and max_length > beyond:
        reason = f"what {type(model).__name__} says of a row depends on the padding in front of it"
        raise ConfigError(
            f"max_length {max_length}: {reason}, beyond {beyond} tokens: at most so many in training"
            if beyond
            else f"{reason}: rows of several lengths would change each other, so that it is not trained"
        )
