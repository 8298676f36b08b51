"""A uniform sample of a stream whose length nobody knows beforehand. Knows no rows."""

from __future__ import annotations

from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Sample(Generic[T]):
    """A uniform sample without replacement of a stream, in its order (reservoir sampling, Vitter 1985)."""

    def __init__(self, limit: int | None, seed: int) -> None:
        self._limit = limit
        self._rng = Random(seed)
        self._sample: list[tuple[int, T]] = []
        self._count = 0

    def add(self, record: T) -> None:
        self._count += 1
        if self._limit is None or len(self._sample) < self._limit:
            self._sample.append((self._count, record))
        elif (slot := self._rng.randrange(self._count)) < self._limit:
            self._sample[slot] = (self._count, record)

    @property
    def left_out(self) -> int:
        """Records that are not in the sample."""
        return self._count - len(self._sample)

    def records(self) -> list[T]:
        return [record for _, record in sorted(self._sample, key=lambda item: item[0])]
