"""Folds: questions stay whole, whatever rows share groups and prompts."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gram import Pair, Preference
from gram.data import folds, questions

ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["", "", "g", "h", "i", "j"])), min_size=1, max_size=40
)


def rows_of(drawn: list[tuple[int, str]]) -> list[Preference]:
    return [
        Preference(Pair(f"prompt {prompt}", f"a {n}", f"b {n}"), float(n % 2), group=group)
        for n, (prompt, group) in enumerate(drawn)
    ]


@given(ROWS, st.integers(2, 6))
def test_no_group_and_no_prompt_without_a_group_is_on_both_sides(
    drawn: list[tuple[int, str]], count: int
) -> None:
    rows = rows_of(drawn)
    fold = folds(rows, count)
    for k in range(count):
        inside = [row for row, f in zip(rows, fold, strict=True) if f == k]
        outside = [row for row, f in zip(rows, fold, strict=True) if f != k]
        assert not {row.group for row in inside if row.group} & {row.group for row in outside}
        bare = {row.pair.prompt for row in inside if not row.group}
        assert not bare & {row.pair.prompt for row in outside if not row.group}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(2, 6))
def test_without_groups_no_prompt_is_on_both_sides(prompts: list[int], count: int) -> None:
    rows = rows_of([(prompt, "") for prompt in prompts])
    homes = Counter(row.pair.prompt for row in rows)
    fold = folds(rows, count)
    assert len({(row.pair.prompt, int(f)) for row, f in zip(rows, fold, strict=True)}) == len(homes)


@given(ROWS, st.integers(2, 6))
def test_labels_and_the_order_of_the_answers_have_no_part(drawn: list[tuple[int, str]], count: int) -> None:
    rows = rows_of(drawn)
    assert np.array_equal(folds(rows, count), folds([row.swapped() for row in rows], count))


def test_equal_questions_fill_folds_evenly() -> None:
    """23 questions over 5 folds: three folds of 5 and two of 4."""
    assert sorted(Counter(folds(rows_of([(n, "") for n in range(23)]), 5).tolist()).values()) == [
        4,
        4,
        5,
        5,
        5,
    ]


def test_fewer_questions_than_folds_make_fewer_folds() -> None:
    assert set(folds(rows_of([(0, ""), (1, ""), (0, "")]), 5).tolist()) == {0, 1}


def test_a_row_without_a_group_joins_that_of_its_prompt() -> None:
    """A constant prompt under several groups is several questions."""
    rows = rows_of([(0, "g"), (0, ""), (1, ""), (0, "h"), (2, "g")])
    assert questions(rows).tolist() == [0, 0, 1, 2, 0]


def test_more_folds_than_questions_are_one_for_each() -> None:
    """At once, however many are asked for: the empty ones are not counted through."""
    rows = [Preference(Pair(f"Question {k % 3}?", "Yes.", "No."), 1.0) for k in range(9)]
    assert folds(rows, 2**31 - 1).tolist() == folds(rows, 3).tolist()
    assert len(set(folds(rows, 2**31 - 1).tolist())) == 3
