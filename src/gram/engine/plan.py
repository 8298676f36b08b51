"""Which packed tokens see which: a trie reduced to what attention needs.

It comes in two forms: per node the nodes of its path, for a loop with one product per node (``Plan``); and
index tensors over all nodes, for one call of a GPU kernel (``Gather``, ``Reach``). Knows sizes and paths
only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gram.engine.trie import Trie


@dataclass(frozen=True)
class Plan:
    """The shape of a packed trie.

    Attributes:
        sizes: tokens per node, in packed order.
        paths: per node, the numbers of the nodes from the root down to itself.
        windows: the sliding windows, in tokens, that attention was called with; filled during the forward
            pass, None for a layer that sees everything.

    Example:
        A root of 4 tokens with two children of 2 and 3 tokens:

        >>> plan = Plan(sizes=(4, 2, 3), paths=((0,), (0, 1), (0, 2)))
        >>> plan.seen(2, window=None), plan.seen(2, window=3)
        (((0, 2), 0), ((0, 2), 2))
    """

    sizes: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    windows: set[int | None] = field(default_factory=set)

    @classmethod
    def of(cls, trie: Trie) -> Plan:
        return cls(tuple(node.size for node in trie.nodes), tuple(trie.paths))

    def seen(self, node: int, window: int | None) -> tuple[tuple[int, ...], int]:
        """The nodes whose tokens ``node`` may see, and how many of their first tokens it may not.

        Args:
            node: its number.
            window: how many tokens, itself included, a token sees at most; None for all.
        """
        path = self.paths[node]
        if window is None:
            return path, 0
        skip = max(0, sum(self.sizes[ancestor] for ancestor in path[:-1]) - window + 1)
        first = 0
        while skip >= self.sizes[path[first]]:
            skip -= self.sizes[path[first]]
            first += 1
        return path[first:], skip

    def to(self, device: torch.device | str, **_: Any) -> Plan:
        """Itself: a plan holds no tensors, but every value of a batch must have ``to``."""
        return self

    def __hash__(self) -> int:
        return id(self)  # plans are cached by identity: comparing long tuples would cost more than it saves

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True, eq=False)
class Gather:
    """For a kernel over m sequences of various lengths: the keys of each of m nodes, one node after another.

    Attributes:
        keys: (K,) packed place of each key, node by node.
        query_ends, key_ends: (m + 1,) int32 cumulative lengths, from 0.
        most_queries, most_keys: the longest of the m sequences.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int

    @classmethod
    def of(cls, plan: Plan, window: int | None, device: torch.device) -> Gather:
        ends = np.cumsum([0, *plan.sizes])  # (m + 1,)
        places = []
        for node in range(len(plan.sizes)):
            path, skip = plan.seen(node, window)
            runs = [np.arange(ends[number], ends[number + 1]) for number in path]
            places.append(np.concatenate(runs)[skip:])
        lengths = [len(place) for place in places]

        def index(values: Any, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        return cls(
            index(np.concatenate(places), torch.long),
            index(ends, torch.int32),
            index(np.cumsum([0, *lengths]), torch.int32),
            max(plan.sizes),
            max(lengths),
        )


@dataclass(frozen=True, eq=False)
class Reach:
    """Per packed token, (N,): its depth, and the packed place behind the last token that may see it.

    In depth-first order the tokens below a node are one interval, so token q sees token k exactly when
    ``k <= q < ends[k]``.
    """

    depths: Tensor
    ends: Tensor

    @classmethod
    def of(cls, plan: Plan, device: torch.device) -> Reach:
        bounds = np.cumsum([0, *plan.sizes])  # (m + 1,)
        subtree_ends = bounds[1:].copy()  # (m,)
        for node in reversed(range(len(plan.sizes))):
            if len(plan.paths[node]) > 1:
                parent = plan.paths[node][-2]
                subtree_ends[parent] = max(subtree_ends[parent], subtree_ends[node])
        start_depths = [sum(plan.sizes[ancestor] for ancestor in path[:-1]) for path in plan.paths]
        depths = [
            np.arange(start, start + size) for start, size in zip(start_depths, plan.sizes, strict=True)
        ]
        return cls(
            torch.as_tensor(np.concatenate(depths), device=device),
            torch.as_tensor(np.repeat(subtree_ends, plan.sizes), device=device),
        )
