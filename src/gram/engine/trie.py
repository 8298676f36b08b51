"""Which sequences share which prefix: a token trie over whole token sequences.

Pure numpy; knows token ids only. Sequences are never cut or encoded again, so a prompt read through the
trie has exactly the tokens a naive caller would give the model.

A worked example, three rows (A, B, ... are tokens)::

    row 0   A B C D E F G H I         node 0  A B C D E   depth 0-4   rows 0, 1, 2
    row 1   A B C D E F G H I K         node 1  F G H I   depth 5-8   rows 0, 1; row 0 ends here
    row 2   A B C D E X Y                 node 2  K       depth 9     row 1 ends here
                                        node 3  X Y       depth 5-6   row 2 ends here

    packed    A B C D E F G H I K X Y      one pass reads 12 tokens instead of 26
    offsets   0         5       9 10       of nodes 0 to 3 in it
    position  0 1 2 3 4 5 6 7 8 9 5 6      depth, as each row by itself would count
    paths     (0) (0 1) (0 1 2) (0 3)      what the tokens of nodes 0 to 3 may see

>>> trie = build([[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 11], [1, 2, 3, 4, 5, 24, 25]])
>>> [(node.start, node.stop) for node in trie.nodes], trie.offsets.tolist()
([(0, 5), (5, 9), (9, 10), (5, 7)], [0, 5, 9, 10])
>>> trie.paths, trie.ends, trie.tokens
([(0,), (0, 1), (0, 1, 2), (0, 3)], [1, 2, 3], 12)
>>> trie.place(2, np.array([4, 5, 6])).tolist()  # the last three tokens of row 2 among the packed ones
[4, 10, 11]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
Ids = Sequence[int] | Places
Words = NDArray[np.uint32]
"""Token ids, big-endian: their bytes sort as the ids do."""

SHORTEST_SHARED = 4
"""A common run of fewer tokens is not shared but read once per prompt: splitting costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Node:
    """A run of tokens that every prompt below it contains.

    Attributes:
        parent: the node whose tokens come before; -1: none.
        row: a sequence that passes through.
        start, stop: the half-open range of its tokens in that sequence, which is also their depth.
    """

    parent: int
    row: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Trie:
    """The nodes in depth-first order, each after its parent; packed, they stand one behind the other.

    Attributes:
        nodes: m nodes.
        paths: per node, its ancestors from the root on, and itself.
        ends: per sequence, the number of the node that holds its last token.
        offsets: (m,) the packed place of each node's first token.
    """

    nodes: list[Node]
    paths: list[tuple[int, ...]]
    ends: list[int]
    offsets: Places

    @property
    def tokens(self) -> int:
        """Tokens in all nodes: what one forward pass reads."""
        return sum(node.size for node in self.nodes)

    def place(self, row: int, positions: Places) -> Places:
        """Where the tokens at ``positions`` of a sequence stand among the packed tokens."""
        path = list(self.paths[self.ends[row]])
        starts = np.array([self.nodes[node].start for node in path])
        offsets = self.offsets[path]
        level = np.searchsorted(starts, positions, side="right") - 1
        return offsets[level] + positions - starts[level]


def build(sequences: Sequence[Ids]) -> Trie:
    """The trie of n non-empty sequences; equal ones end in the same node."""
    order, shared = _sorted(sequences)
    twins: dict[int, int] = {}  # a sequence that equals the one before it, and the first of these
    for place in range(1, len(order)):
        one, two = order[place - 1], order[place]
        if len(sequences[one]) == len(sequences[two]) == shared[place]:
            twins[two] = twins.get(one, one)
    single = [place for place, row in enumerate(order) if row not in twins]
    order, shared = [order[place] for place in single], shared[single]
    nodes: list[Node] = []
    paths: list[tuple[int, ...]] = []
    ends = [-1] * len(sequences)

    def add(parent: int, row: int, start: int, stop: int) -> int:
        nodes.append(Node(parent, row, start, stop))
        paths.append((*(paths[parent] if parent >= 0 else ()), len(nodes) - 1))
        return len(nodes) - 1

    # A stack of (first, last, depth, parent): the first ``depth`` tokens of sorted rows [first, last) are in
    # the nodes from a root down to ``parent`` already.
    stack = [(first, last, 0, -1) for first, last in _groups(shared, 0, len(order), 0)][::-1]
    while stack:
        first, last, depth, parent = stack.pop()
        row = order[first]
        stop = len(sequences[row]) if last - first == 1 else int(shared[first + 1 : last].min())
        node = add(parent, row, depth, stop) if stop > depth else parent
        for member in range(first, last):
            if len(sequences[order[member]]) == stop:
                ends[order[member]] = node
        if last - first > 1:
            groups = _groups(shared, first, last, stop)
            stack += [(low, high, stop, node) for low, high in groups][::-1]
    for row, other in twins.items():
        ends[row] = ends[other]
    offsets = np.cumsum([0, *(node.size for node in nodes)], dtype=np.int64)[:-1]
    return Trie(nodes, paths, ends, offsets)


