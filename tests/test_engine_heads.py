"""From hidden states to numbers: chunks change nothing, and gradients made on the way are right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gram.engine import heads
from gram.engine.heads import (
    core,
    cross_entropy_sum,
    few_logits,
    log_normaliser,
    output_layer,
    tied,
    token_logprobs,
)
from gram.modeling.trainable import LoraSettings, add_lora, freeze
from small_models import fresh

WIDTH, VOCAB = 12, 50


def drawn(count: int, bias: bool = False) -> tuple[nn.Linear, Tensor, Tensor]:
    """A layer, ``count`` hidden states and targets; of the vocabulary, most tokens are the target of some."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(count)
        layer = nn.Linear(WIDTH, VOCAB, bias=bias)
        return layer, torch.randn(count, WIDTH, requires_grad=True), torch.arange(count) * 7 % VOCAB


def slow(layer: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    """(k,) log-probabilities in float64: softmax, and the entry of the target."""
    bias = 0.0 if layer.bias is None else layer.bias.double()
    logits = hidden.double() @ layer.weight.double().T + bias
    return logits.softmax(dim=1).log()[torch.arange(len(targets)), targets]


def gradients(loss: Tensor, layer: nn.Linear, hidden: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [hidden, *layer.parameters()]))


@pytest.fixture(params=[1, 3, 7, 10**6])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Hidden states per chunk: one, some that do not divide their number, exactly all, and more."""
    monkeypatch.setattr(heads, "_FEWEST", request.param)
    monkeypatch.setattr(heads, "_CHUNK", 1)
    return request.param


def test_rows_per_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as make ``_CHUNK`` logits, but not fewer than ``_FEWEST``."""
    layer = nn.Linear(WIDTH, VOCAB)
    monkeypatch.setattr(heads, "_FEWEST", 4)
    for chunk, expected in ((VOCAB * 6 + 3, 6), (VOCAB * 4, 4), (VOCAB, 4)):
        monkeypatch.setattr(heads, "_CHUNK", chunk)
        assert heads._rows(layer) == expected


# What the loss of a language model is


def test_a_model_that_knows_nothing() -> None:
    """Equal logits over V = 50: every one of the 7 scored positions costs log 50."""
    layer = nn.Linear(WIDTH, VOCAB, bias=False)
    nn.init.zeros_(layer.weight)
    hidden, targets = torch.randn(7, WIDTH), torch.tensor([0, 1, 2, 3, 4, 5, 49])
    assert cross_entropy_sum(layer, hidden, targets).item() == pytest.approx(7 * math.log(50), rel=1e-6)
    torch.testing.assert_close(token_logprobs(layer, hidden, targets), torch.full((7,), -math.log(50)))


@pytest.mark.parametrize("bias", [False, True])
def test_the_sum_of_negative_log_probabilities(rows: int, bias: bool) -> None:
    """Value and gradients against float64, in chunks of every size."""
    layer, hidden, targets = drawn(7, bias)
    found, wanted = cross_entropy_sum(layer, hidden, targets), -slow(layer, hidden, targets).sum()
    assert found.shape == () and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted)
    mine, theirs = (
        gradients(loss * 0.3, layer, hidden) for loss in (found, wanted)
    )  # not only a factor of 1
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_log_probabilities_of_tokens(rows: int, bias: bool) -> None:
    layer, hidden, targets = drawn(7, bias)
    found, wanted = token_logprobs(layer, hidden, targets), slow(layer, hidden, targets)
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-6)
    weights = torch.linspace(-1, 2, 7)
    mine, theirs = (gradients((loss * weights).sum(), layer, hidden) for loss in (found, wanted))
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_the_gradient_is_that_of_finite_differences(rows: int) -> None:
    """Along one direction in all inputs at once: (f(x + e d) - f(x - e d)) / 2e with e = 0.01."""
    layer, hidden, targets = drawn(7, bias=True)
    inputs = [hidden, *layer.parameters()]
    directions = [torch.randn(x.shape, generator=torch.Generator().manual_seed(len(x))) for x in inputs]
    found = gradients(cross_entropy_sum(layer, hidden, targets), layer, hidden)
    slope = sum((one * two).sum().item() for one, two in zip(found, directions, strict=True))
    ends = []
    for step in (0.01, -0.01):
        with torch.no_grad():
            for value, direction in zip(inputs, directions, strict=True):
                value += step * direction
            ends.append(cross_entropy_sum(layer, hidden, targets).item())
            for value, direction in zip(inputs, directions, strict=True):
                value -= step * direction
    assert abs(slope) > 0.1
    assert slope == pytest.approx((ends[0] - ends[1]) / 0.02, rel=5e-3)


