"""Whether a model can be read as a fan: how it turns queries is found, and proved on a small example."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gram.engine.base import Engine, TokenRow
from gram.engine.choose import choose_engine, obstacle
from gram.engine.fan import Fan
from gram.engine.heads import core
from gram.engine.kept import Kept
from gram.engine.neighbours import rotary_switch
from gram.engine.plain import Plain
from gram.engine.rotary import Rotary, find_rotary
from gram.engine.segments import Part, Segment
from gram.engine.stand_in import take_away
from gram.errors import CheckpointError

_TOKENS = (30, 12, 3)  # of two parts that a segment sees, and of the segment
_SHIFT = 7  # positions
_FEW = 64  # logits that are compared
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def choose_fan(
    model: PreTrainedModel, *, training: bool = False, bf16: bool | None = None, keep: bool = False
) -> Fan:
    """The engine that reads ``model`` as a fan; attention and layers are replaced as by ``choose_engine``.

    Args:
        training, bf16: as for ``choose_engine``.
        keep: what was read once is used again in later passes, while the weights stay as they are.

    Raises:
        CheckpointError: the model cannot be read so, and why; or as ``choose_engine``.
    """
    bare = core(model)
    take_away(bare.modules())
    reason = obstacle(bare)
    if rotary_switch(bare) is not None:
        reason = "its rotary embedding depends on the longest prompt (LongRoPE)"
    rotary = None if reason else _rotary(bare)
    if reason is None and rotary is None:
        reason = "it has no rotary keys, which alone can stand at two places"
    if reason is None and choose_engine(model, training=training, bf16=bf16).name == "plain":
        reason = "its prompts cannot share what they begin with, see the warning above"
    if reason is None and rotary is not None:
        fan = Fan(rotary, Kept(bare) if keep else None)
        reason = _failed_trial(bare, rotary)
        if reason is None:
            return fan
    raise CheckpointError(
        f"{type(bare).__name__} cannot be read in the fan layout: {reason}; use --layout sequence"
    )


def _rotary(model: PreTrainedModel) -> Rotary | None:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        return find_rotary(model)
    finally:
        for module, mode in modes:
            module.training = mode


def _failed_trial(model: PreTrainedModel, rotary: Rotary) -> str | None:
    """Why a row whose beginning is seen elsewhere is not read as the row itself; None: it is.

    A segment that stands behind parts, all of them further back than they were read, is the same to it as the
    row of parts and segment: distances are all that rotary embeddings tell.
    """
    size = model.config.get_text_config().vocab_size
    ids = [(7 * place + 3) % size for place in range(sum(_TOKENS))]
    first, second = _TOKENS[0], _TOKENS[0] + _TOKENS[1]
    parts = (
        Part(tuple(ids[:first]), 0, _SHIFT),
        Part(tuple(ids[:second]), first, first + _SHIFT),
    )
    segment = Segment(ids[second:], parts=parts, start=second + _SHIFT)
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.inference_mode():
            model.eval()
            found = _read(Fan(rotary), model, segment)
            wanted = _read(Plain(), model, TokenRow(ids))
    except Exception as error:  # whatever a model's own code raises when it meets something unknown
        return f"reading it so fails with {type(error).__name__}: {error}"
    finally:
        for module, mode in modes:
            module.training = mode
    difference = float((found - wanted).norm() / wanted.norm().clamp(min=1e-12))
    if difference > _TOLERANCE.get(model.dtype, 1e-4):
        return f"the numbers would differ where a part stands elsewhere, by {difference:.2g} of their size"
    return None


def _read(engine: Engine, model: nn.Module, row: TokenRow) -> Tensor:
    device = core(model).device
    batch = {name: value.to(device) for name, value in engine.lay_out([row]).items()}
    return engine.next_logits(model, batch, range(min(_FEW, core(model).config.get_text_config().vocab_size)))
