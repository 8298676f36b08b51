"""Attention over a packed trie: every token sees its own node up to itself, and all nodes above.

Registered with transformers under one name, so that any decoder with the standard attention interface can
run it; called without a plan it is transformers' own ``sdpa``.
Knows no model: heads, scale and window come with the call.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gram.engine import flash
from gram.engine.kernels import NARROWEST, in_one_call
from gram.engine.masks import causal_mask
from gram.engine.plan import Plan
from gram.errors import ConfigError

NAME = "gram_tree"

_BLOCK = 256  # queries of a long node that go together


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree_plan: Plan | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer: (1, heads, N, d) in, (1, N, heads, d) out.

    Raises:
        ConfigError: the call asks for soft-capping, attention sinks, a position bias, a mask of the model's
            own or dropout: none of these is implemented here, and leaving one out would change the numbers.
    """
    if tree_plan is None:
        rest |= {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)  # type: ignore[return-value]
    obstacles = [name for name in ("softcap", "s_aux", "position_bias") if rest.get(name) is not None]
    if attention_mask is not None and attention_mask.numel() > 1:
        obstacles.append("a mask of the model's own")
    if dropout:
        obstacles.append("dropout")
    tree_plan.windows.add(sliding_window)
    if obstacles:
        raise ConfigError(f"attention over a trie does not know {obstacles[0]}; use the plain engine")
    if not query.is_cuda and query.requires_grad and query.dtype == torch.bfloat16:
        q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))  # (N, heads, d) each
        return flash.attend(q, k, v, tree_plan, scaling, sliding_window)[None], None
    attend = in_one_call if query.is_cuda and query.shape[3] >= NARROWEST else node_by_node
    return attend(query, key, value, tree_plan, scaling, sliding_window), None


def node_by_node(
    query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float | None, window: int | None
) -> Tensor:
    """One product per node: its queries against the keys of its path.

    Nodes with equal numbers of queries and keys are computed in one batch. The tensors are split once, not
    sliced per node: the gradient of every slice would be a tensor of the full size, so that the cost of the
    backward pass would grow with nodes times tokens.

    Args:
        query: (1, heads, N, d) of the N packed tokens.
        key, value: (1, kv_heads, N, d).

    Returns:
        (1, N, heads, d).
    """
    sizes = list(plan.sizes)  # m nodes
    # m times (1, heads, size, d); keys and values may have fewer heads
    queries, keys, values = (part.split(sizes, dim=2) for part in (query, key, value))
    outputs: list[Tensor] = [query] * len(sizes)
    for nodes, count in _nodes_by_shape(plan, window):  # b nodes that see ``count`` keys
        paths = [plan.seen(node, window) for node in nodes]
        empty = key.new_zeros(1, key.shape[1], -count % _step(key.dtype), key.shape[3])
        q = _stack([queries[node] for node in nodes])  # (b, heads, size, d)
        # (b, kv_heads, keys of the path and some empty ones, d)
        k = _stack([_join([keys[number] for number in path], skip, empty) for path, skip in paths])
        v = _stack([_join([values[number] for number in path], skip, empty) for path, skip in paths])
        parts = _attention(q, k, v, count, scaling, window).split(1)
        for node, part in zip(nodes, parts, strict=True):
            outputs[node] = part
    return torch.cat(outputs, dim=2).transpose(1, 2)  # (1, N, heads, d)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, keys: int, scaling: float | None, window: int | None
) -> Tensor:
    """(n, heads, queries, d): causal attention in which the last query sees the last of ``keys`` keys.

    Empty keys may follow, which nobody sees. Long nodes are cut into blocks of queries, each against the keys
    that its last one sees: one product over all of them would spend half of its work on keys that the mask
    then hides.
    """
    n, heads, length, _ = q.shape
    kv_heads, earlier_keys, step = k.shape[1], keys - length, _step(k.dtype)
    group, parts = heads // kv_heads, []
    if not earlier_keys and (window is None or length <= window):
        empty = k.shape[2] - length  # queries behind, as there are keys
        q = q if not empty else torch.cat([q, q.new_zeros(n, heads, empty, q.shape[3])], dim=2)
        out = nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=group > 1
        )
        return out[:, :, :length]
    block = (
        length if q.requires_grad else _BLOCK
    )  # a slice's gradient is a tensor of the full size: no slices
    for start in range(0, length, block):
        part = q[:, :, start : start + block]  # (n, heads, size, d)
        size = part.shape[2]
        stop = earlier_keys + start + size  # keys [first, stop) are seen by some query of the block
        first = 0 if window is None else max(0, stop - size - window + 1) // step * step
        behind = stop + -stop % step
        mask = causal_mask(size, stop, behind, window, q.dtype, q.device)[:, first:]  # (size, behind - first)
        if group > 1:  # query heads that share a key head become more queries of that head: no key is copied
            part, mask = part.reshape(n, kv_heads, group * size, -1), mask.repeat(group, 1)
        part = nn.functional.scaled_dot_product_attention(
            part, k[:, :, first:behind], v[:, :, first:behind], attn_mask=mask, scale=scaling
        )
        parts.append(part.reshape(n, heads, size, -1))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _step(dtype: torch.dtype) -> int:
    """Keys come in multiples of so many: matrix units read bf16 in tiles, and a part of one costs twice."""
    return flash.STEP if dtype == torch.bfloat16 else 1


@lru_cache(maxsize=4)
def _nodes_by_shape(plan: Plan, window: int | None) -> list[tuple[list[int], int]]:
    """The nodes in groups of equally many queries and keys, and that number of keys."""
    groups: dict[tuple[int, int], list[int]] = {}
    for node, size in enumerate(plan.sizes):
        path, skip = plan.seen(node, window)
        key_count = sum(plan.sizes[number] for number in path) - skip
        groups.setdefault((size, key_count), []).append(node)
    return [(nodes, keys) for (_, keys), nodes in groups.items()]


def _stack(parts: list[Tensor]) -> Tensor:
    """b tensors (1, h, length, d) as one (b, h, length, d)."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _join(parts: list[Tensor], skip: int, behind: Tensor) -> Tensor:
    """The tokens of several nodes, (1, h, length, d), without the first ``skip``; then ``behind``."""
    parts[0] = parts[0][:, :, skip:]
    if behind.shape[2]:
        parts.append(behind)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
