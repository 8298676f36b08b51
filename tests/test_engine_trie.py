"""The token trie: whatever it shares, every row is read exactly as it is."""

from __future__ import annotations

from itertools import combinations, groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gram.engine import trie
from gram.engine.trie import SHORTEST_SHARED, Node

Rows = list[list[int]]

# Rows of a few runs of equal tokens: they part anywhere, begin one another, and are equal now and then.
RUN = st.tuples(st.integers(0, 2), st.integers(1, 45))
ROW = st.lists(RUN, min_size=1, max_size=3).map(lambda runs: [token for token, n in runs for _ in range(n)])
ROWS = st.lists(ROW, min_size=1, max_size=10)


def packed(rows: Rows, tree: trie.Trie) -> list[int]:
    """The tokens as they stand for the forward pass."""
    return [token for node in tree.nodes for token in rows[node.row][node.start : node.stop]]


def common(one: list[int], two: list[int]) -> int:
    """How many first tokens are equal, counted one by one."""
    count = 0
    while count < min(len(one), len(two)) and one[count] == two[count]:
        count += 1
    return count


# By hand: a prompt of 20 tokens; two answers that part after 18 more; one short answer; the prompt itself.
PROMPT = [1] * 20
BY_HAND = [PROMPT + [2] * 18 + [3], PROMPT + [2] * 18 + [4, 4], [9], [*PROMPT, 5], PROMPT]


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers by hand are for runs of 16 tokens or more; how many are best is a matter of speed."""
    monkeypatch.setattr(trie, "SHORTEST_SHARED", 16)


def test_by_hand(sixteen: None) -> None:
    """In lexicographic order: the prompt, the answers 2..23 and 2..244, 5, and 9 alone.

    Shared are the prompt (20 tokens), and by the first two answers 18 more; 20 + 18 + 1 + 2 + 1 + 1 = 43
    tokens are read instead of 39 + 40 + 1 + 21 + 20 = 121.
    """
    tree = trie.build(BY_HAND)
    assert [(node.parent, node.start, node.stop) for node in tree.nodes] == [
        (-1, 0, 20),
        (0, 20, 38),
        (1, 38, 39),
        (1, 38, 40),
        (0, 20, 21),
        (-1, 0, 1),
    ]
    assert tree.paths == [(0,), (0, 1), (0, 1, 2), (0, 1, 3), (0, 4), (5,)]
    assert tree.ends == [2, 3, 5, 4, 0]
    assert tree.offsets.tolist() == [0, 20, 38, 39, 41, 42]
    assert tree.tokens == 43
    assert packed(BY_HAND, tree) == [*[1] * 20, *[2] * 18, 3, 4, 4, 5, 9]
    assert tree.place(1, np.array([0, 19, 20, 37, 38, 39])).tolist() == [0, 19, 20, 37, 39, 40]
    assert tree.place(3, np.array([19, 20])).tolist() == [19, 41]
    assert tree.place(4, np.array([19])).tolist() == [19]
    assert tree.place(0, np.array([], dtype=np.int64)).tolist() == []


def test_cuts_by_hand(sixteen: None) -> None:
    """The prompt (20), the answers of 39, 40 and 21 tokens, and 1; a branch is paid for from 15 tokens above.

    So the answers add at most 39 - 5 = 34, 40 - 23 = 17 and 21 - 5 = 16, and all five 20 + 34 + 17 + 16 + 1.
    """
    assert list(trie.cut(BY_HAND, 88)) == [[4, 0, 1, 3, 2]]
    assert list(trie.cut(BY_HAND, 87)) == [[4, 0, 1, 3], [2]]
    assert list(trie.cut(BY_HAND, 54)) == [[4, 0], [1], [3, 2]]
    assert list(trie.cut(BY_HAND, 1)) == [[4], [0], [1], [3], [2]]
    assert list(trie.cut([], 10)) == []


@pytest.mark.parametrize(("length", "nodes"), [(SHORTEST_SHARED - 1, 2), (SHORTEST_SHARED, 3)])
def test_short_runs_are_not_worth_a_node(length: int, nodes: int) -> None:
    assert len(trie.build([[7] * length + [1], [7] * length + [2]]).nodes) == nodes


def test_large_token_ids_and_arrays() -> None:
    """Ids are compared as numbers of 32 bits, not by their lower bytes."""
    rows: list[Any] = [
        np.array([65_536 + 5] * 20 + [256]),
        np.array([5] * 20 + [256]),
        np.array([65_536 + 5] * 20 + [1]),
    ]
    tree = trie.build(rows)
    assert tree.tokens == 20 + 1 + 1 + 21
    assert list(trie.cut(rows, 10**6)) == [[1, 2, 0]]


@given(ROWS)
def test_every_row_is_its_path(rows: Rows) -> None:
    """The runs from the root to the end of a row, one behind the other, are the row; and so by its places."""
    tree = trie.build(rows)
    tokens = np.array(packed(rows, tree))
    for number, row in enumerate(rows):
        nodes = [tree.nodes[index] for index in tree.paths[tree.ends[number]]]
        assert [token for node in nodes for token in rows[node.row][node.start : node.stop]] == row
        places = tree.place(number, np.arange(len(row)))
        assert tokens[places].tolist() == row
        assert len(set(places.tolist())) == len(row)


@given(ROWS)
def test_the_nodes_are_a_packed_forest_in_depth_first_order(rows: Rows) -> None:
    """Children begin where parents stop, stand behind them, and what is below a node is one interval."""
    tree = trie.build(rows)
    for index, node in enumerate(tree.nodes):
        assert 0 <= node.start < node.stop <= len(rows[node.row])
        assert node.parent < index
        above = () if node.parent < 0 else tree.paths[node.parent]
        assert tree.paths[index] == (*above, index)
        assert node.start == (0 if node.parent < 0 else tree.nodes[node.parent].stop)
        below = [other for other, path in enumerate(tree.paths) if index in path]
        assert below == list(range(index, index + len(below)))
    sizes = [node.size for node in tree.nodes]
    assert tree.offsets.tolist() == [sum(sizes[:index]) for index in range(len(sizes))]
    assert tree.tokens == sum(sizes) <= sum(map(len, rows))
    assert {index for end in tree.ends for index in tree.paths[end]} == set(range(len(tree.nodes)))


@given(ROWS)
def test_what_is_shared(rows: Rows) -> None:
    """Two rows share places only where their tokens are equal, and nearly all of what they can: a branch
    may stand up to ``SHORTEST_SHARED - 1`` tokens above the point where they part.

    Different rows never share a node shorter than ``SHORTEST_SHARED``.
    """
    tree = trie.build(rows)
    readers: dict[int, set[tuple[int, ...]]] = {index: set() for index in range(len(tree.nodes))}
    for number, end in enumerate(tree.ends):
        for index in tree.paths[end]:
            readers[index].add(tuple(rows[number]))
    for index, found in readers.items():
        assert len(found) == 1 or tree.nodes[index].size >= SHORTEST_SHARED
    places = [tree.place(number, np.arange(len(row))) for number, row in enumerate(rows)]
    for one, two in combinations(range(len(rows)), 2):
        shared = len(np.intersect1d(places[one], places[two]))
        most = common(rows[one], rows[two])
        assert most - SHORTEST_SHARED < shared <= most


@given(ROWS)
def test_equal_rows_end_in_one_node(rows: Rows) -> None:
    """Short ones too: they cost nothing."""
    rows = [*rows, *rows]
    tree = trie.build(rows)
    assert tree.ends[: len(rows) // 2] == tree.ends[len(rows) // 2 :]


def test_a_row_that_begins_another_ends_inside_its_path() -> None:
    tree = trie.build([[4] * 30, [4] * 50, [4] * 50 + [5] * 3])
    assert tree.nodes == [Node(-1, 0, 0, 30), Node(0, 1, 30, 50), Node(1, 2, 50, 53)]
    assert tree.ends == [0, 1, 2]


@given(ROWS, st.integers(1, 400))
def test_cuts_hold_every_row_once_within_the_budget(rows: Rows, budget: int) -> None:
    """In lexicographic order, so that rows that share stay neighbours; one row alone may be too long."""
    packs = list(trie.cut(rows, budget))
    order = [index for pack in packs for index in pack]
    assert sorted(order) == list(range(len(rows)))
    assert [rows[index] for index in order] == sorted(rows)
    for pack in packs:
        assert len(pack) == 1 or trie.build([rows[index] for index in pack]).tokens <= budget


@given(ROWS)
def test_cuts_are_no_smaller_than_they_must_be(rows: Rows) -> None:
    """With room for the whole trie, and for what may stand above the branch of each row, nothing is cut."""
    budget = trie.build(rows).tokens + (SHORTEST_SHARED - 1) * len(rows)
    assert len(list(trie.cut(rows, budget))) == 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_rows_without_anything_in_common_are_roots(lengths: list[int]) -> None:
    rows = [[number] * length for number, length in enumerate(lengths)]
    tree = trie.build(rows)
    assert [node.parent for node in tree.nodes] == [-1] * len(rows)
    assert [len(list(group)) for _, group in groupby(packed(rows, tree))] == lengths