def cut(sequences: Sequence[Ids], budget: int) -> Iterator[list[int]]:
    """Indices of ``sequences`` in packs of at most ``budget`` trie tokens, neighbours in the trie together.

    A single sequence may exceed the budget. Every index comes exactly once.

    Example:
        >>> list(cut([[1, 2, 3, 4, 5], [9, 8], [1, 2, 3, 4, 6]], budget=9))
        [[0, 2], [1]]
    """
    order, shared = _sorted(sequences)
    # A branch may stand up to SHORTEST_SHARED - 1 tokens above the point where two sequences part.
    common = {i: max(0, int(n) - SHORTEST_SHARED + 1) for i, n in zip(order, shared, strict=True)}
    yield from _packs(order, lambda i: len(sequences[i]), lambda _, i: common[i], budget)


def cut_groups(groups: Sequence[Sequence[Ids]], budget: int) -> Iterator[list[int]]:
    """Indices of ``groups`` of sequences in packs of at most ``budget`` trie tokens; a group stays whole.

    Groups that begin alike come together. A single group may exceed the budget. Tokens are counted from
    above: a group is taken to share what its first sequence has in common with one of the group before it.

    Example:
        >>> one, two = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]], [[9, 8], [9, 7]]
        >>> list(cut_groups([one, two, one], budget=16)), list(cut_groups([one, two, one], budget=20))
        ([[0, 2], [1]], [[0, 2, 1]])
    """
    arrays = [[np.asarray(sequence, dtype=">u4") for sequence in group] for group in groups]
    keys = [[array.tobytes() for array in group] for group in arrays]
    arrays = [_in_order(group, own) for group, own in zip(arrays, keys, strict=True)]

    def alone(index: int) -> int:
        first, *rest = arrays[index]
        return len(first) + sum(len(two) - _saved(one, two) for one, two in pairwise([first, *rest]))

    def shared(before: int, index: int) -> int:
        return max(_saved(other, arrays[index][0]) for other in arrays[before])

    yield from _packs(sorted(range(len(groups)), key=lambda i: min(keys[i])), alone, shared, budget)


def _packs(
    order: Iterable[int], alone: Callable[[int], int], shared: Callable[[int, int], int], budget: int
) -> Iterator[list[int]]:
    """Indices, in their order, in packs of at most ``budget`` tokens or of one.

    Args:
        alone: tokens of one by itself.
        shared: tokens that the second of two neighbours in a pack need not read again.
    """
    pack: list[int] = []
    tokens = 0
    for index in order:
        own = alone(index)
        new = own - (shared(pack[-1], index) if pack else 0)
        if pack and tokens + new > budget:
            yield pack
            pack, tokens, new = [], 0, own
        tokens += new
        pack.append(index)
    if pack:
        yield pack


def _sorted(sequences: Sequence[Ids]) -> tuple[list[int], Places]:
    """Indices in lexicographic order, and how many first tokens each shares with the one before it."""
    arrays = [np.asarray(sequence, dtype=">u4") for sequence in sequences]
    keys = [array.tobytes() for array in arrays]  # big-endian: bytes sort as the numbers do
    order = sorted(range(len(sequences)), key=lambda index: keys[index])
    shared = np.zeros(len(order), dtype=np.int64)
    for place in range(1, len(order)):
        shared[place] = _common(arrays[order[place - 1]], arrays[order[place]])
    return order, shared


def _saved(one: Words, two: Words) -> int:
    """Tokens of ``two`` that are surely not read again beside ``one``."""
    # A branch may stand up to SHORTEST_SHARED - 1 tokens above the point where two sequences part.
    return max(0, _common(one, two) - SHORTEST_SHARED + 1)


def _in_order(group: list[Words], keys: list[bytes]) -> list[Words]:
    return [group[place] for place in sorted(range(len(group)), key=keys.__getitem__)]


def _common(one: Words, two: Words) -> int:
    """How many first tokens two sequences share."""
    length = min(len(one), len(two))
    differences = one[:length] != two[:length]  # (length,)
    first = int(differences.argmax()) if length else 0
    return first if length and differences[first] else length


def _groups(shared: Places, first: int, last: int, depth: int) -> Iterator[tuple[int, int]]:
    """Splits sorted rows [first, last) where neighbours share too little beyond ``depth``."""
    cuts = np.flatnonzero(shared[first + 1 : last] < depth + SHORTEST_SHARED) + first + 1
    bounds = [first, *cuts.tolist(), last]
    yield from pairwise(bounds)
