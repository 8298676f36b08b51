"""The order of training: one seeded stream of whole global batches.

Which ``batch_size`` samples an optimizer step sees depends on the seed and the step only, not on how they are
divided into micro-batches and among processes. Knows samples only by their length.
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
    sorted by length and dealt to the processes one by one, so that all have about as much to read; the share
    of a process stands together.

    Example:
        >>> from gram.engine.base import TokenRow
        >>> samples = [Sample((TokenRow([7] * length),)) for length in (1, 2, 3, 4)]
        >>> stream = Stream(samples, steps=2, batch_size=2, seed=0)
        >>> sorted(sample.length for sample in stream)  # two steps of two samples: one pass over the data
        [1, 2, 3, 4]
    """

    def __init__(
        self, samples: Sequence[Sample], *, steps: int, batch_size: int, seed: int, processes: int = 1
    ) -> None:
        self._samples = samples
        passes = math.ceil(steps * batch_size / len(samples))
        orders = [np.random.default_rng((seed, number)).permutation(len(samples)) for number in range(passes)]
        order = np.concatenate(orders)[: steps * batch_size].reshape(steps, batch_size)
        lengths = np.array([sample.length for sample in samples])  # tokens
        by_length = np.argsort(-lengths[order], axis=1, kind="stable")  # (steps, batch_size)
        dealt = by_length.reshape(steps, -1, processes).swapaxes(1, 2).reshape(steps, batch_size)
        self._order = np.take_along_axis(order, dealt, axis=1).ravel()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[self._order[index]]


def steps_for(samples: int, batch_size: int, *, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of a run: ``max_steps`` if given, else ``epochs`` passes, rounded up.

    Example:
        >>> steps_for(100, batch_size=32, epochs=1.0, max_steps=None)
        4
    """
    return max_steps if max_steps is not None else max(1, math.ceil(epochs * samples / batch_size))
