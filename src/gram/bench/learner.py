"""A way to train as a path: forward, backward, clipping and the optimizer's update, batch after batch.

Knows a loss and whose weights it moves; knows no model and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gram.objectives.objective import Sample

Loss = Callable[[Sequence[Sample]], Tensor]


@dataclass
class Learner:
    """A loss and the weights that it moves.

    Attributes:
        loss: samples to a 0-dim mean.
        autocast: precision of the products where it is not that of the weights; None: no autocast.
    """

    loss: Loss
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    autocast: torch.dtype | None

    def backward(self, samples: Sequence[Sample]) -> None:
        """Adds the gradients of one batch."""
        device = self.parameters[0].device.type
        with nullcontext() if self.autocast is None else torch.autocast(device, self.autocast):
            value = self.loss(samples)
        value.backward()

    def make_state(self) -> None:
        """Has the optimizer make its state, by an update without gradients."""
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def steps(self, batches: Sequence[Sequence[Sample]]) -> Callable[[], None]:
        """One optimizer step per batch; leaves no gradients behind."""

        def run() -> None:
            for samples in batches:
                self.backward(samples)
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()

        return run


def gradients(learner: Learner, samples: Sequence[Sample]) -> list[Tensor | None]:
    """Of one batch, in the order of the weights; leaves none behind."""
    learner.backward(samples)
    found = [parameter.grad for parameter in learner.parameters]
    learner.optimizer.zero_grad()
    return found


def apart(one: Sequence[Tensor | None], two: Sequence[Tensor | None]) -> float:
    """The largest difference of an entry over the largest entry of ``two``, where both have a gradient."""
    known = [(a.float(), b.float()) for a, b in zip(one, two, strict=True) if a is not None and b is not None]
    largest = max(float(b.abs().max()) for _, b in known)
    return max(float((a - b).abs().max()) for a, b in known) / largest
