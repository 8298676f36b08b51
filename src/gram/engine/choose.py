"""Which engine and layers serve which model: recognised from what it is, then proved on a small example.

A model that cannot be read as a trie gets the plain engine, with a warning that says why.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gram.asking import EngineName
from gram.engine import fused, pieces
from gram.engine.attention import NAME
from gram.engine.base import Batch, Engine, TokenRow
from gram.engine.heads import core, output_layer
from gram.engine.neighbours import kind_of_length, sees_padding_beyond
from gram.engine.plain import Plain, takes_positions
from gram.engine.shape import over_layers
from gram.engine.stand_in import take_away
from gram.engine.tree import Tree
from gram.errors import CheckpointError

FUSED = {"cpu": fused.fuse, "cuda": pieces.fuse}
"""What makes a model in bf16 faster on a device: a CPU waits for its memory, a GPU for launches."""

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_LONGEST = 72  # tokens of the example
_FEW = 256  # logits that are compared
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
_OF_SCORES = 3  # of one number by chance all rounding meets, which hundreds of logits spread
_ALONE = {torch.float32: 1e-3}  # a row alone against the row in a batch; where rows depend it is near 1
_ALONE_HALF = 0.25


def choose_engine(
    model: PreTrainedModel, name: EngineName = "tree", *, training: bool = False, bf16: bool | None = None
) -> Engine:
    """The engine for ``model``, whose attention and layers are replaced where the engine needs that.

    Falls back to the plain engine, with one warning that says why, where the model cannot be read as a trie.
    The model must be on its device already; its mode and weights stay as they are.

    Args:
        name: the engine to use if possible.
        training: the model is going to be trained, so that dropout in its attention matters.
        bf16: the model computes in bf16, by its weights or by autocast; by default as its weights are.

    Raises:
        CheckpointError: its numbers depend on what else is in a batch, so that nothing could be trusted.
    """
    bare = core(model)
    take_away(bare.modules())
    refuse_dependence(bare)
    low = bare.dtype == torch.bfloat16 if bf16 is None else bf16
    # On a GPU it is tried in the precision it will run in: the kernel for fp32 is another, compiled for it.
    tried_low = low and bare.device.type == "cuda" and bare.dtype == torch.float32
    with torch.autocast(bare.device.type, torch.bfloat16, enabled=tried_low):
        engine = _engine(bare, name, training)
    if low:
        _fuse(bare, engine)
    return engine


def _engine(bare: PreTrainedModel, name: EngineName, training: bool) -> Engine:
    if name == "plain":
        return Plain()
    reason = obstacle(bare) or _failed_trial(bare, training)
    if reason is None:
        return Tree()
    warnings.warn(
        f"{type(bare).__name__} is read without sharing prefixes, which is slower: {reason}", stacklevel=3
    )
    return Plain()


def _fuse(model: PreTrainedModel, engine: Engine) -> None:
    """Put fused layers, or parts of them, under ``model``, and prove on two prompts what they say."""
    fuse = FUSED.get(model.device.type)
    if fuse is None:
        return
    modes = [(module, module.training) for module in model.modules()]
    low = model.dtype == torch.bfloat16
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=not low):
        model.eval()
        difference = fuse(model, lambda: _read(engine, model, _example(model)))
    for module, mode in modes:
        module.training = mode
    if difference > 1:
        warnings.warn(
            f"{type(model).__name__} runs in bf16 without fused layers where one would say something else, "
            f"which is slower: by {difference:.2g} times what rounding explains",
            stacklevel=3,
        )


def refuse_dependence(model: PreTrainedModel) -> None:
    """Prove on two short rows what every score rests on; the model stays as it is.

    A row says the same alone, beside a longer one (beside one of its length, where only such share a batch),
    and in the model's own forward pass; and what a language model says of a beginning does not depend on what
    follows. The padding is odd, so that it shifts blocks of tokens. Recurrent models that ignore the mask,
    readers of the first column, encoders loaded as language models, and positions counted in a way of their
    own fail.

    Raises:
        CheckpointError: one of these does not hold, or the model's own code fails.
    """
    long, _ = _example(model)
    length = len(long.ids)
    count = length // 3 + (length - length // 3 + 1) % 2
    short = TokenRow(long.ids[:count])
    alike = kind_of_length(model)
    fellow = long if alike(count) == alike(length) else TokenRow(long.ids[length - count :])
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.inference_mode():
            model.eval()
            alone, beside = (_read(Plain(), model, rows)[0][-1] for rows in ([short], [fellow, short]))
            own = _own_reading(model, short, len(short.ids))
            within = own if _is_classifier(model) else _own_reading(model, long, len(short.ids))
            least = _least(model, short)
    except Exception as error:  # whatever a model's own code raises
        raise CheckpointError(
            f"{type(model).__name__}: its own code cannot read a prompt of {len(long.ids)} tokens: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
    for one, other, reason in (
        (alone, beside, "changes beside a longer one in one batch"),
        (own, within, "changes with what follows it: it reads in both directions, as encoders do"),
        (own, alone, "depends on how its positions are counted, which it does in a way of its own"),
    ):
        difference = float((one - other).norm() / max(float(one.norm()), least))
        if difference > _ALONE.get(model.dtype, _ALONE_HALF):
            raise CheckpointError(
                f"{type(model).__name__}: what it says of a prompt {reason}; the difference is "
                f"{difference:.2g} of its size, and such a model cannot be scored or trained"
            )


def _least(model: PreTrainedModel, row: TokenRow) -> float:
    """The size of numbers that differences are measured by: a score may be near 0, by chance or untrained.

    Of a score the size that it has on average for a head of its length in any direction.
    """
    weight = getattr(getattr(model, "score", None), "weight", None)
    if not isinstance(weight, Tensor):
        return 1e-12
    body: Any = model.base_model
    ids = torch.tensor([row.ids], device=model.device)
    hidden = body(input_ids=ids, use_cache=False).last_hidden_state[0, -1].float()  # (H,)
    return max(float(weight.detach().float().norm() * hidden.square().mean().sqrt()), 1e-12)


def _is_classifier(model: PreTrainedModel) -> bool:
    return isinstance(getattr(model, "score", None), nn.Module)


def _own_reading(model: PreTrainedModel, row: TokenRow, place: int) -> Tensor:
    """What the model's own forward pass says behind the first ``place`` tokens: (t,) logits or the score."""
    logits = model(input_ids=torch.tensor([row.ids], device=model.device), use_cache=False).logits
    if _is_classifier(model):
        return logits[0, 0].float()
    return logits[0, place - 1, :_FEW].float()


