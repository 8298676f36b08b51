"""Schedules with matrices of probabilities: the right order, the promised cost, no place favoured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gram.ranking.schedules import SCHEDULES, Meeting, knockout, linear, merge, round_robin, swiss
from gram.types import FloatArray, sigmoid

ALL = sorted(SCHEDULES)
SORTS = ("round_robin", "merge")  # these need only know who wins, not by how much

sizes = st.integers(1, 17)
seeds = st.integers(0, 10_000)


def play(name: str, p: FloatArray, seed: int = 0) -> tuple[list[int], list[list[Meeting]]]:
    """The order, and the comparisons asked per round, when i beats j with probability p[i, j]."""
    schedule, rounds = SCHEDULES[name](len(p), np.random.default_rng(seed)), []
    try:
        wanted = next(schedule)
        while True:
            rounds.append(wanted)
            wanted = schedule.send(np.array([p[m] for m in wanted]))
    except StopIteration as end:
        return end.value, rounds


def strengths_of(n: int, seed: int) -> FloatArray:
    """Distinct strengths in random order, 0.3 to 0.8 apart."""
    rng = np.random.default_rng([n, seed])
    return rng.permutation(np.cumsum(rng.uniform(0.3, 0.8, size=n)))


def oracle(strengths: FloatArray) -> FloatArray:
    return sigmoid(strengths[:, None] - strengths[None, :])


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None)
@given(n=sizes, seed=seeds)
def test_a_noise_free_oracle_gives_the_right_order(name: str, n: int, seed: int) -> None:
    """The oracle answers with the true Bradley-Terry probabilities: even n-1 answers order all candidates."""
    strengths = strengths_of(n, seed)
    order, _ = play(name, oracle(strengths), seed)
    assert order == [int(i) for i in np.argsort(-strengths)]


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None)
@given(n=sizes, seed=seeds)
def test_an_oracle_that_only_says_who_wins_gives_the_right_winner(name: str, n: int, seed: int) -> None:
    """With probabilities 0 and 1 the winner is right in every schedule, and the whole order in the sorts."""
    strengths = strengths_of(n, seed)
    p = (strengths[:, None] > strengths[None, :]) + 0.5 * np.eye(n)
    order, _ = play(name, p, seed)
    true = [int(i) for i in np.argsort(-strengths)]
    assert order[0] == true[0]
    assert sorted(order) == sorted(true)
    if name in SORTS:
        assert order == true


@given(n=sizes, seed=seeds)
def test_costs(n: int, seed: int) -> None:
    """Comparisons (and rounds): round robin n(n-1)/2 (1), linear and knockout n-1 (n-1 and ceil(log2 n)),
    merge at most n ceil(log2 n) - 2^ceil(log2 n) + 1, swiss at most floor(n/2) in each of ceil(log2 n) + 1.
    """
    levels = math.ceil(math.log2(n))
    p = oracle(strengths_of(n, seed))
    asked = {name: play(name, p, seed)[1] for name in ALL}
    cost = {name: sum(map(len, rounds)) for name, rounds in asked.items()}
    assert cost["round_robin"] == n * (n - 1) // 2
    assert len(asked["round_robin"]) == min(1, n - 1)
    assert cost["linear"] == len(asked["linear"]) == n - 1
    assert (cost["knockout"], len(asked["knockout"])) == (n - 1, levels)
    assert cost["merge"] <= n * levels - 2**levels + 1
    assert cost["swiss"] <= (levels + 1) * (n // 2)
    assert len(asked["swiss"]) <= levels + (n > 1)


@pytest.mark.parametrize("name", ALL)
@given(n=sizes, seed=seeds)
def test_nobody_meets_twice_or_plays_two_games_at_once(name: str, n: int, seed: int) -> None:
    _, rounds = play(name, oracle(strengths_of(n, seed)), seed)
    pairs = [frozenset(pair) for pairs in rounds for pair in pairs]
    assert len(pairs) == len(set(pairs)) and all(len(pair) == 2 for pair in pairs)
    if name != "round_robin":
        assert all(len({i for pair in pairs for i in pair}) == 2 * len(pairs) for pairs in rounds)


def test_a_scan_places_the_beaten_by_their_log_odds() -> None:
    """Log-odds ln 2, ln 4 and ln 8 against the best: p = 2/3, 4/5 and 8/9."""
    strengths = np.array([0.0, -3.0, -1.0, -2.0]) * math.log(2)
    for make in (linear, knockout):
        name = make.__name__
        assert play(name, oracle(strengths))[0] == [0, 2, 3, 1]


def test_certain_results_are_finite() -> None:
    p = np.array([[0.5, 1, 1], [0, 0.5, 1], [0, 0, 0.5]])
    for name in ALL:
        assert play(name, p)[0][0] == 0


def test_rounding_breaks_no_tie() -> None:
    """On a wheel of five everyone beats the next with 0.05 and the second next with 0.3: all win
    0.05 + 0.3 + 0.7 + 0.95 = 2 games, but sums in another order differ in the last bit."""
    chance = {0: 0.5, 1: 0.05, 2: 0.3, 3: 0.7, 4: 0.95}
    p = np.array([[chance[(j - i) % 5] for j in range(5)] for i in range(5)])
    assert play("round_robin", p)[0] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n", [4, 5, 8, 9])
def test_the_tournament_gives_everyone_a_game_per_round(n: int) -> None:
    """Its comparisons, cut into rounds of floor(n/2), hold nobody twice."""
    [meetings] = play("round_robin", oracle(strengths_of(n, 0)))[1]
    half = n // 2
    for start in range(0, len(meetings), half):
        players = [i for pair in meetings[start : start + half] for i in pair]
        assert len(set(players)) == 2 * half
    firsts = np.bincount([i for i, _ in meetings], minlength=n)
    assert firsts.max() - firsts.min() <= 2


def test_swiss_plays_the_leaders_against_each_other() -> None:
    """Eight hard-separated candidates: one undefeated after three rounds, so round three is a final."""
    p = (np.arange(8)[:, None] < np.arange(8)[None, :]) + 0.5 * np.eye(8)
    schedule = swiss(8, np.random.default_rng(3))
    losses = np.zeros(8)
    wanted = next(schedule)
    for left in (4, 2, 1):
        for i, j in wanted:
            losses[max(i, j)] += 1
        assert np.sum(losses == 0) == left
        wanted = schedule.send(np.array([p[m] for m in wanted]))


def test_first_places_are_drawn() -> None:
    """Over seeds every candidate is the first of a scan, of a bracket and of a merge."""
    for make in (linear, knockout, merge, round_robin):
        firsts = {next(make(4, np.random.default_rng(seed)))[0][0] for seed in range(60)}
        assert firsts == {0, 1, 2, 3}
