"""Norms and rotary embedding in few kernels: what transformers' own say, forward and backward.

They are meant for a GPU, and run on a CPU by the same code. In fp32 they are transformers' own to rounding;
in bf16 the reference is transformers in fp32 on the very same (bf16) weights, and the yardstick transformers
in bf16: what they compute may be off by as much as that, and half as much again.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from gram.engine import choose, fused, kernels, pieces, trie
from gram.engine.base import TokenRow
from gram.engine.choose import choose_engine
from gram.engine.kernels import by_flex, in_one_call
from gram.engine.plain import Plain
from gram.engine.plan import Plan
from gram.engine.stand_in import put_there, take_away
from gram.engine.tree import Tree
from gram.modeling.trainable import LoraSettings, add_lora
from test_engine_fused import KNOWN, ROWS_OF_PAIR, SLACK, distance, logits, model_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
engines = pytest.mark.parametrize("engine", [Tree(), Plain()], ids=["tree", "plain"])
PIECES = {"llama": (7, 3), "qwen2": (7, 3), "qwen3": (13, 3), "mistral": (7, 3)}
"""Norms and attentions of three layers: two norms in each and one behind; in Qwen 3 two more, of heads."""


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU is treated as a GPU is."""
    monkeypatch.setitem(choose.FUSED, "cpu", pieces.fuse)


def put_under(model: Any) -> tuple[int, int]:
    """How many norms and attentions of ours a model has."""
    found = [put_there(module) for module in model.modules()]
    return found.count(pieces._norm), found.count(pieces._attention)


def test_every_device_has_what_helps_it() -> None:
    assert {"cpu": fused.fuse, "cuda": pieces.fuse} == choose.FUSED


# The arithmetic


