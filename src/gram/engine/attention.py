"""Attention over a packed trie: every token sees its own node up to itself, and all nodes above.

Registered with transformers under one name, so that any decoder with the standard attention interface can
run it; without a plan it is the stock ``sdpa``. Knows no model: heads, scale and window come with the call.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gram.engine.kernels import by_flex, by_varlen, varlen_serves
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
    """What transformers calls in every layer: (1, heads, N, d) in, (1, N, heads, d) out.

    Raises:
        ConfigError: soft-capping, attention sinks, a position bias, a mask of the model's own or
            dropout, which would be silently left out.
    """
    if tree_plan is None:
        rest |= {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)  # type: ignore[return-value]
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if rest.get(name) is not None]
    if attention_mask is not None and attention_mask.numel() > 1:
        unknown.append("a mask of the model's own")
    tree_plan.windows.add(sliding_window)
    if unknown or dropout:
        raise ConfigError(
            f"attention over a trie does not know {unknown[0] if unknown else 'dropout'}; "
            "use the plain engine"
        )
    attend = node_by_node if not query.is_cuda else by_varlen if varlen_serves(query) else by_flex
    return attend(query, key, value, tree_plan, scaling, sliding_window), None


def node_by_node(
    query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float | None, window: int | None
) -> Tensor:
    """One product per node: its queries against the keys of its path. (1, N, heads, d).

    Nodes of one shape go together. Splitting once, instead of slicing per node, keeps the backward pass
    linear: the gradient of a slice is a full tensor of zeros around it.
    """
    sizes = list(plan.sizes)  # m nodes
    # m times (1, heads, size, d); keys and values may have fewer heads
    queries, keys, values = (part.split(sizes, dim=2) for part in (query, key, value))
    outputs: list[Tensor] = [query] * len(sizes)
    for nodes in _alike(plan, window):
        seen = [plan.seen(node, window) for node in nodes]
        q = _stacked([queries[node] for node in nodes])  # (alike, heads, size, d)
        # (alike, kv_heads, keys of the path, d)
        k = _stacked([_joined([keys[number] for number in path], hidden) for path, hidden in seen])
        v = _stacked([_joined([values[number] for number in path], hidden) for path, hidden in seen])
        for node, part in zip(nodes, _attended(q, k, v, scaling, window).split(1), strict=True):
            outputs[node] = part
    return torch.cat(outputs, dim=2).transpose(1, 2)  # (1, N, heads, d)


def _attended(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """(n, heads, queries, d): the last query sees the last key.

    Long nodes are cut into blocks of queries, each against the keys that its last one sees: one product over
    all of them would spend half of its work on keys that the mask then hides.
    """
    n, heads, length, _ = q.shape
    kv_heads, before = k.shape[1], k.shape[2] - length
    if heads == kv_heads and not before and (window is None or length <= window):
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
    group, parts = heads // kv_heads, []
    block = length if q.requires_grad else _BLOCK  # the gradient of a slice is zeros as long as the whole
    for start in range(0, length, block):
        part = q[:, :, start : start + block]  # (n, heads, size, d)
        size = part.shape[2]
        last = before + start + size
        first = 0 if window is None else max(0, last - size - window + 1)
        mask = _mask(size, last, window, q.device)[:, first:]  # (size, last - first)
        if group > 1:  # the query heads of a key head become more queries of it: no key is copied
            part, mask = part.reshape(n, kv_heads, group * size, -1), mask.repeat(group, 1)
        part = nn.functional.scaled_dot_product_attention(
            part, k[:, :, first:last], v[:, :, first:last], attn_mask=mask, scale=scaling
        )
        parts.append(part.reshape(n, heads, size, -1))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


@lru_cache(maxsize=4)
def _alike(plan: Plan, window: int | None) -> list[list[int]]:
    """The nodes, those with as many queries and as many keys as one another together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for node, size in enumerate(plan.sizes):
        path, hidden = plan.seen(node, window)
        seen = sum(plan.sizes[number] for number in path) - hidden
        groups.setdefault((size, seen), []).append(node)
    return list(groups.values())


def _stacked(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _joined(parts: list[Tensor], hidden: int) -> Tensor:
    parts[0] = parts[0][:, :, hidden:]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """(queries, keys) true where a query sees a key; the last query sees the last key."""
    return _band(1 << (keys - 1).bit_length(), window, device)[keys - queries : keys, :keys]


@lru_cache(maxsize=4)
def _band(size: int, window: int | None, device: torch.device) -> Tensor:
    """(size, size) the causal mask of one sequence; every node's mask is a piece of it."""
    with torch.inference_mode(False):  # what is kept may serve a training step later
        seen = torch.ones(size, size, dtype=torch.bool, device=device).tril()
        return seen if window is None else seen.triu(1 - window)


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
