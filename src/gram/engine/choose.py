"""Which engine serves which model: recognised from its configuration, then proved on a small example.

A model that the trie cannot serve is never read wrongly in silence: it takes the plain path, with a word.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gram.asking import EngineName
from gram.engine.attention import NAME
from gram.engine.base import Batch, Engine, TokenRow
from gram.engine.heads import core, output_layer
from gram.engine.plain import Plain, takes_positions
from gram.engine.tree import Tree

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_LONGEST = 72  # tokens of the example
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def choose_engine(model: PreTrainedModel, wanted: EngineName = "tree", *, training: bool = False) -> Engine:
    """The engine for ``model``, which is made ready for it.

    Falls back to the plain path, with one warning that says why, where the trie cannot serve the model.
    The model must be on its device; its mode and weights stay as they are.

    Args:
        training: it is going to be trained: dropout in its attention counts.
    """
    if wanted == "plain":
        return Plain()
    bare = core(model)
    reason = obstacle(bare) or _tried(bare, training)
    if reason is None:
        return Tree()
    warnings.warn(
        f"{type(bare).__name__} is read without sharing prefixes, which is slower: {reason}", stacklevel=2
    )
    return Plain()


def obstacle(model: PreTrainedModel) -> str | None:
    """What in a model's configuration keeps it from being read as a trie; None: nothing known."""
    config: Any = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    rope = getattr(config, "rope_parameters", None) or {}
    findings = {
        "it keeps a recurrent state": getattr(model, "_is_stateful", False),
        f"its layers include {', '.join(sorted(kinds))}": bool(kinds),
        "it caps its attention logits": getattr(config, "attn_logit_softcapping", None) is not None,
        "it caps its output logits": getattr(config, "final_logit_softcapping", None) is not None,
        "it has attention sinks": any(name.endswith("sinks") for name, _ in model.named_parameters()),
        "it does not take positions": not takes_positions(type(model.base_model)),
        "its rotary embedding depends on the longest prompt so far": "dynamic" in str(rope),
        "its attention cannot be replaced": not getattr(model, "_supports_attention_backend", False),
        "its output layer is not a plain one": not isinstance(output_layer(model), nn.Linear),
    }
    return next((reason for reason, found in findings.items() if found), None)


def rotary_switch(model: PreTrainedModel) -> int | None:
    """Tokens above which a model embeds all positions of a batch differently (LongRoPE); None: never."""
    config: Any = core(model).config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if "longrope" not in str(rope):
        return None
    return rope.get("original_max_position_embeddings") or config.original_max_position_embeddings


def _tried(model: PreTrainedModel, training: bool) -> str | None:
    """Reads two prompts both ways; None when the numbers agree, and then the model is ready.

    What no list of known obstacles can foresee (a scaled output layer, a mask of a model's own, a kernel
    that aligns its mask differently) shows here.
    """
    before = model.config._attn_implementation or "eager"
    _set_attention(model, NAME)
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.inference_mode():
            model.eval()
            found = _differs(model)
            if training and found is None:
                model.train()
                _read(Tree(), model, _example(model))  # dropout in the attention is refused there
    except Exception as error:  # whatever a model's own code raises when it meets something unknown
        found = f"reading it so fails with {type(error).__name__}: {error}"
    for module, mode in modes:
        module.training = mode
    if found is not None:
        _set_attention(model, before)
    return found


def _differs(model: PreTrainedModel) -> str | None:
    rows = _example(model)
    (mine, batch), (theirs, _) = (_read(engine, model, rows) for engine in (Tree(), Plain()))
    unasked = _windows(model) - batch["tree_plan"].windows
    if unasked:  # longer than the example, so the numbers do not show it
        return f"its layers do not tell their attention of the window of {unasked.pop()} tokens"
    difference = float((mine - theirs).norm() / theirs.norm().clamp(min=1e-12))
    if difference > _TOLERANCE.get(model.dtype, 1e-4):  # a broken model's NaN shows elsewhere
        return f"the numbers would differ, by {difference:.2g} of their size"
    return None


def _example(model: PreTrainedModel) -> list[TokenRow]:
    """Two prompts that share two thirds; no token is the pad, which classifiers would not count."""
    config: Any = model.config.get_text_config()
    longest = min(getattr(config, "max_position_embeddings", None) or _LONGEST, _LONGEST)
    own = longest // 3
    ids = [(7 * place + 3) % config.vocab_size for place in range(longest + own)]
    ids = [(token + 1) % config.vocab_size if token == config.pad_token_id else token for token in ids]
    return [TokenRow(ids[:longest]), TokenRow(ids[: longest - own] + ids[longest:])]


def _read(engine: Engine, model: PreTrainedModel, rows: list[TokenRow]) -> tuple[Tensor, Batch]:
    batch = {name: value.to(model.device) for name, value in engine.lay_out(rows).items()}
    if isinstance(getattr(model, "score", None), nn.Module):
        return engine.scores(model, batch), batch
    layer = output_layer(model)
    assert isinstance(layer, nn.Linear)
    return engine.next_logits(model, batch, range(min(layer.out_features, 256))), batch


def _windows(model: PreTrainedModel) -> set[int]:
    """The sliding windows that a model's configuration says its layers have."""
    config: Any = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)
    used = "sliding_attention" in layers if layers else getattr(config, "use_sliding_window", True)
    return {window} if window is not None and used else set()


def _set_attention(model: PreTrainedModel, name: str) -> None:
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.set_attn_implementation(name)
    finally:
        logger.setLevel(level)
