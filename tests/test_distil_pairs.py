"""Which pairs a teacher is asked about: all of a prompt's answers, but not where these are many."""

from __future__ import annotations

import pytest

from gram.training.distil import MOST_PAIRS, pairs_of
from gram.types import Pair, Preference


@pytest.mark.parametrize(("rows", "wanted"), [(3, 15), (8, 120), (9, 120), (60, 120), (61, 121), (200, 399)])
def test_a_prompt_with_many_answers_has_few_pairs(rows: int, wanted: int) -> None:
    """n times two new answers in two rows, of which the first two are one pair: 2n - 1 pairs of rows.

    Up to 16 answers, all pairs; more have 120 of them, or those of their rows where these are more.
    """
    made = []
    for k in range(rows):
        one, other, earlier = f"a{k}", f"b{k}", f"a{max(0, k - 1)}"
        made += [Preference(Pair("", one, other), 1.0), Preference(Pair("", other, earlier), 0.0)]
    pairs, groups = pairs_of(made)
    told = {frozenset((pair.a, pair.b)) for pair in pairs}
    assert len(told) == len(pairs) == len(groups) == wanted and all(len(pair) == 2 for pair in told)
    assert {frozenset((row.pair.a, row.pair.b)) for row in made} <= told
    assert pairs_of(made) == (pairs, groups)


def test_equal_answers_are_no_pair() -> None:
    """20 rows: one answer beside itself, and beside 19 others: 20 answers, whose pairs are capped at 120."""
    rows = [Preference(Pair("?", "same", "same" if k == 0 else str(k)), 1.0) for k in range(20)]
    pairs, _ = pairs_of(rows)
    assert len(pairs) <= MOST_PAIRS and all(pair.a != pair.b for pair in pairs)
    assert pairs_of(rows[:1]) == ([], [])


def test_pairs_of_prompts_stand_apart() -> None:
    """Another prompt with the same answers has its own pairs, and its own group."""
    rows = [Preference(Pair(text, "yes", "no"), 1.0, group=text) for text in ("one", "two", "one")]
    pairs, groups = pairs_of(rows)
    assert pairs == [Pair("one", "yes", "no"), Pair("two", "yes", "no")] and groups == ["one", "two"]
