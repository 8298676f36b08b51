"""Attention over a trie in bf16 on a CPU, for training: a flash kernel, and its gradient by products.

torch's own backward kernel takes seven times as long as its forward (torch 2.13, 300 queries, 9 heads of
64), as it does not use the matrix units. Here the probabilities are computed again, tile by tile, from the
kept log-normalisers (arXiv 2205.14135, algorithm 4), with five products per tile.

All nodes of a layer are one autograd function, which keeps whole tensors only: a few small ones for every
node, kept from forward to backward, leave thousands of holes of different sizes, and the C library then
looks through them at every allocation (a third of a training step, glibc 2.36). Knows plans; knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gram.engine.masks import causal_mask
from gram.engine.plan import Plan
from gram.engine.pool import ACTIVATIONS

_TILE = 1 << 20
"""Most scores of a tile, over all heads: 2 MB in bf16, of which two are alive at once."""
STEP = 32
"""Keys come, and tiles begin and end at multiples of it: the matrix units take bf16 in steps of 32."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, plan: Plan, scale: float | None = None, window: int | None = None
) -> Tensor:
    """(N, heads, d): every token sees its own node up to itself, and all nodes above.

    Args:
        q: (N, heads, d) of the N packed tokens.
        k, v: (N, kv_heads, d).
        scale: of the scores; by default d to the power of -1/2.
        window: how many tokens, itself included, a token sees at most; None: all before it.
    """
    return _Attention.apply(q, k, v, plan, q.shape[-1] ** -0.5 if scale is None else scale, window)


@dataclass(frozen=True)
class _Node:
    """Where the queries of a node stand among the packed tokens, and the keys that they see.

    Attributes:
        start, stop: the queries.
        runs: (start, stop) of the keys, from the root down; the last run ends with the queries.
        keys: how many these are.
    """

    start: int
    stop: int
    runs: tuple[tuple[int, int], ...]
    keys: int

    @property
    def padded(self) -> int:
        return self.keys + -self.keys % STEP


@lru_cache(maxsize=4)
def _nodes(plan: Plan, window: int | None) -> list[_Node]:
    ends = [0]
    for size in plan.sizes:
        ends.append(ends[-1] + size)
    found = []
    for node in range(len(plan.sizes)):
        path, skip = plan.seen(node, window)
        runs = [(ends[number], ends[number + 1]) for number in path]
        runs[0] = (runs[0][0] + skip, runs[0][1])
        keys = sum(stop - start for start, stop in runs)
        found.append(_Node(ends[node], ends[node + 1], tuple(runs), keys))
    return found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, scale: float, window: int | None
    ) -> Tensor:
        n, heads, d = q.shape
        kv_heads = k.shape[1]
        shape = kv_heads, heads // kv_heads
        out, normaliser = (
            ACTIVATIONS.rows(n, (heads, d), q.dtype),
            q.new_empty(*shape, n, dtype=torch.float32),
        )
        for node in _nodes(plan, window):
            rows = slice(node.start, node.stop)
            mask = causal_mask(node.stop - node.start, node.keys, node.padded, window, q.dtype, q.device)
            # Key heads in the place of the batch, query heads that share one in that of the heads, with a
            # stride of nothing: so no key is copied.
            keys, values = (_seen(t, node).transpose(0, 1)[:, None].expand(*shape, -1, -1) for t in (k, v))
            result, normaliser[..., rows] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                _by_key_head(q[rows], kv_heads), keys, values, 0.0, False, attn_mask=mask, scale=scale
            )
            _by_key_head(out[rows], kv_heads).copy_(result)
        ctx.save_for_backward(q, k, v, out, normaliser)
        ctx.rest = plan, scale, window
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, out, normaliser = ctx.saved_tensors
        plan, scale, window = ctx.rest
        kv_heads, d = k.shape[1:]
        own = (grads[0] * out).sum(dim=-1, keepdim=True, dtype=torch.float32)  # (N, heads, 1)
        # (kv_heads, group, N, d + 2) each
        queries = _beside(_by_key_head(q * scale, kv_heads), normaliser)
        backs = _beside(_by_key_head(grads[0], kv_heads), _by_key_head(own, kv_heads)[..., 0])
        ks, vs = (_with_ones(t.transpose(0, 1)) for t in (k, v))  # (kv_heads, N and STEP more, d + 2)
        to_q = torch.empty_like(queries)
        sums = torch.zeros(2, *ks.shape, device=k.device)  # of keys and of values, in fp32
        for node in _nodes(plan, window):
            rows = slice(node.start, node.stop)
            keys, values = (_seen(t.transpose(0, 1), node).transpose(0, 1) for t in (ks, vs))
            q_rows, back_rows = queries[:, :, rows], backs[:, :, rows]
            _tiles(q_rows, back_rows, keys, values, to_q[:, :, rows], sums, node, window)
        to_q = to_q[..., :d].mul(scale).permute(2, 0, 1, 3).reshape(q.shape)
        to_k, to_v = sums[..., : len(k), :d].transpose(1, 2).to(k.dtype)  # (N, kv_heads, d) each
        return to_q, to_k, to_v, None, None, None


