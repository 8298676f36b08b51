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

_TILE = 1 << 19
"""Scores of a tile, over all heads: 1 MB in bf16, of which two are alive at once."""
_STEP = 32
"""Tiles begin and end at multiples of it: the matrix units take bf16 in steps of 32."""


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
        to_q = torch.empty_like(q)
        to_k, to_v = (torch.zeros(t.shape, dtype=torch.float32, device=t.device) for t in (k, v))
        for row in range(len(q)):
            one = (t[row] for t in (q, k, v, out, grads[0], normaliser, to_q, to_k, to_v))
            _tiles(*one, keys=keys, scale=scale, window=window)
        return to_q, to_k.to(k.dtype), to_v.to(v.dtype), None, None, None, None


def _tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    grad: Tensor,
    normaliser: Tensor,
    to_q: Tensor,
    to_k: Tensor,
    to_v: Tensor,
    *,
    keys: int,
    scale: float,
    window: int | None,
) -> None:
    """The gradients of one sequence: fills ``to_q``, adds to ``to_k`` and ``to_v``.

    Args:
        q, out, grad, to_q: (heads, queries, d).
        k, v, to_k, to_v: (kv_heads, keys and more, d).
        normaliser: (heads, queries).
    """
    heads, queries, d = q.shape
    kv_heads = len(k)
    group, earlier_keys = heads // kv_heads, keys - queries
    own = (grad.float() * out).sum(dim=-1)  # (heads, queries)
    minus_normaliser, minus_own = _beside(q * scale, normaliser), _beside(grad, own)
    k_and_one, v_and_one = (torch.cat([t, t.new_ones(*t.shape[:2], 2)], dim=2) for t in (k, v))
    size = max(_STEP, _TILE // (heads * keys) // _STEP * _STEP)
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        # Keys [first, last) are seen by some query of the tile; the ends lie on whole steps.
        first = 0 if window is None else max(0, earlier_keys + start - window + 1) // _STEP * _STEP
        last = min(k.shape[1], earlier_keys + stop + -(earlier_keys + stop) % _STEP)

        def tile(t: Tensor, start: int = start, stop: int = stop) -> Tensor:  # (kv_heads, group * tile, ...)
            return t[:, start:stop].reshape(kv_heads, -1, t.shape[-1])

        # (kv_heads, group * tile, last - first) each
        p = torch.bmm(tile(minus_normaliser), k_and_one[:, first:last].transpose(1, 2))
        hidden = _hidden(stop - start, earlier_keys + start - first, last - first, window, q.dtype, q.device)
        p.view(kv_heads, group, stop - start, -1)[..., -hidden.shape[1] :].add_(hidden)
        p.exp_()
        s = torch.bmm(tile(minus_own), v_and_one[:, first:last].transpose(1, 2)).mul_(p)
        to_v[:, first:last] += torch.bmm(p.transpose(1, 2), tile(grad))
        to_k[:, first:last].add_(torch.bmm(s.transpose(1, 2), tile(q)), alpha=scale)
        to_q[:, start:stop] = torch.bmm(s, k[:, first:last]).mul_(scale).view(heads, stop - start, d)


def _beside(x: Tensor, number: Tensor) -> Tensor:
    """(heads, n, d + 2): x with minus a number per row, (heads, n) in fp32, in two bf16 parts beside it.

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
