"""Attention in bf16 on a CPU, for training: torch's flash kernel forward, products over tiles backward.

torch's own backward kernel takes seven times as long as its forward (torch 2.13, 300 queries, 9 heads of
64), as it does not use the matrix units. Here the probabilities are computed again, tile by tile, from the
kept log-normalisers (arXiv 2205.14135, algorithm 4), with five products per tile. Knows queries, keys and
values of sequences of one shape; knows no trie.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE = 1 << 20
"""Most scores of a tile, over all heads: 2 MB in bf16, of which two are alive at once."""
STEP = 32
"""Keys come, and tiles begin and end at multiples of it: the matrix units take bf16 in steps of 32."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, keys: int, mask: Tensor, scale: float | None, window: int | None
) -> Tensor:
    """(n, heads, queries, d): causal attention in which the last query sees the last of ``keys`` keys.

    Args:
        q: (n, heads, queries, d).
        k, v: (n, kv_heads, at least ``keys``, d); what lies behind ``keys`` is seen by nobody.
        mask: (queries, keys of k) what is added to the scores: minus infinity where nothing is seen.
        scale: of the scores; by default d to the power of -1/2.
        window: how many keys, its own place included, a query sees at most; None: all before it.
    """
    return _Attention.apply(q, k, v, keys, mask, q.shape[-1] ** -0.5 if scale is None else scale, window)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        keys: int,
        mask: Tensor,
        scale: float,
        window: int | None,
    ) -> Tensor:
        group = q.shape[1] // k.shape[1]
        kk, vv = (t.repeat_interleave(group, dim=1) if group > 1 else t for t in (k, v))
        out, normaliser = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, kk, vv, 0.0, False, attn_mask=mask, scale=scale
        )
        ctx.save_for_backward(q, k, v, out, normaliser)  # the normaliser is (n, heads, queries), fp32
        ctx.rest = keys, scale, window
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, out, normaliser = ctx.saved_tensors
        keys, scale, window = ctx.rest
        n, kv_heads, padded, d = k.shape
        own = (grads[0] * out).sum(dim=-1, dtype=torch.float32)  # (n, heads, queries)

        def by_key_head(t: Tensor) -> Tensor:  # (n, kv_heads, group, queries, d + 2)
            return t.view(n, kv_heads, -1, *t.shape[2:])

        queries, backs = by_key_head(_beside(q * scale, normaliser)), by_key_head(_beside(grads[0], own))
        ones = k.new_ones(n, kv_heads, padded, 2)
        ks, vs = torch.cat([k, ones], dim=3), torch.cat([v, ones], dim=3)
        to_q, to_k, to_v = torch.empty_like(queries), torch.empty_like(k), torch.empty_like(v)
        for row in range(n):
            one = (t[row] for t in (queries, backs, ks, vs, to_q, to_k, to_v))
            _tiles(*one, keys=keys, window=window)
        to_q = to_q[..., :d].mul(scale).view(q.shape)
        return to_q, to_k, to_v, None, None, None, None


def _tiles(
    queries: Tensor,
    backs: Tensor,
    ks: Tensor,
    vs: Tensor,
    to_q: Tensor,
    to_k: Tensor,
    to_v: Tensor,
    *,
    keys: int,
    window: int | None,
) -> None:
    """The gradients of one sequence: fills ``to_q`` (before the scale), ``to_k`` and ``to_v``.

    Args:
        queries: (kv_heads, group, queries, d + 2) scaled, with the normaliser beside them.
        backs: (kv_heads, group, queries, d + 2) the gradient of the result, with its share beside it.
        ks, vs: (kv_heads, keys and more, d + 2) with ones beside them.
        to_q: like ``queries``; to_k, to_v: (kv_heads, keys and more, d).
    """
    kv_heads, group, length, _ = queries.shape
    d, earlier_keys = to_k.shape[-1], keys - length
    most = max(STEP, _TILE // (kv_heads * group * keys))
    size = -(-length // -(-length // most))  # tiles of about one size: a small rest is slow
    sums = torch.zeros(2, *ks.shape, device=ks.device) if size < length else None  # of keys and values
    for start in range(0, length, size):
        stop = min(start + size, length)
        # Keys [first, last) are seen by some query of the tile; the ends lie on whole steps.
        first = 0 if window is None else max(0, earlier_keys + start - window + 1) // STEP * STEP
        last = min(ks.shape[1], earlier_keys + stop + -(earlier_keys + stop) % STEP)
        q, back = (t[:, :, start:stop].reshape(kv_heads, -1, d + 2) for t in (queries, backs))
        k, v = ks[:, first:last], vs[:, first:last]
        p = torch.bmm(q, k.transpose(1, 2))  # (kv_heads, group * tile, last - first)
        hidden = _hidden(stop - start, earlier_keys + start - first, last - first, window, q.dtype, q.device)
        p.view(kv_heads, group, stop - start, -1)[..., -hidden.shape[1] :].add_(hidden)
        p.exp_()
        s = torch.bmm(back, v.transpose(1, 2)).mul_(p)
        to_q[:, :, start:stop] = torch.bmm(s, k).view(kv_heads, group, stop - start, -1)
        of_keys, of_values = torch.bmm(s.transpose(1, 2), q), torch.bmm(p.transpose(1, 2), back)
        if sums is None:
            to_k.zero_()[:, first:last] = of_keys[..., :d]
            to_v.zero_()[:, first:last] = of_values[..., :d]
        else:
            sums[0, :, first:last] += of_keys
            sums[1, :, first:last] += of_values
    if sums is not None:
        to_k.copy_(sums[0, ..., :d])
        to_v.copy_(sums[1, ..., :d])


def _beside(x: Tensor, number: Tensor) -> Tensor:
    """(..., d + 2): x with minus a number per row, given in fp32, in two bf16 parts beside it.

    A product with rows that end in two ones subtracts the number before anything is rounded to bf16.
    """
    high = number.to(x.dtype)
    return torch.cat([x, -torch.stack([high, (number - high).to(x.dtype)], dim=-1)], dim=-1)


@lru_cache(maxsize=8)
def _hidden(
    queries: int, place: int, keys: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(queries, the last keys) minus infinity where a query of a tile does not see a key; 0 elsewhere.

    Args:
        place: of the first query among the ``keys`` of the tile. Without a window every query sees the keys
            before it, and these are left out.
    """
    places = torch.arange(place, place + queries, device=device)[:, None]
    columns = torch.arange(place if window is None else 0, keys, device=device)
    sees = columns <= places
    if window is not None:
        sees &= columns > places - window
    return torch.zeros(queries, len(columns), dtype=dtype, device=device).masked_fill_(~sees, -torch.inf)
