"""Attention over a trie in bf16 training against torch's own attention under a mask made token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gram.engine import flash
from gram.engine.plan import Plan

PLANS = {
    "one node": Plan((70,), ((0,),)),
    "one short node": Plan((3,), ((0,),)),
    "a prompt and two answers": Plan((87, 33, 5), ((0,), (0, 1), (0, 2))),
    "two prompts, one of three levels": Plan(
        (200, 31, 64, 1, 50, 9), ((0,), (0, 1), (0, 1, 2), (0, 3), (4,), (4, 5))
    ),
}


def sees(plan: Plan, window: int | None) -> Tensor:
    """(N, N) whether a token sees another, by asking of every pair where it stands on the path."""
    starts = [sum(plan.sizes[:node]) for node in range(len(plan.sizes))]
    n = sum(plan.sizes)
    found = torch.zeros(n, n, dtype=torch.bool)
    for node, path in enumerate(plan.paths):
        tokens = [starts[number] + place for number in path for place in range(plan.sizes[number])]
        for depth in range(len(tokens) - plan.sizes[node], len(tokens)):
            first = 0 if window is None else max(0, depth - window + 1)
            for seen in tokens[first : depth + 1]:
                found[tokens[depth], seen] = True
    return found


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-9))


@pytest.mark.parametrize("tile", [1 << 20, 1 << 12])
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("heads", [2, 6])
def test_it_is_that_of_fp32(
    heads: int, plan: Plan, window: int | None, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own attention computes both: fp32 as the reference, bf16 as the yardstick.

    With small tiles a node of 200 queries and 6 heads has seven tiles of 29 queries.
    """
    monkeypatch.setattr(flash, "_TILE", tile)
    torch.manual_seed(0)
    n = sum(plan.sizes)
    tensors = [torch.randn(n, count, 16).bfloat16() for count in (heads, 2, 2)]
    mask = torch.zeros(n, n).masked_fill(~sees(plan, window), -torch.inf)
    grad = torch.randn(n, heads, 16)

    def run(function: Any, dtype: torch.dtype) -> list[Tensor]:
        leaves = [tensor.to(dtype).requires_grad_() for tensor in tensors]
        out = function(*leaves)
        return [out, *torch.autograd.grad(out, leaves, grad.to(dtype))]

    def stock(*rows: Tensor) -> Tensor:
        q, k, v = (t.transpose(0, 1)[None] for t in rows)
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), enable_gqa=True)
        return out[0].transpose(0, 1)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flash.attend(q, k, v, plan, window=window)

    exact, theirs, mine = run(stock, torch.float32), run(stock, torch.bfloat16), run(ours, torch.bfloat16)
    for number in range(4):
        assert distance(mine[number], exact[number]) < max(2 * distance(theirs[number], exact[number]), 0.01)


def test_it_keeps_whole_tensors_only() -> None:
    """Five tensors for a layer, however many nodes: what makes allocation slow is many of various sizes."""
    plan = PLANS["two prompts, one of three levels"]
    n = sum(plan.sizes)
    q, k, v = (torch.randn(n, 2, 16).bfloat16().requires_grad_() for _ in range(3))
    out: Any = flash.attend(q, k, v, plan)
    saved = out.grad_fn.saved_tensors
    assert [tuple(t.shape) for t in saved] == [(n, 2, 16)] * 4 + [(2, 1, n)]
