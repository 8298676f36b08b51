"""Who sees whom in a packed trie: every form of the plan, and every kernel, against the definition.

The definition: a token sees those of its own row before it, itself included, and of these only the last
``window`` where there is one. Here it is a dense mask, made from the rows alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gram.engine import attention, trie
from gram.engine.attention import NAME, node_by_node, tree_attention
from gram.engine.base import TokenRow
from gram.engine.kernels import by_flex, by_varlen, gather_of, varlen_serves
from gram.engine.plan import Gather, Plan, Reach
from gram.engine.tree import Tree
from gram.errors import ConfigError
from small_models import family, fresh
from test_engine_trie import ROWS

CPU = torch.device("cpu")
VOCAB = 60
WINDOWS = [None, 1, 2, 16, 20, 41, 200]
SHAPES = [(4, 4), (4, 2), (4, 1)]
each_window = pytest.mark.parametrize("window", WINDOWS)
each_shape = pytest.mark.parametrize(("heads", "kv_heads"), SHAPES)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ROWS_HERE = [list(row.ids) for row in family(VOCAB)]
TREE = trie.build(ROWS_HERE)


def definition(tree: trie.Trie, rows: list[list[int]], window: int | None) -> np.ndarray:
    """(N, N) true where the token packed at the first place sees that at the second, row by row."""
    sees = np.zeros((tree.tokens, tree.tokens), dtype=bool)
    for number, row in enumerate(rows):
        places = tree.place(number, np.arange(len(row)))
        for position in range(len(row)):
            first = 0 if window is None else max(0, position - window + 1)
            sees[places[position], places[first : position + 1]] = True
    return sees


def sees_by_gather(gather: Gather, tokens: int, window: int | None) -> np.ndarray:
    """What a kernel for many sequences makes of a gather: causal from the lower right of each of them."""
    sees = np.zeros((tokens, tokens), dtype=bool)
    queries, keys = gather.query_ends.tolist(), gather.key_ends.tolist()
    for number in range(len(queries) - 1):
        own = range(queries[number], queries[number + 1])
        seen = gather.keys[keys[number] : keys[number + 1]].tolist()
        for place, query in enumerate(own):
            last = len(seen) - len(own) + place  # the last query sees the last key
            first = 0 if window is None else max(0, last - window + 1)
            sees[query, seen[first : last + 1]] = True
    return sees


def sees_by_reach(reach: Reach, window: int | None) -> np.ndarray:
    depths, ends = reach.depths.numpy(), reach.ends.numpy()
    q, k = np.ogrid[: len(ends), : len(ends)]
    sees = (k <= q) & (q < ends[None])
    return sees if window is None else sees & (depths[:, None] - depths[None] < window)


@given(ROWS, st.one_of(st.none(), st.integers(1, 100)))
def test_every_form_of_the_plan_is_the_definition(rows: list[list[int]], window: int | None) -> None:
    """Also: a gather holds no key that none of its queries sees, and its lengths are those it names."""
    tree = trie.build(rows)
    plan = Plan.of(tree)
    wanted = definition(tree, rows, window)
    gather = Gather.of(plan, window, CPU)
    np.testing.assert_array_equal(sees_by_gather(gather, tree.tokens, window), wanted)
    np.testing.assert_array_equal(sees_by_reach(Reach.of(plan, CPU), window), wanted)
    ends = np.cumsum([0, *plan.sizes])
    for node in range(len(plan.sizes)):
        path, hidden = plan.seen(node, window)
        keys = np.concatenate([np.arange(ends[number], ends[number + 1]) for number in path])[hidden:]
        np.testing.assert_array_equal(keys, gather.keys[gather.key_ends[node] : gather.key_ends[node + 1]])
        assert set(keys) == set(np.flatnonzero(wanted[ends[node] : ends[node + 1]].any(axis=0)))
    assert gather.query_ends.dtype == gather.key_ends.dtype == torch.int32
    assert gather.most_queries == gather.query_ends.diff().max()
    assert gather.most_keys == gather.key_ends.diff().max()


def test_the_plan_by_hand() -> None:
    """Nodes of 20, 18, 1, 2, 1 and 1 tokens. Node 3 begins at depth 38: with a window of 20 its first token
    sees depths 19 to 38, so all but the first 19 tokens of node 0; with 5, depths 34 on; with 1, itself.
    """
    plan = Plan((20, 18, 1, 2, 1, 1), ((0,), (0, 1), (0, 1, 2), (0, 1, 3), (0, 4), (5,)))
    assert plan.seen(3, None) == ((0, 1, 3), 0)
    assert plan.seen(3, 20) == ((0, 1, 3), 19)
    assert plan.seen(3, 19) == ((1, 3), 0)
    assert plan.seen(3, 5) == ((1, 3), 14)
    assert plan.seen(3, 1) == ((3,), 0)
    assert plan.seen(0, 4) == ((0,), 0)
    reach = Reach.of(plan, CPU)
    assert reach.ends.tolist() == [42] * 20 + [41] * 18 + [39] + [41] * 2 + [42] + [43]
    assert reach.depths.tolist() == [*range(20), *range(20, 38), 38, 38, 39, 20, 0]
    gather = Gather.of(plan, 2, CPU)
    assert gather.key_ends.tolist() == [0, 20, 39, 41, 44, 46, 47]
    assert gather.keys[39:].tolist() == [37, 38, 37, 39, 40, 19, 41, 42]


def test_plans_go_through_devices_and_caches_as_themselves() -> None:
    plan, twin = Plan.of(TREE), Plan.of(TREE)
    assert plan.to("cpu", non_blocking=True) is plan
    assert plan == plan and plan != twin
    assert gather_of(plan, 3, CPU) is gather_of(plan, 3, CPU)
    assert gather_of(plan, 3, CPU) is not gather_of(plan, 4, CPU)
    assert gather_of(plan, 3, CPU) is not gather_of(twin, 3, CPU)


# Kernels


def drawn(heads: int, kv_heads: int, width: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values for every packed token, far enough from zero that attention is sharp."""
    generator = torch.Generator().manual_seed(heads + kv_heads)
    made = [torch.randn(1, h, TREE.tokens, width, generator=generator) for h in (heads, kv_heads, kv_heads)]
    return made[0] * 2, made[1], made[2]


