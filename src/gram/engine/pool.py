"""Memory for the activations of a training step that the next step uses again.

Hundreds of tensors of some MB live from the forward to the backward pass, and each step has them in other
sizes. Given back to the C library they leave holes of every size, which it then searches one by one at each
allocation: a quarter of a step on glibc 2.36, and twice the memory. Here a tensor of n rows takes a block
that holds the most rows seen so far, and the block is free again when torch has let go of the tensor.

Knows shapes; knows nothing of layers.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections import deque
from contextlib import suppress

import torch
from torch import Tensor

_SPARE = 8  # a block holds an eighth more rows than are asked for, so that the next step fits too


class Pool:
    """Blocks of memory for tensors of n rows, by the shape of a row.

    Example:
        >>> pool = Pool()
        >>> first = pool.rows(10, (4,), torch.float32)
        >>> place = first.data_ptr()
        >>> pool.rows(10, (4,), torch.float32).data_ptr() == place  # the first is still alive
        False
        >>> del first
        >>> pool.rows(9, (4,), torch.float32).data_ptr() == place
        True
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[tuple[int, ...], torch.dtype], deque[mmap.mmap]] = {}

    def rows(self, n: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """(n, *shape), not initialised, on the CPU."""
        count = n * math.prod(shape)
        if not count:
            return torch.empty(n, *shape, dtype=dtype)
        block = self._block(self._blocks.setdefault((shape, dtype), deque()), count * dtype.itemsize)
        return torch.frombuffer(block, dtype=dtype, count=count).view(n, *shape)

    def like(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape and precision, not initialised."""
        return self.rows(len(tensor), tuple(tensor.shape[1:]), tensor.dtype)

    def release(self) -> None:
        """Give the memory back: that of tensors still alive when they die."""
        self._blocks.clear()

    def _block(self, blocks: deque[mmap.mmap], size: int) -> mmap.mmap:
        """A free block of at least ``size`` bytes; smaller ones that are free are let go of."""
        for _ in range(len(blocks)):
            block, references = _first(blocks)
            # torch holds a reference to the block of a tensor until nothing uses its memory any more.
            if references > _FREE:
                blocks.append(block)
            elif len(block) >= size:
                blocks.append(block)
                return block
        blocks.append(_new_block(size + size // _SPARE))
        return blocks[-1]


def _first(blocks: deque[mmap.mmap]) -> tuple[mmap.mmap, int]:
    """The first block, taken out of the queue, and how many references there are to it."""
    block = blocks.popleft()
    return block, sys.getrefcount(block)


def _new_block(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # by default children share it
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)  # fewer, larger pages
    return block


_FREE = _first(deque([_new_block(1)]))[1]
"""References to a block that nobody uses, counted in the same place: versions of Python differ."""

ACTIVATIONS = Pool()
"""The one pool of this process: its steps come one after the other."""
