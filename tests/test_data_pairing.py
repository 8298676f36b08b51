"""Unlabeled pairs depend on the seed and the texts, never on the order the texts came in."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gram.data import pairs_of
from gram.types import Contest, ResponsePair, as_chat

PROMPT = as_chat("Why?")
TEXTS = st.lists(st.sampled_from(["a", "b", " b", "c", "d", "e"]), min_size=1, max_size=7)


def contest(*responses: str, name: str = "") -> Contest:
    return Contest(PROMPT, responses, name)


def both(pair: ResponsePair) -> frozenset[str]:
    return frozenset((pair.first.strip(), pair.second.strip()))


@given(TEXTS, st.integers(1, 20), st.integers(0, 5))
def test_laws(texts: list[str], count: int, seed: int) -> None:
    """min(count, n(n-1)/2) different unordered pairs of the n different texts, whatever their order."""
    pairs = pairs_of(contest(*texts), count, seed)
    n = len({text.strip() for text in texts})
    assert len(pairs) == min(count, n * (n - 1) // 2)
    assert all(len(both(pair)) == 2 for pair in pairs)
    assert len({both(pair) for pair in pairs}) == len(pairs)
    assert pairs_of(contest(*reversed(texts)), count, seed) == pairs


def test_every_ordered_pair_comes_up_equally_often() -> None:
    """Of 3 texts there are 6 ordered pairs: over 3000 seeds each is drawn 500 times, give or take 4 sigma
    (sigma = sqrt(3000 * 1/6 * 5/6) = 20.4)."""
    drawn = Counter()
    for seed in range(3000):
        (pair,) = pairs_of(contest("a", "b", "c"), 1, seed)
        drawn[pair.first, pair.second] += 1
    assert len(drawn) == 6
    assert all(abs(times - 500) < 82 for times in drawn.values())


def test_ids() -> None:
    assert [pair.id for pair in pairs_of(contest("a", "b", "c", name="q"), 2)] == ["q#0", "q#1"]
    assert [pair.id for pair in pairs_of(contest("a", "b", name="q"), 2)] == ["q"]
    assert [pair.id for pair in pairs_of(contest("a", "b", "c"), 2)] == ["", ""]
