"""What rows said when they were read, kept for later passes: keys and values by row, the oldest go first.

Knows parts of rows and tensors; knows no plan. Weights that have changed since void everything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from gram.engine.changes import State, state_of
from gram.engine.memory import keys_that_fit
from gram.engine.segments import Key


class Kept:
    """Keys and values of parts that a model has read, as many as a share of its memory holds.

    Args:
        model: whose they are.
        limit: most tokens; by default for the memory that is free now.

    Example:
        >>> kept = Kept(nn.Linear(1, 1), limit=3)
        >>> kept.put(((1, 2), 0), {})
        >>> kept.put(((1, 2, 3, 4), 2), {})  # four tokens in all: the first two go
        >>> kept.get(((1, 2), 0)) is None, kept.tokens
        (True, 2)
    """

    def __init__(self, model: nn.Module, limit: int | None = None) -> None:
        self._model = model
        self._limit = keys_that_fit(model) if limit is None else limit
        self._parts: OrderedDict[Key, Mapping[nn.Module, tuple[Tensor, Tensor]]] = OrderedDict()
        self._state: list[State] | None = None
        self.tokens = 0

    def check(self) -> None:
        """Forget everything if a weight is another one, or was changed, since the last call."""
        state = [state_of(weight) for weight in self._model.parameters()]
        if state != self._state:
            self._parts.clear()
            self.tokens, self._state = 0, state

    def __contains__(self, key: Key) -> bool:
        return key in self._parts

    def get(self, key: Key) -> Mapping[nn.Module, tuple[Tensor, Tensor]] | None:
        """Keys and values of a part by attention module; None: it is not kept."""
        if key in self._parts:
            self._parts.move_to_end(key)
        return self._parts.get(key)

    def put(self, key: Key, layers: Mapping[nn.Module, tuple[Tensor, Tensor]]) -> None:
        """Keep a part, which replaces the same one, and let the oldest go."""
        if key in self._parts:
            self._drop(key)
        self._parts[key] = layers
        self.tokens += _size(key)
        while self.tokens > self._limit:
            self._drop(next(iter(self._parts)))

    def put_all(
        self, keys: Sequence[Key], layers: Mapping[nn.Module, Sequence[tuple[Tensor, Tensor]]]
    ) -> None:
        """Keep several parts, whose keys and values stand in their order in every layer."""
        for number, key in enumerate(keys):
            self.put(key, {module: parts[number] for module, parts in layers.items()})

    def _drop(self, key: Key) -> None:
        del self._parts[key]
        self.tokens -= _size(key)


def _size(key: Key) -> int:
    row, start = key
    return len(row) - start
