"""The order of training: one seeded stream of whole global batches.

Each optimizer step sees ``batch_size`` samples that depend on the seed and the step alone: how they are
dealt to micro-batches and processes cannot change them. Knows samples only by their length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from gram.objectives.objective import Sample


class Stream(Dataset[Sample]):
    """``steps * batch_size`` samples in training order.

    Passes over the data follow each other without a gap, each in a fresh order. Within a step samples are
    sorted by length, so that the micro-batches of one step hold little padding.
    """

    def __init__(self, samples: Sequence[Sample], *, steps: int, batch_size: int, seed: int) -> None:
        self._samples = samples
        passes = math.ceil(steps * batch_size / len(samples))
        orders = [np.random.default_rng((seed, number)).permutation(len(samples)) for number in range(passes)]
        order = np.concatenate(orders)[: steps * batch_size].reshape(steps, batch_size)
        lengths = np.array([sample.length for sample in samples])
        by_length = np.argsort(-lengths[order], axis=1, kind="stable")
        self._order = np.take_along_axis(order, by_length, axis=1).ravel()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[self._order[index]]


def steps_for(samples: int, batch_size: int, *, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of a run: ``max_steps`` if given, else ``epochs`` passes, rounded up."""
    return max_steps if max_steps is not None else max(1, math.ceil(epochs * samples / batch_size))