def _by_key_head(t: Tensor, kv_heads: int) -> Tensor:
    """(n, heads, d) as (kv_heads, group, n, d), the query heads of one key head together; a view."""
    return t.unflatten(1, (kv_heads, -1)).permute(1, 2, 0, 3)


def _seen(t: Tensor, node: _Node) -> Tensor:
    """(node.padded, ...): the rows of ``t`` that a node sees, and any rows behind, which its mask hides.

    Args:
        t: (N or more, ...), rows of all tokens.
    """
    more = node.padded - node.keys
    start, stop = node.runs[-1]
    if stop + more <= len(t):  # the rows that follow in memory serve as well as any
        parts = [t[a:b] for a, b in node.runs[:-1]] + [t[start : stop + more]]
    else:
        parts = [t[a:b] for a, b in node.runs] + [t.new_zeros(more, *t.shape[1:])]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _with_ones(t: Tensor) -> Tensor:
    """(kv_heads, N, d) as (kv_heads, N + STEP, d + 2): two ones beside every row, rows of zeros behind."""
    heads, n, d = t.shape
    wide = t.new_zeros(heads, n + STEP, d + 2)
    wide[:, :n, :d] = t
    wide[:, :n, d:] = 1
    return wide


def _tiles(
    queries: Tensor,
    backs: Tensor,
    ks: Tensor,
    vs: Tensor,
    to_q: Tensor,
    sums: Tensor,
    node: _Node,
    window: int | None,
) -> None:
    """The gradients of one node: fills ``to_q`` (before the scale), adds to ``sums``.

    Args:
        queries: (kv_heads, group, queries, d + 2) scaled, with the normaliser beside them.
        backs: (kv_heads, group, queries, d + 2) the gradient of the result, with its share beside it.
        ks, vs: (kv_heads, node.padded, d + 2) with ones beside them.
        to_q: like ``queries``.
        sums: (2, kv_heads, N and more, d + 2) of the keys and values of all tokens.
    """
    kv_heads, group, length, width = queries.shape
    earlier_keys = node.keys - length
    most = max(STEP, _TILE // (kv_heads * group * node.keys))
    size = -(-length // -(-length // most))  # tiles of about one size: a small rest is slow
    for start in range(0, length, size):
        stop = min(start + size, length)
        place = earlier_keys + start
        # Keys [first, last) are seen by some query of the tile; the ends lie on whole steps.
        first = 0 if window is None else max(0, place - window + 1) // STEP * STEP
        last = min(ks.shape[1], earlier_keys + stop + -(earlier_keys + stop) % STEP)
        q, back = (t[:, :, start:stop].reshape(kv_heads, -1, width) for t in (queries, backs))
        k, v = ks[:, first:last], vs[:, first:last]
        p = torch.bmm(q, k.transpose(1, 2))  # (kv_heads, group * tile, last - first)
        # Without a window every query sees the keys before the tile.
        shown = place if window is None else first
        seen = place - shown + stop - start
        hidden = causal_mask(stop - start, seen, last - shown, window, q.dtype, q.device)
        p.view(kv_heads, group, stop - start, -1)[..., shown - first :].add_(hidden)
        p.exp_()
        s = torch.bmm(back, v.transpose(1, 2)).mul_(p)
        to_q[:, :, start:stop] = torch.bmm(s, k).view(kv_heads, group, stop - start, -1)
        _add(sums[0], torch.bmm(s.transpose(1, 2), q), node, first)
        _add(sums[1], torch.bmm(p.transpose(1, 2), back), node, first)


def _add(total: Tensor, part: Tensor, node: _Node, first: int) -> None:
    """Add gradients of a node's keys from ``first`` on, (kv_heads, some, d + 2), where these keys stand."""
    passed, last = 0, first + part.shape[1]
    for start, stop in node.runs:
        low, high = max(first, passed), min(last, passed + stop - start)
        if low < high:
            where = slice(start + low - passed, start + high - passed)
            total[:, where] += part[:, low - first : high - first]
        passed += stop - start


def _beside(x: Tensor, number: Tensor) -> Tensor:
    """(..., d + 2): x with minus a number per row, given in fp32, in two bf16 parts beside it.

    A product with rows that end in two ones subtracts the number before anything is rounded to bf16.
    """
    high = number.to(x.dtype)
    return torch.cat([x, -torch.stack([high, (number - high).to(x.dtype)], dim=-1)], dim=-1)
