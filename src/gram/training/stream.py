"""The order of training: one seeded stream of whole global batches.

Which ``batch_size`` samples an optimizer step sees depends on the seed and the step only, not on how they are
divided into micro-batches and among processes. Knows samples only by their lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gram.objectives.objective import Sample


class Stream(Dataset[Sample]):
    """``steps * batch_size`` samples in training order.

    Passes over the data follow each other without a gap, each in a fresh order. Within a step samples are
    sorted by length, and dealt to the processes so that all have about as much to read (``deal``); the share
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
        order = np.take_along_axis(order, by_length, axis=1)
        tokens = np.array([sample.tokens for sample in samples])
        self._order = np.take_along_axis(order, deal(tokens[order], processes), axis=1).ravel()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[self._order[index]]


def deal(tokens: NDArray[np.int64], processes: int) -> NDArray[np.int64]:
    """Places of a step's samples, the share of each process together and in the order they came in.

    Equally many to each, of about as many tokens: the heaviest go first, one to each process, the heaviest of
    them to the one that has least so far. So no two shares differ by more than the largest difference between
    two samples.

    Args:
        tokens: (steps, batch) of each sample, the batch a multiple of ``processes``.

    Returns:
        (steps, batch).

    Example:
        >>> deal(np.array([[9, 8, 5, 1]]), processes=2)  # 9 + 1 and 8 + 5
        array([[0, 3, 1, 2]])
    """
    steps, batch = tokens.shape
    heaviest_first = np.argsort(-tokens, axis=1, kind="stable")  # (steps, batch)
    loads = np.zeros((steps, processes), dtype=np.int64)  # tokens of each process so far
    owner = np.empty((steps, batch), dtype=np.int64)
    for start in range(0, batch, processes):
        group = heaviest_first[:, start : start + processes]  # (steps, processes) places
        lightest_first = np.argsort(loads, axis=1, kind="stable")  # (steps, processes) of them
        np.put_along_axis(owner, group, lightest_first, axis=1)
        more = np.take_along_axis(loads, lightest_first, 1) + np.take_along_axis(tokens, group, 1)
        np.put_along_axis(loads, lightest_first, more, axis=1)
    return np.argsort(owner, axis=1, kind="stable")


def steps_for(samples: int, batch_size: int, *, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of a run: ``max_steps`` if given, else ``epochs`` passes, rounded up.

    Example:
        >>> steps_for(100, batch_size=32, epochs=1.0, max_steps=None)
        4
    """
    return max_steps if max_steps is not None else max(1, math.ceil(epochs * samples / batch_size))