def dense(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Attention as it is written in a book, in float64; (1, N, heads, d)."""
    group = query.shape[1] // key.shape[1]
    key, value = (x.double().repeat_interleave(group, dim=1) for x in (key, value))
    sees = torch.from_numpy(definition(TREE, ROWS_HERE, window)).to(query.device)
    logits = query.double() @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    return (logits.masked_fill(~sees, -torch.inf).softmax(dim=-1) @ value).transpose(1, 2)


@each_window
@each_shape
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_node_by_node(heads: int, kv_heads: int, window: int | None, scaling: float | None) -> None:
    """Outputs, and gradients to queries, keys and values, against the dense product; all in float64."""
    inputs = [x.double().requires_grad_() for x in drawn(heads, kv_heads)]
    found = node_by_node(*inputs, Plan.of(TREE), scaling, window)  # type: ignore[arg-type]
    wanted = dense(*inputs, scaling, window)  # type: ignore[arg-type]
    assert found.shape == (1, TREE.tokens, heads, 16)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0))
    mine = torch.autograd.grad((found * weights).sum(), inputs)
    theirs = torch.autograd.grad((wanted * weights).sum(), inputs)
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-10, rtol=1e-10)


@each_window
@each_shape
@pytest.mark.parametrize("block", [1, 7])
def test_blocks_of_queries(
    heads: int, kv_heads: int, window: int | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long nodes are cut into blocks of queries: the same outputs, wherever the cuts fall."""
    inputs = [x.double() for x in drawn(heads, kv_heads)]
    monkeypatch.setattr(attention, "_BLOCK", block)
    found = node_by_node(*inputs, Plan.of(TREE), None, window)  # type: ignore[arg-type]
    wanted = dense(*inputs, None, window)  # type: ignore[arg-type]
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@each_window
@each_shape
def test_gathered_keys_node_by_node(heads: int, kv_heads: int, window: int | None) -> None:
    """A gather, served by the slowest kernel there is: one query at a time."""
    query, key, value = drawn(heads, kv_heads)
    plan = Plan.of(TREE)
    gather = Gather.of(plan, window, CPU)
    keys, values = (x[0].repeat_interleave(heads // kv_heads, dim=0)[:, gather.keys] for x in (key, value))
    out = torch.empty(1, TREE.tokens, heads, 16)
    for node, size in enumerate(plan.sizes):
        first, start, stop = (int(x) for x in (gather.query_ends[node], *gather.key_ends[node : node + 2]))
        for place in range(size):
            last = stop - size + place + 1
            begin = start if window is None else max(start, last - window)
            logits = torch.einsum("hd,hkd->hk", query[0, :, first + place], keys[:, begin:last]) / 4
            out[0, first + place] = torch.einsum("hk,hkd->hd", logits.softmax(-1), values[:, begin:last])
    torch.testing.assert_close(node_by_node(query, key, value, plan, None, window), out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 20])
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (2, 1)])
def test_flex(heads: int, kv_heads: int, window: int | None) -> None:
    query, key, value = drawn(heads, kv_heads)
    plan = Plan.of(TREE)
    for scaling in (None, 0.7):
        with torch.no_grad():
            found = by_flex(query, key, value, plan, scaling, window)
        wanted = node_by_node(query, key, value, plan, scaling, window)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@needs_gpu