def sides(function: Any, inputs: list[Tensor], dtype: torch.dtype, grad: Tensor) -> list[Tensor]:
    """What a function says of inputs in ``dtype``, and the gradients of these."""
    leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def near(ours: Any, theirs: Any, inputs: list[Tensor], grad: Tensor) -> None:
    """In fp32 the same to rounding, in bf16 as near to fp32 as theirs."""
    exact = sides(theirs, inputs, torch.float32, grad)
    for one, two in zip(sides(ours, inputs, torch.float32, grad), exact, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
    mine, stock = (sides(function, inputs, torch.bfloat16, grad) for function in (ours, theirs))
    for one, two, three in zip(mine, stock, exact, strict=True):
        assert one.dtype == two.dtype
        assert distance(one, three) < max(SLACK * distance(two, three), 2**-9)


@pytest.mark.parametrize("shape", [(2, 7, 48), (2, 7, 3, 16)], ids=["layer", "heads"])
def test_a_norm_is_that_of_llama(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    stock = LlamaRMSNorm(shape[-1], eps=1e-5)
    inputs = [torch.randn(shape).bfloat16(), torch.rand(shape[-1]).add(0.5).bfloat16()]

    def theirs(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(stock, {"weight": weight}, (x,))

    near(lambda x, weight: pieces.normed(x, weight, 1e-5), theirs, inputs, torch.randn(shape))


@pytest.mark.parametrize("batch", [1, 2])
def test_turning_is_that_of_llama(batch: int) -> None:
    torch.manual_seed(0)
    angles = torch.randn(batch, 7, 8).repeat(1, 1, 2)  # equal halves
    cos, sin = angles.cos(), angles.sin()
    q, k = torch.randn(2, 7, 3, 16).bfloat16(), torch.randn(2, 7, 1, 16).bfloat16()

    def theirs(q: Tensor, k: Tensor) -> Tensor:
        found = apply_rotary_pos_emb(q, k, cos.to(q.dtype), sin.to(q.dtype), unsqueeze_dim=2)
        return torch.cat(found, dim=2)

    def ours(q: Tensor, k: Tensor) -> Tensor:
        found = [pieces.turned(x, cos.to(x.dtype), sin.to(x.dtype), x.dtype) for x in (q, k)]
        return torch.cat(found, dim=2)

    near(ours, theirs, [q, k], torch.randn(2, 7, 4, 16))


class Launches(TorchDispatchMode):
    """Counts the operations that start a kernel: all but views and empty tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if not func.is_view and not name.startswith(("empty", "detach")):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_turning_starts_three_kernels_each_way() -> None:
    """transformers': neg, cat, two products and a sum. Ours: a product, and half by half another to it."""
    x, cos, sin = torch.randn(1, 5, 2, 8, requires_grad=True), torch.ones(1, 5, 8), torch.zeros(1, 5, 8)
    with Launches() as stock:
        apply_rotary_pos_emb(x, x, cos, sin, unsqueeze_dim=2)
    with Launches() as ours:
        out = pieces.turned(x, cos, sin, x.dtype)
    assert ours.names == ["mul", "addcmul_", "addcmul_"]
    assert len(stock.names) == 2 * 5
    grad = torch.ones_like(out)
    with Launches() as back:
        torch.autograd.grad(out, x, grad)
    assert back.names == ["mul", "addcmul_", "addcmul_"]


# Under a model


@engines
@pytest.mark.parametrize("kind", KNOWN)
def test_known_families_say_what_they_say_in_fp32(on_cpu: None, kind: str, engine: Any) -> None:
    exact = model_of(kind)
    stock, ours = (copy.deepcopy(exact).bfloat16() for _ in range(2))
    for model in (exact, stock, ours):
        choose_engine(model, engine.name)
    take_away(stock.modules())
    assert put_under(exact) == put_under(stock) == (0, 0)
    assert put_under(ours) == PIECES[kind]
    assert not fused.is_fused(ours)  # its activations take the memory of transformers' own
    reference = logits(exact, engine)
    theirs, mine = logits(stock, engine), logits(ours, engine)
    assert not torch.equal(theirs, mine)
    assert 0 < distance(mine, reference) < SLACK * distance(theirs, reference)


@pytest.mark.parametrize("how", ["all", "lora"])
@pytest.mark.parametrize("kind", KNOWN)
def test_gradients_are_those_of_fp32(on_cpu: None, kind: str, how: str) -> None:
    exact, stock, ours = trained(kind, how)
    assert put_under(ours) == PIECES[kind] and put_under(stock) == (0, 0)
    apart: dict[str, list[float]] = {"theirs": [], "mine": []}
    for shift in range(0, 150, 30):
        reference = whole(gradients_of(exact, shift, autocast=False))
        for name, model in (("theirs", stock), ("mine", ours)):
            found = gradients_of(model, shift, autocast=True)
            assert all(gradient.dtype == torch.float32 for gradient in found.values())
            apart[name].append(distance(whole(found), reference))
    assert sum(apart["mine"]) < 1.3 * sum(apart["theirs"])


def gradients_of(model: Any, shift: int, *, autocast: bool) -> dict[str, Tensor]:
    """Of other rows for every shift: what rounding does to the gradient of one set of rows is chance."""
    model.train().zero_grad()
    rows = [TokenRow([(int(token) + shift) % 250 + 2 for token in row.ids]) for row in ROWS_OF_PAIR]
    with torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
        batch = {name: value.to(model.device) for name, value in Tree().lay_out(rows).items()}
        loss = Tree().next_logits(model, batch, range(64)).square().mean()
    loss.backward()
    return {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


def whole(parts: dict[str, Tensor]) -> Tensor:
    return torch.cat([parts[name].flatten().float() for name in sorted(parts)])


def trained(kind: str, how: str) -> tuple[Any, Any, Any]:
    """fp32, and in autocast transformers' own layers and ours: the same weights three times."""
    models: list[Any] = []
    for number in range(3):
        model = model_of(kind)
        choose_engine(model, training=True, bf16=number > 0)
        if number < 2:
            take_away(model.modules())
        if how == "lora":
            torch.manual_seed(1)
            low = number > 0  # frozen weights in bf16
            model = add_lora(model.bfloat16() if low else model, LoraSettings(rank=4), score_head=False)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.data.normal_(0, 0.1)
        models.append(model)
    return models[0], models[1], models[2]


@pytest.mark.parametrize(
    ("kind", "found"), [("olmo2", (0, 0)), ("gemma", (0, 3)), ("phi3", (7, 0)), ("granite", (7, 3))]
)
def test_other_families_get_what_reads_as_llamas(on_cpu: None, kind: str, found: tuple[int, int]) -> None:
    """OLMo 2 has norms of whole queries that round last, Gemma's norm adds one to its weight.

    Phi 3 has one product for all heads. Granite scales its residual, which is none of these pieces.
    """
    exact = model_of(kind)
    stock, ours = (copy.deepcopy(exact).bfloat16() for _ in range(2))
    choose_engine(ours, "plain")
    assert put_under(ours) == found
    theirs, mine, reference = (logits(model, Plain()) for model in (stock, ours, exact))
    assert distance(mine, reference) < SLACK * distance(theirs, reference)
    assert torch.equal(theirs, mine) == (found == (0, 0))


def test_fp32_is_computed_by_transformers(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, and ours are not even called."""
    model = model_of("qwen3")
    before = logits(model, Plain())
    choose_engine(model, "plain", bf16=True)
    assert put_under(model) == PIECES["qwen3"]
    for name in ("normed", "turned"):
        monkeypatch.setattr(pieces, name, lambda *_: pytest.fail("fp32 is transformers' own"))
    assert torch.equal(logits(model, Plain()), before)


def test_what_says_something_else_is_left_alone(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong angle takes attention away and no norm; then the other way round."""
    model, turned, normed = model_of("qwen3").bfloat16(), pieces.turned, pieces.normed
    monkeypatch.setattr(pieces, "turned", lambda x, cos, sin, dtype: turned(x, cos, -sin, dtype))
    with pytest.warns(UserWarning, match="without fused layers where one would say something else"):
        choose_engine(model)
    assert put_under(model) == (13, 0)
    monkeypatch.setattr(pieces, "turned", turned)
    monkeypatch.setattr(pieces, "normed", lambda x, weight, eps: normed(x, weight, eps) * 1.02)
    with pytest.warns(UserWarning, match="without fused layers"):
        choose_engine(model)
    assert put_under(model) == (0, 3)


@pytest.mark.filterwarnings("ignore:.*without fused layers")
def test_a_kernel_that_is_not_there_is_not_used(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Tensor:
        raise NotImplementedError("no kernel for this device")

    model = model_of("llama").bfloat16()
    monkeypatch.setattr(pieces, "normed", missing)
    choose_engine(model)
    assert put_under(model) == (0, 3)
    assert torch.isfinite(logits(model, Tree())).all()


def test_what_the_example_does_not_reach_is_left_alone() -> None:
    model = model_of("llama").bfloat16()
    assert pieces.fuse(model, lambda: None) == 0
    assert put_under(model) == (0, 0)


def test_a_cache_of_keys_is_transformers_own(on_cpu: None) -> None:
    """Generation, which another library may start, reads on from cached keys."""
    model = model_of("llama").bfloat16()
    ids = torch.tensor([list(ROWS_OF_PAIR[0].ids)])
    choose_engine(model)
    with torch.inference_mode():
        cached = model(ids[:, :50], use_cache=True).past_key_values
        rest = model(ids[:, 50:], past_key_values=cached).logits
        whole = model(ids, use_cache=False).logits[:, 50:]
    assert distance(rest, whole) < 0.05


# Attention under autocast


@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
def test_autocast_gives_attention_one_precision(low: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers turns queries and keys in fp32 then, which the flash kernel does not take."""
    torch.manual_seed(0)
    plan = Plan.of(trie.build([list(row.ids) for row in ROWS_OF_PAIR]))
    tokens = sum(plan.sizes)
    q, k = (torch.randn(1, heads, tokens, 16) for heads in (4, 2))
    v = torch.randn(1, 2, tokens, 16).bfloat16()
    dtype = torch.bfloat16 if low else torch.float32
    seen: list[torch.dtype] = []

    def watched(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
        seen.extend([query.dtype, key.dtype, value.dtype])
        return by_flex(query, key, value, *rest)

    monkeypatch.setattr(kernels, "by_flex", watched)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
        found = in_one_call(q, k, v if low else v.float(), plan, None, None)
    assert seen == [dtype] * 3
    with torch.no_grad():
        wanted = by_flex(q, k, v.float(), plan, None, None)
    assert distance(found, wanted) < (0.02 if low else 1e-6)


# On a GPU


@needs_gpu
@engines
@pytest.mark.parametrize("kind", KNOWN)
def test_gpu_says_what_fp32_says(kind: str, engine: Any) -> None:
    exact = model_of(kind)
    stock, ours = (copy.deepcopy(exact).bfloat16().cuda() for _ in range(2))
    for model in (exact, stock, ours):
        choose_engine(model, engine.name)
    take_away(stock.modules())
    assert put_under(ours) == PIECES[kind]
    reference = logits(exact, engine)
    theirs, mine = (distance(on_gpu(model, engine), reference) for model in (stock, ours))
    assert 0 < mine < SLACK * theirs


@needs_gpu
@pytest.mark.parametrize("kind", KNOWN)
def test_gpu_gradients_are_those_of_fp32(kind: str) -> None:
    exact, ours = model_of(kind), model_of(kind).cuda()
    choose_engine(exact, training=True)
    choose_engine(ours, training=True, bf16=True)
    assert put_under(ours) == PIECES[kind]
    found, reference = gradients_of(ours, 0, autocast=True), gradients_of(exact, 0, autocast=False)
    assert set(found) == set(reference)
    assert distance(whole(found), whole(reference)) < 0.1


def on_gpu(model: Any, engine: Any) -> Tensor:
    batch = {name: value.to("cuda") for name, value in engine.lay_out(ROWS_OF_PAIR).items()}
    with torch.no_grad():
        return engine.next_logits(model, batch, range(64)).cpu()
