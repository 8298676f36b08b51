"""Memory that is used again: never while something still reads it, and no more than was needed at once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import make_preferences
from gram.engine import flash, pool
from gram.engine.plan import Plan
from gram.engine.pool import Pool
from gram.modeling.loading import LoadedModel
from gram.objectives.preference import Judge
from gram.rendering import Renderer
from gram.training.arguments import FitSettings
from gram.training.fit import fit

ROW = (4,)


def test_a_view_keeps_the_memory() -> None:
    """Of the tensor itself nothing is left, only a row of it."""
    memory = Pool()
    row = memory.rows(10, ROW, torch.float32).fill_(7)[3]
    for _ in range(5):
        memory.rows(10, ROW, torch.float32).fill_(0)
    assert row.tolist() == [7.0] * 4


def test_what_autograd_keeps_is_not_given_away() -> None:
    memory = Pool()
    weight = torch.ones(10, 4, requires_grad=True)
    kept = (
        weight * memory.rows(10, ROW, torch.float32).fill_(3)
    ).sum()  # the factor is saved for its gradient
    memory.rows(10, ROW, torch.float32).fill_(0)
    kept.backward()
    assert weight.grad is not None and torch.equal(weight.grad, torch.full((10, 4), 3.0))


def test_it_holds_what_was_alive_at_once() -> None:
    """Steps of other sizes, up to 45 rows: three blocks, as three tensors live at once, and no small ones."""
    memory = Pool()
    for n in (10, 40, 12, 45, 41, 3):
        tensors = [memory.rows(n, ROW, torch.float32) for _ in range(3)]
        assert len({tensor.data_ptr() for tensor in tensors}) == 3
        del tensors
    blocks: Any = memory._blocks[(ROW, torch.float32)]
    assert len(blocks) == 3 and all(len(block) >= 40 * 16 for block in blocks)


def test_rows_of_nothing() -> None:
    assert Pool().rows(0, ROW, torch.bfloat16).shape == (0, 4)
    assert Pool().rows(3, (0,), torch.bfloat16).shape == (3, 0)


def test_two_forward_passes_before_the_gradients_of_either() -> None:
    """As when a loss has two terms: the second pass must leave what the first keeps alone."""
    plan, found = Plan((20,), ((0,),)), []
    torch.manual_seed(0)
    tensors = [[torch.randn(20, 2, 16).bfloat16().requires_grad_() for _ in range(3)] for _ in range(2)]

    def gradients(losses: list[Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(sum(losses), [t for three in tensors for t in three]))  # type: ignore[arg-type]

    outs = [flash.attend(three[0], three[1], three[2], plan).float().square().sum() for three in tensors]
    found = gradients(outs)
    alone = []
    for three in tensors:
        alone += torch.autograd.grad(
            flash.attend(three[0], three[1], three[2], plan).float().square().sum(), three
        )
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))
    assert pool.ACTIVATIONS._blocks


def test_released_memory_stays_with_what_is_alive() -> None:
    memory = Pool()
    alive = memory.rows(10, ROW, torch.float32).fill_(7)
    memory.release()
    memory.rows(10, ROW, torch.float32).fill_(0)
    assert alive.eq(7).all()
    del alive
    assert len(memory._blocks[(ROW, torch.float32)]) == 1


def test_a_kernel_without_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.mmap, "MADV_HUGEPAGE", 9_999)  # no advice that a kernel knows
    assert Pool().rows(10, ROW, torch.float32).fill_(7).eq(7).all()


def test_training_gives_its_memory_back(preset: LoadedModel, renderer: Renderer) -> None:
    """A pool that keeps the activations of a finished training takes them from what is run next."""
    pool.ACTIVATIONS.rows(10, ROW, torch.float32)
    judge = Judge(renderer, label_smoothing=0.1)
    samples = judge.encode(make_preferences(8))
    fit(copy.deepcopy(preset.model), judge, samples, FitSettings(steps=1, batch_size=4), title=None)
    assert not pool.ACTIVATIONS._blocks
