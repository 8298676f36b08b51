"""Attention over a packed trie on a GPU: one call for all nodes. Reference: ``attention.node_by_node``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from gram.engine.plan import Gather, Plan, Reach

NARROWEST = 16
"""The least head dimension that these kernels take."""
_KEPT = 4  # plans cached at once: gradient accumulation and checkpointing use recent ones again


@lru_cache(maxsize=_KEPT)
def gather_of(plan: Plan, window: int | None, device: torch.device) -> Gather:
    """``Gather.of``, once per forward pass instead of once per layer."""
    with torch.inference_mode(False):  # the cached tensors may serve a training step later
        return Gather.of(plan, window, device)


def varlen_serves(query: Tensor) -> bool:
    """Whether the flash kernel for sequences of various lengths takes these queries: half precision."""
    exists = find_spec("torch.nn.attention.varlen") is not None  # torch 2.10 and later
    return exists and query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)


def in_one_call(
    query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float | None, window: int | None
) -> Tensor:
    """(1, heads, N, d) to (1, N, heads, d), by the kernel that is fastest here."""
    device = query.device.type
    if torch.is_autocast_enabled(device):
        # As autocast does for torch's own attention. Queries and keys that were turned in fp32 are fp32, and
        # values still in half precision: the flash kernel would take none of it.
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    attend = by_varlen if varlen_serves(query) else by_flex
    return attend(query, key, value, plan, scaling, window)


def by_varlen(
    query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float | None, window: int | None
) -> Tensor:
    """(1, heads, N, d) to (1, N, heads, d): flash attention, causal from the lower right of each node."""
    from torch.nn.attention.varlen import varlen_attn

    grouped: dict[str, Any] = (
        {"enable_gqa": query.shape[1] != key.shape[1]} if _asks_for_groups(varlen_attn) else {}
    )
    gather = gather_of(plan, window, query.device)
    out = varlen_attn(
        query[0].transpose(0, 1).contiguous(),
        key[0].transpose(0, 1)[gather.keys],
        value[0].transpose(0, 1)[gather.keys],
        gather.query_ends,
        gather.key_ends,
        gather.most_queries,
        gather.most_keys,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        **grouped,
    )
    assert isinstance(out, Tensor)
    return out[None]


@cache
def _asks_for_groups(function: Callable[..., Any]) -> bool:
    """Whether it wants to be told that queries share keys, as from torch 2.12; before, it saw that itself."""
    return "enable_gqa" in signature(function).parameters


def by_flex(
    query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float | None, window: int | None
) -> Tensor:
    """The same through flex attention, which takes fp32 too; compiled on a GPU."""
    out = _flex(query.is_cuda)(
        query,
        key,
        value,
        block_mask=_block_mask(plan, window, query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2)


@lru_cache(maxsize=_KEPT)
def _block_mask(plan: Plan, window: int | None, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        inside = (k <= q) & (q < reach.ends[k])
        if window is None:
            return inside
        return inside & (reach.depths[q] - reach.depths[k] < window)

    with torch.inference_mode(False):
        reach = Reach.of(plan, device)
        tokens = len(reach.ends)
        return create_block_mask(sees, None, None, tokens, tokens, device=str(device))


@lru_cache(maxsize=2)
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
