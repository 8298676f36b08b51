"""Norms and rotary embedding of a decoder in bf16 in few kernels: on a GPU their launches take the time.

A norm of Llama's is then torch's one kernel, in place of eight. Queries and keys are turned by three kernels
each, in place of five, and as many in the backward pass. Whatever reads otherwise, computes in fp32 or has no
kernel here keeps the forward pass of its class. The same code runs on a CPU, where tests prove it.

Knows modules that are recognised (``recognise``); knows no rows, prompts or losses.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import rms_norm

from gram.engine.heads import core
from gram.engine.recognise import in_bf16, is_attention, is_norm, kernel_of, keywords_of
from gram.engine.stand_in import Call, calls_of, is_free, put, take_away

_ROUNDING = {"norm": 2**-7, "attention": 0.05}
"""What may differ, of the size of what a module says. Measured: 0.003 in norms, which round once where their
class rounds twice, 0.003 to 0.006 in attention; near 1 where a weight is left out or an angle is wrong."""


def fuse(model: nn.Module, read: Callable[[], object]) -> float:
    """Put fewer kernels under the norms and the attention of ``model`` that are recognised, and prove each.

    They run where hidden states are bf16, or under autocast to it. Adapters, hooks and weights in training
    are met as before: products are those of the module.

    Args:
        read: runs a few prompts through the model. Each module is then given the same input again.

    Returns:
        The greatest difference of a module, over what the rounding of bf16 explains. A module whose
        difference is above 1, or which fails, is as it was; so is one that ``read`` does not reach.
    """
    modules = [m for m in core(model).modules() if (is_norm(m) or is_attention(m)) and is_free(m)]
    calls = calls_of(modules, read)
    for call in calls:
        if is_free(call.module):
            put(call.module, _norm if is_norm(call.module) else _attention)
    worst = 0.0
    for call in calls:  # norms of heads before the attention that they are part of
        difference = _apart(call)
        worst = max(worst, difference)
        if difference > 1:
            take_away([call.module])
    return worst


def _apart(call: Call) -> float:
    """How far a module is from what it said, over what rounding explains; infinite where it fails."""
    try:
        found = call.module.forward(*call.values, **call.keywords)
    except RuntimeError:  # a kernel that this device does not have for these tensors
        return inf
    if is_norm(call.module):
        output, allowed = call.output, _ROUNDING["norm"]
    else:
        (found, *_), (output, *_), allowed = found, call.output, _ROUNDING["attention"]
    difference = float((found.float() - output.float()).norm() / (allowed * output.float().norm()))
    return difference if difference >= 0 else inf  # not a number


def _norm(norm: Any, hidden_states: Tensor) -> Tensor:
    """The forward pass of a norm."""
    if not in_bf16(hidden_states):
        return type(norm).forward(norm, hidden_states)
    return normed(hidden_states, norm.weight, norm.variance_epsilon)


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(..., H) ``x / sqrt(mean(x^2) + eps) * weight`` (arXiv 1910.07467), computed in fp32, rounded once.

    Example:
        >>> normed(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)  # over the root of 12.5
        tensor([[0.8485, 2.2627]])
    """
    if torch.is_autocast_enabled(x.device.type):  # it would have copies in fp32 made of both
        with torch.autocast(x.device.type, enabled=False):
            return normed(x, weight, eps)
    kind = torch.promote_types(x.dtype, weight.dtype)  # torch has a kernel where both are the same
    return rms_norm(x.to(kind), weight.shape, weight.to(kind), eps)


def _attention(
    attention: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    **rest: Any,
) -> tuple[Tensor, Any]:
    """The forward pass of attention, as a layer of transformers calls it."""
    kernel = kernel_of(attention)
    if kernel is None or past_key_values is not None or not in_bf16(hidden_states):
        rest |= {"attention_mask": attention_mask, "past_key_values": past_key_values}
        forward = type(attention).forward
        return forward(attention, hidden_states, position_embeddings=position_embeddings, **rest)
    shape = (*hidden_states.shape[:-1], -1, attention.head_dim)  # (batch, length, heads, d)
    q = attention.q_proj(hidden_states).view(shape)
    k = attention.k_proj(hidden_states).view(shape)
    v = attention.v_proj(hidden_states).view(shape)
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    q, k = (turned(part, *position_embeddings, v.dtype) for part in (q, k))
    attended, weights = kernel(
        attention,
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attention_mask,
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.scaling,
        **keywords_of(type(attention))(attention),
        **rest,
    )
    return attention.o_proj(attended.reshape(*shape[:2], -1)), weights


def turned(x: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, length, heads, d) in ``dtype``: every head turned by the angles of its position.

    Args:
        cos, sin: (batch or 1, length, d) of the angles (arXiv 2104.09864, in the halves of GPT-NeoX), whose
            halves are equal; they get no gradient.

    Example:
        >>> x, ones, zeros = torch.tensor([[[[1.0, 2.0]]]]), torch.ones(1, 1, 2), torch.zeros(1, 1, 2)
        >>> turned(x, zeros, ones, x.dtype)  # by a right angle
        tensor([[[[-2.,  1.]]]])
    """
    return _Turn.apply(x, cos, sin, dtype)


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.dtype = x.dtype
        return _turn(x, cos, sin, 1, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, sin, -1, ctx.dtype), None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int, dtype: torch.dtype) -> Tensor:
    """``turned`` by the angles (sign 1) or against them (-1), in three kernels."""
    half = x.shape[-1] // 2
    cos, sin = cos[..., None, :half], sin[..., None, :half]  # (batch or 1, length, 1, d / 2)
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    torch.mul(x.unflatten(-1, (2, half)), cos[..., None, :], out=out.unflatten(-1, (2, half)))
    out[..., :half].addcmul_(x[..., half:], sin, value=-sign)
    out[..., half:].addcmul_(x[..., :half], sin, value=sign)
    return out