@pytest.mark.parametrize("window", [None, 1, 20, 200])
@each_shape
@pytest.mark.parametrize(
    ("kernel", "dtype", "tolerance"),
    [(by_varlen, torch.bfloat16, 2e-2), (by_flex, torch.bfloat16, 2e-2), (by_flex, torch.float32, 1e-4)],
)
def test_gpu_kernels(
    kernel: Any, dtype: torch.dtype, tolerance: float, heads: int, kv_heads: int, window: int | None
) -> None:
    """Outputs and gradients against the dense product; differences relative to the size of the numbers.

    With a window of one the gradients of queries and keys are zero, and what rounding leaves of them is small
    beside the gradient that arrives.
    """
    if kernel is by_varlen and not varlen_serves(torch.empty(1, device="cuda", dtype=dtype)):
        pytest.skip("no kernel for sequences of various lengths")
    inputs = [x.to("cuda", dtype).requires_grad_() for x in drawn(heads, kv_heads, width=64)]
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        found = kernel(*inputs, Plan.of(TREE), 0.1, window)
        wanted = dense(*inputs, 0.1, window)  # type: ignore[arg-type]
        weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0)).to("cuda")
        mine = torch.autograd.grad((found.float() * weights).sum(), inputs)
        theirs = torch.autograd.grad((wanted.float() * weights).sum(), inputs)
    finally:
        torch.set_float32_matmul_precision(precision)
    assert found.dtype == dtype
    for one, two in zip((found, *mine), (wanted, *theirs), strict=True):
        size = max(float(two.double().norm()), 0.01 * float(weights.norm()))
        assert (one.double() - two.double()).norm() <= tolerance * size


# The function that transformers calls


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"softcap": 30.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_what_would_be_left_out_is_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"does not know {name}"):
        tree_attention(nn.Module(), *drawn(4, 4), None, tree_plan=Plan.of(TREE), **options)


def test_options_of_no_effect_pass() -> None:
    query, key, value = drawn(4, 4)
    plan = Plan.of(TREE)
    calm: dict[str, Any] = {"softcap": None, "s_aux": None, "dropout": 0.0, "is_causal": True}
    found, _ = tree_attention(nn.Module(), query, key, value, None, tree_plan=plan, sliding_window=20, **calm)
    assert torch.equal(found, node_by_node(query, key, value, plan, None, 20))


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3"])
def test_without_a_plan_it_is_the_stock_attention(architecture: str) -> None:
    stock, ours = (fresh(architecture, VOCAB, attention=name) for name in ("sdpa", NAME))
    ids = torch.tensor([[0, 0, 5, 6, 7, *range(2, 40)], [9, *range(8, 50)]])
    for options in ({}, {"attention_mask": (ids > 0).long()}):
        with torch.inference_mode():
            assert torch.equal(stock(ids, **options).logits, ours(ids, **options).logits)


def test_stock_attention_on_a_packed_trie_is_wrong() -> None:
    """Why ours must stay: given the same ids and positions and no mask, the stock attention takes a jump of
    the positions for a new sequence, or sees what is packed before; it says so nowhere, and probabilities
    are off by far more than rounding.
    """
    engine = Tree()
    rows = [TokenRow(row.ids) for row in family(VOCAB)]
    batch = engine.lay_out(rows)
    ours, stock = fresh("llama", VOCAB, attention=NAME), fresh("llama", VOCAB, attention="sdpa")
    with torch.inference_mode():
        alone = torch.stack([stock(torch.tensor([list(row.ids)])).logits[0, -1] for row in rows]).softmax(-1)
        right = engine.next_logprobs(ours, batch, range(VOCAB)).exp()
        logits = stock(input_ids=batch["input_ids"], position_ids=batch["position_ids"], attention_mask=None)
        wrong = logits.logits[0, batch["last"]].softmax(-1)
    assert (right - alone).abs().max() < 1e-5
    assert (wrong - alone).abs().max() > 0.01


def test_one_call_per_layer_gets_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan reaches every layer, each with its own window: gemma3 has one of 20 tokens, and none."""
    windows: list[int | None] = []
    plain = attention.node_by_node

    def noted(query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: Any, window: Any) -> Tensor:
        windows.append(window)
        return plain(query, key, value, plan, scaling, window)

    monkeypatch.setattr(attention, "node_by_node", noted)
    engine = Tree()
    engine.next_logits(fresh("gemma3", VOCAB, attention=NAME), engine.lay_out(family(VOCAB)), [1])
    assert windows == [20, None]