def test_half_precision_is_summed_in_float32() -> None:
    layer, hidden, targets = drawn(4096)
    coarse, states = layer.bfloat16(), hidden.detach().bfloat16()
    value = cross_entropy_sum(coarse, states, targets)
    rounded = nn.functional.linear(states, coarse.weight).double()  # the logits themselves are bf16
    wanted = nn.functional.cross_entropy(rounded, targets, reduction="sum")
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert token_logprobs(coarse, states, targets).sum().item() == pytest.approx(-wanted.item(), rel=1e-5)


def test_autocast_gives_gradients_in_the_precision_of_the_weights(rows: int) -> None:
    layer, hidden, targets = drawn(7, bias=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy_sum(layer, hidden, targets)
    mine = gradients(loss, layer, hidden)
    theirs = gradients(-slow(layer, hidden, targets).sum(), layer, hidden)
    for one, two in zip(mine, theirs, strict=True):
        assert one.dtype == torch.float32
        assert (one - two).norm() < 0.02 * two.norm()


def test_only_the_gradients_asked_for_are_made(rows: int) -> None:
    """A frozen layer, or hidden states of a frozen body: the other gradient is unchanged."""
    layer, hidden, targets = drawn(7, bias=True)
    wanted = gradients(cross_entropy_sum(layer, hidden, targets), layer, hidden)
    cross_entropy_sum(layer, hidden.detach(), targets).backward()
    assert layer.weight.grad is not None and layer.bias.grad is not None
    torch.testing.assert_close([layer.weight.grad, layer.bias.grad], wanted[1:])
    layer.requires_grad_(False)
    cross_entropy_sum(layer, hidden, targets).backward()
    torch.testing.assert_close(hidden.grad, wanted[0])


def test_an_evaluation_makes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large product for the gradient of the layer is as dear as the logits themselves."""

    def never(*_: Tensor) -> None:
        raise AssertionError("a gradient was made under no_grad")

    monkeypatch.setattr(heads, "_add_product", never)
    layer, hidden, targets = drawn(7)
    with torch.no_grad():
        loss = cross_entropy_sum(layer, hidden, targets)
    assert loss.item() == pytest.approx(-slow(layer, hidden, targets).sum().item(), rel=1e-5)


def test_nothing_to_score(rows: int) -> None:
    layer, hidden, targets = drawn(0)
    assert token_logprobs(layer, hidden, targets).shape == (0,)
    loss = cross_entropy_sum(layer, hidden, targets)
    assert loss.item() == 0.0
    assert not any(gradient.any() for gradient in gradients(loss, layer, hidden))


def test_chunks_keep_no_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backward pass holds on to does not grow with vocabulary times tokens."""
    monkeypatch.setattr(heads, "_FEWEST", 4)
    monkeypatch.setattr(heads, "_CHUNK", 1)
    layer, hidden, targets = drawn(64)
    for ask in (cross_entropy_sum, token_logprobs):
        kept: list[int] = []

        def pack(value: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            ask(layer, hidden, targets)
        assert max(kept, default=0) <= max(VOCAB * WIDTH, 64 * WIDTH) < 64 * VOCAB


# A few tokens only


@pytest.mark.parametrize("bias", [False, True])
def test_few_logits_and_their_normaliser(rows: int, bias: bool) -> None:
    """Together they are log-probabilities out of the whole vocabulary."""
    layer, hidden, _ = drawn(7, bias)
    tokens = [40, 3, 49]
    wanted = torch.stack([slow(layer, hidden, torch.full((7,), token)) for token in tokens], dim=1)
    logits = few_logits(layer, hidden, tokens)
    found = logits - log_normaliser(layer, hidden, tokens, logits)
    assert found.shape == (7, 3)
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(few_logits(layer, hidden, slice(None)), layer(hidden))
    mine, theirs = (gradients(value.square().sum(), layer, hidden) for value in (found, wanted))
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_the_gradient_of_few_logits_may_be_a_few_rows(bias: bool) -> None:
    """Only rows 40, 3 and 49 of the 50 are kept; summed with a dense gradient, it is dense and the same."""
    layer, hidden, _ = drawn(7, bias)
    one, two = (
        few_logits(layer, hidden, [40, 3, 49], sparse=sparse).square().sum() for sparse in (True, False)
    )
    assert torch.equal(one, two)
    [few], [whole] = (torch.autograd.grad(loss, [layer.weight]) for loss in (one, two))
    assert few.is_sparse and sorted(few.coalesce().indices()[0].tolist()) == [3, 40, 49]
    torch.testing.assert_close(few.to_dense(), whole)
    again = few_logits(layer, hidden, [40, 3, 49], sparse=True).square().sum() + layer.weight.sum()
    again.backward()
    assert layer.weight.grad is not None and not layer.weight.grad.is_sparse
    torch.testing.assert_close(layer.weight.grad, whole + 1)


def test_few_logits_leave_autocast() -> None:
    layer, hidden, _ = drawn(7)
    wanted = few_logits(layer, hidden, [4, 5])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(few_logits(layer, hidden, [4, 5]), wanted)


def test_probabilities_of_half_precision_models_do_not_exceed_one() -> None:
    """A token that is all but certain: its exact logit counts in the sum, so it cannot outgrow it."""
    layer = nn.Linear(WIDTH, VOCAB, bias=False).bfloat16()
    hidden = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        layer.weight[5] = hidden[0] * 4
        logits = few_logits(layer, hidden, [5, 6])
        found = logits - log_normaliser(layer, hidden, [5, 6], logits)
    assert found[0, 0] > -1e-3
    assert (found.exp().sum(dim=1) <= 1 + 1e-6).all()


# Where the parts of a model are


def test_the_model_inside_its_wrappers() -> None:
    bare = fresh("llama", VOCAB)
    assert core(bare) is bare and output_layer(bare) is bare.lm_head
    adapted = add_lora(bare, LoraSettings(rank=2), score_head=False)
    wrapped = nn.Module()
    wrapped.module = adapted
    assert core(wrapped) is core(adapted) is bare
    assert output_layer(wrapped) is bare.lm_head


def test_tied_weights() -> None:
    """A tied head is found inside wrappers, and not once it is untied; a score head never is."""
    bare = fresh("llama", VOCAB)
    assert tied(bare) and not tied(fresh("qwen2", VOCAB)) and not tied(fresh("llama", VOCAB, head="score"))
    assert tied(add_lora(fresh("llama", VOCAB), LoraSettings(rank=2), score_head=False))
    freeze(bare, 0)
    assert not tied(bare)


def test_the_trained_copy_of_a_score_head() -> None:
    """Adapters keep the head of the beginning beside the one that is trained."""
    bare = fresh("llama", VOCAB, head="score")
    first = bare.score
    assert output_layer(bare) is first
    adapted = add_lora(bare, LoraSettings(rank=2), score_head=True)
    found = output_layer(adapted)
    assert isinstance(found, nn.Linear) and found is not first
    assert found.weight.requires_grad and not first.weight.requires_grad