def obstacle(model: PreTrainedModel) -> str | None:
    """What in a model's configuration keeps it from being read as a trie; None if nothing is known to."""
    config: Any = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    rope = getattr(config, "rope_parameters", None) or {}
    applies_by_reason = {
        "it keeps a recurrent state": getattr(model, "_is_stateful", False),
        f"its layers include {', '.join(sorted(kinds))}": bool(kinds),
        "it caps its attention logits": getattr(config, "attn_logit_softcapping", None) is not None,
        "it caps its output logits": getattr(config, "final_logit_softcapping", None) is not None,
        "it has attention sinks": any(name.endswith("sinks") for name, _ in model.named_parameters()),
        "it does not take positions": not takes_positions(type(model.base_model)),
        "its numbers depend on the padding in front of a row": sees_padding_beyond(model) is not None,
        "its rotary embedding depends on the longest prompt so far": "dynamic" in str(rope),
        "its attention cannot be replaced": not getattr(model, "_supports_attention_backend", False),
        "its output layer is not a plain one": not isinstance(output_layer(model), nn.Linear),
    }
    return next((reason for reason, applies in applies_by_reason.items() if applies), None)


def _failed_trial(model: PreTrainedModel, training: bool) -> str | None:
    """Reads two prompts with both engines and compares the numbers.

    This shows what no list of known obstacles can foresee: a scaled output layer, a mask of a model's own, a
    kernel that aligns its mask differently.

    Returns:
        Why the model cannot be read as a trie; None if it can, and then its attention is replaced.
    """
    original_attention = model.config._attn_implementation or "eager"
    _set_attention(model, NAME)
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.inference_mode():
            model.eval()
            reason = _difference(model)
            if training and reason is None:
                model.train()
                _read(Tree(), model, _example(model))  # dropout in the attention is refused there
    except Exception as error:  # whatever a model's own code raises when it meets something unknown
        reason = f"reading it so fails with {type(error).__name__}: {error}"
    for module, mode in modes:
        module.training = mode
    if reason is not None:
        _set_attention(model, original_attention)
    return reason


def _difference(model: PreTrainedModel) -> str | None:
    """How the two engines' readings of the example differ, in words; None if they agree."""
    rows = _example(model)
    tree, batch = _read(Tree(), model, rows)
    plain, _ = _read(Plain(), model, rows)
    ignored_windows = _windows(model) - batch["tree_plan"].windows
    if ignored_windows:  # a window is longer than the example, so that the numbers do not show it
        return f"its layers do not tell their attention of the window of {ignored_windows.pop()} tokens"
    size = max(float(plain.norm()), _least(model, rows[0]) * len(rows) ** 0.5)
    difference = float((tree - plain).norm()) / size
    low = torch.is_autocast_enabled(model.device.type)
    allowed = _TOLERANCE.get(torch.bfloat16 if low else model.dtype, 1e-4)
    if _is_classifier(model):
        allowed *= _OF_SCORES
    if difference > allowed:  # NaN passes here, and fails when it scores
        return f"the numbers would differ, by {difference:.2g} of their size"
    return None


def _example(model: PreTrainedModel) -> list[TokenRow]:
    """Two prompts that share their first two thirds.

    No token is the pad token, which sequence classifiers skip when they look for the last token.
    """
    config: Any = model.config.get_text_config()
    limits = (getattr(config, "max_position_embeddings", None), sees_padding_beyond(model), _LONGEST)
    longest = min(limit for limit in limits if limit)
    tail = longest // 3  # tokens that differ at the end
    ids = [(7 * place + 3) % config.vocab_size for place in range(longest + tail)]
    ids = [
        (token + 1) % config.vocab_size if token == getattr(config, "pad_token_id", None) else token
        for token in ids
    ]
    return [TokenRow(ids[:longest]), TokenRow(ids[: longest - tail] + ids[longest:])]


def _read(engine: Engine, model: PreTrainedModel, rows: list[TokenRow]) -> tuple[Tensor, Batch]:
    """(n, t) logits or (n,) scores of n rows, and the batch they were read from."""
    batch = {name: value.to(model.device) for name, value in engine.lay_out(rows).items()}
    if _is_classifier(model):
        return engine.scores(model, batch), batch
    layer = output_layer(model)
    assert isinstance(layer, nn.Linear)
    return engine.next_logits(model, batch, range(min(layer.out_features, _FEW))), batch


def _windows(model: PreTrainedModel) -> set[int]:
    """The sliding windows that a model's configuration says its layers have."""
    config: Any = model.config.get_text_config()
    layers = getattr(config, "layer_types", None)
    slides = "sliding_attention" in layers if layers else getattr(config, "use_sliding_window", True)
    return set(over_layers(config, "sliding_window")) if slides else set()


def _set_attention(model: PreTrainedModel, name: str) -> None:
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.set_attn_implementation(name)
    finally:
        logger.setLevel(level)
