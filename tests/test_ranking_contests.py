"""Ranking with oracles: right order, right cost, and nothing that depends on the company."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gram.errors import ConfigError, DataError, ScoringError
from gram.ranking import SCHEDULES, best_of_n, rank, rank_many
from gram.types import Contest, Message, Pair, Verdicts, as_chat

ALL = sorted(SCHEDULES)


class Oracle:
    """Answers are numbers; log-odds is their difference. Counts what it is asked."""

    def __init__(self) -> None:
        self.calls: list[list[Pair]] = []

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        self.calls.append(list(pairs))
        odds = np.array([[float(p.a) - float(p.b)] * 2 for p in pairs]).reshape(-1, 2)
        return Verdicts(odds, np.ones_like(odds))

    @property
    def asked(self) -> list[Pair]:
        return [pair for call in self.calls for pair in call]


class Noisy:
    """Any opinion, even an intransitive one, but the same about (a, b) as about (b, a)."""

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        odds = []
        for pair in pairs:
            low, high = sorted((pair.a, pair.b))
            seed = [*f"{low}|{high}|{pair.prompt[0].content}".encode()]
            value = float(np.random.default_rng(seed).normal()) * (1 if pair.a == low else -1)
            odds.append((value, value))
        return Verdicts(np.array(odds).reshape(-1, 2), np.ones((len(pairs), 2)))


class Silent:
    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        return Verdicts(np.full((len(pairs), 2), np.nan), np.ones((len(pairs), 2)))


def answers(values: Sequence[float]) -> list[str]:
    return [repr(float(value)) for value in values]


distinct = st.lists(st.integers(-9, 9), min_size=1, max_size=8, unique=True)


@pytest.mark.parametrize("schedule", ALL)
@given(values=distinct)
def test_an_oracle_without_noise_gives_the_true_order(schedule: str, values: list[int]) -> None:
    model = Oracle()
    got = rank(model, "q", answers(values), schedule)
    assert got.order == sorted(range(len(values)), key=lambda i: -values[i])
    assert best_of_n(model, "q", answers(values)) == int(np.argmax(values))


class Winners:
    """Names the larger number in every pair, with a probability that tells nothing else."""

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        odds = np.abs(Noisy().compare(pairs).log_odds) + 0.01
        return Verdicts(odds * np.sign(Oracle().compare(pairs).log_odds), np.ones_like(odds))


@given(values=distinct)
def test_what_needs_no_right_probabilities(values: list[int]) -> None:
    """Of a judge that always names the better one: the winner of two schedules, and the order of one."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    for schedule in ("linear", "knockout"):
        assert rank(Winners(), "q", answers(values), schedule).order[0] == order[0]
    assert rank(Winners(), "q", answers(values), "merge").order == order


def test_a_round_robin_needs_right_probabilities() -> None:
    """a beats b and c with 0.51 each, b beats c with 0.99. Wins: a 0.51, b (0.49 + 0.99) / 2 = 0.74."""
    p = {("a", "b"): 0.51, ("a", "c"): 0.51, ("b", "c"): 0.99}

    class Narrow:
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            p_a = np.array([p.get((one.a, one.b), 1 - p.get((one.b, one.a), 0.0)) for one in pairs])
            return Verdicts(np.repeat(np.log(p_a / (1 - p_a))[:, None], 2, axis=1), np.ones((len(pairs), 2)))

    got = rank(Narrow(), "q", ["a", "b", "c"])
    assert (got.order, got.wins[:2]) == ([1, 0, 2], pytest.approx([0.51, 0.74]))


@given(values=distinct)
def test_round_robin_asks_every_pair_once_in_one_call(values: list[int]) -> None:
    model = Oracle()
    n = len(values)
    got = rank(model, "q", answers(values))
    assert got.comparisons == len(model.asked) == n * (n - 1) // 2
    assert len({frozenset((pair.a, pair.b)) for pair in model.asked}) == got.comparisons
    assert len(model.calls) == (1 if n > 1 else 0)


def test_numbers_of_a_ranking_by_hand() -> None:
    """Log-odds ln 3 between neighbours, ln 9 between the ends: p = 3/4 and 9/10.

    wins: (3/4 + 9/10) / 2 = 0.825, (1/4 + 3/4) / 2 = 0.5, 0.175.
    """
    log3 = float(np.log(3))
    got = rank(Oracle(), "q", answers([0.0, log3, -log3]))
    assert got.order == [1, 0, 2]
    assert got.wins == pytest.approx([0.5, 0.825, 0.175])
    assert got.p == pytest.approx(np.array([[0.5, 0.25, 0.75], [0.75, 0.5, 0.9], [0.25, 0.1, 0.5]]))
    assert got.strengths == pytest.approx([0.0, log3, -log3], abs=0.05)
    assert got.stderr.shape == (3,)
    assert np.all(got.stderr > 0.5)


@settings(deadline=None)
@given(st.integers(2, 7), st.integers(0, 1000))
def test_permuting_the_candidates_permutes_the_ranking(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [f"answer {i}" for i in range(n)]
    turn = rng.permutation(n)
    got = rank(Noisy(), f"q{seed}", texts)
    turned = rank(Noisy(), f"q{seed}", [texts[i] for i in turn])
    assert [int(turn[i]) for i in turned.order] == got.order
    assert turned.strengths == pytest.approx(got.strengths[turn], abs=1e-7)
    assert turned.wins == pytest.approx(got.wins[turn])


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_round_robin_order_is_that_of_the_strengths(n: int, seed: int) -> None:
    """Ford (1957): when all meet all, strengths and wins give one order, intransitive opinions or not."""
    got = rank(Noisy(), f"q{seed}", [f"answer {i}" for i in range(n)])
    assert np.all(np.diff(got.strengths[got.order]) < 0)
    assert np.all(np.diff(got.wins[got.order]) < 0)


@pytest.mark.parametrize("schedule", ALL)
def test_lockstep_is_one_by_one(schedule: str) -> None:
    contests = [
        Contest(as_chat(f"q{k}"), tuple(f"answer {k} {i}" for i in range(size)), f"c{k}")
        for k, size in enumerate([4, 1, 6, 2, 3])
    ]
    together = rank_many(Noisy(), contests, schedule)
    for contest, got in zip(contests, together, strict=True):
        alone = rank(Noisy(), contest.prompt, contest.responses, schedule)
        assert (got.order, got.comparisons) == (alone.order, alone.comparisons)
        assert np.array_equal(got.p, alone.p, equal_nan=True)
        assert np.array_equal(got.strengths, alone.strengths)
    assert rank_many(Noisy(), [], schedule) == []


def test_all_contests_share_a_call() -> None:
    model = Oracle()
    contests = [Contest(as_chat("q"), tuple(answers(range(n)))) for n in (3, 5, 1, 4)]
    rank_many(model, contests)
    assert [len(call) for call in model.calls] == [3 + 10 + 6]


def test_equal_answers_tie_and_are_asked_about_once() -> None:
    """Four candidates, two of them equal: C(3, 2) pairs of different texts instead of C(4, 2)."""
    model = Oracle()
    got = rank(model, "q", answers([1, 5, 1, 3]))
    assert got.comparisons == len(model.asked) == 3
    assert got.ties == 0 and got.cyclic == 0
    assert got.order == [1, 3, 0, 2]
    assert got.p[0, 2] == got.p[2, 0] == 0.5
    assert np.array_equal(got.p[0, [1, 3]], got.p[2, [1, 3]])
    assert got.strengths[0] == pytest.approx(got.strengths[2])
    same = rank(model, "q", ["x", "x", "x"])
    assert (same.order, same.comparisons, list(same.wins)) == ([0, 1, 2], 0, [0.5, 0.5, 0.5])


@settings(deadline=None)
@pytest.mark.parametrize("schedule", ALL)
@given(
    copies=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    seed=st.integers(0, 99),
    budget=st.none() | st.integers(1, 9),
)
def test_copies_get_what_their_text_gets_alone(
    schedule: str, copies: list[int], seed: int, budget: int | None
) -> None:
    """Whatever the opinion: the ranking is that of the different texts, in the order of their first copies.

    Copies stand together, the first in front; only the probability of being the best is shared.
    """
    texts = [f"answer {copy}" for copy in copies]
    different = list(dict.fromkeys(texts))
    got = rank(Noisy(), f"q{seed}", texts, schedule, seed=seed, budget=budget)
    alone = rank(Noisy(), f"q{seed}", different, schedule, seed=seed, budget=budget)
    places = [different.index(text) for text in texts]
    assert got.order == [i for k in alone.order for i, place in enumerate(places) if place == k]
    for name in ("strengths", "stderr", "wins"):
        assert np.array_equal(getattr(got, name), getattr(alone, name)[places])
    assert got.p_best == pytest.approx([alone.p_best[k] / places.count(k) for k in places])
    assert np.array_equal(got.p, alone.p[np.ix_(places, places)], equal_nan=True)
    for name in ("comparisons", "ties", "cyclic", "position_gap"):
        assert getattr(got, name) == pytest.approx(getattr(alone, name), nan_ok=True)


def test_copies_are_no_further_games_by_hand() -> None:
    """4 x and 4 y, log-odds 2: one comparison, p = sigmoid(2) = 0.880797, whose strengths are those of two.

    With the prior's gradient 0.01 s = p - sigmoid(2 s): s = 0.956; the curvature is 2 q (1 - q) + 0.01 in
    the direction (1, -1) with q = sigmoid(2 s) = 0.871246: 0.234352, so that the standard error of both is
    sqrt(0.5 / 0.234352) = 1.4607. Sixteen games would give errors of a quarter of the size.
    """
    got = rank(Oracle(), "q", answers([2.0] * 4 + [0.0] * 4))
    assert got.comparisons == 1 and got.order == list(range(8))
    assert got.wins == pytest.approx([0.880797] * 4 + [0.119203] * 4, abs=1e-6)
    assert got.strengths == pytest.approx([0.956] * 4 + [-0.956] * 4, abs=1e-3)
    assert got.stderr == pytest.approx([1.4607] * 8, abs=1e-3)
    two = rank(Oracle(), "q", answers([2.0, 0.0]))
    assert got.p_best == pytest.approx(np.repeat(two.p_best, 4) / 4)


def test_a_verdict_that_is_missing_names_the_candidates_of_the_contest() -> None:
    with pytest.raises(ScoringError, match=r"candidates (0 and 3|3 and 0) of contest number 1"):
        rank(Silent(), "q", ["1", "1", "1", "2"])


def test_ties_go_to_the_first_index() -> None:
    class Undecided:
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            x = np.linspace(0.1, 3.0, len(pairs))
            return Verdicts(np.stack([x, -x], axis=1), np.ones((len(pairs), 2)))

    for schedule in ALL:
        got = rank(Undecided(), "q", list("edcba"), schedule)
        assert (got.order, got.ties) == ([0, 1, 2, 3, 4], got.comparisons)
    assert best_of_n(Undecided(), "q", list("edcba")) == 0


def test_one_candidate() -> None:
    model = Oracle()
    got = rank(model, "q", ["only"])
    assert (got.order, got.comparisons, list(got.strengths)) == ([0], 0, [0.0])
    assert (list(got.stderr), list(got.wins), got.p.tolist()) == ([0.0], [0.5], [[0.5]])
    assert (list(got.p_best), got.ties) == ([1.0], 0)
    assert np.isnan(got.cyclic) and np.isnan(got.position_gap)
    assert model.calls == []
    assert best_of_n(model, "q", ["only"]) == 0


def test_a_prompt_may_be_messages() -> None:
    model = Oracle()
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}]
    rank(model, turns, answers([1, 2]))
    assert model.asked[0].prompt == (Message("system", "be brief"), Message("user", "q"))


def test_clear_errors() -> None:
    with pytest.raises(DataError, match="contest number 1 has no candidates"):
        rank(Oracle(), "q", [])
    with pytest.raises(DataError, match="contest c7 has no candidates"):
        rank_many(Oracle(), [Contest(as_chat("q"), (), "c7")])
    with pytest.raises(ConfigError, match="no schedule 'swis'; there is: round_robin, linear, knockout"):
        rank(Oracle(), "q", ["1", "2"], "swis")
    with pytest.raises(ConfigError, match="budget must be at least 1"):
        rank(Oracle(), "q", ["1", "2"], budget=0)
    with pytest.raises(ConfigError, match="no schedule"):
        rank(Oracle(), "q", ["1", "2"], ["merge"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed must be at least 0 and at most 4294967295, got 4294967296"):
        rank(Oracle(), "q", ["1", "2"], seed=2**32)
    assert rank(Oracle(), "q", ["1", "2"], seed=2**32 - 1).order == [1, 0]  # as far as the option goes
    with pytest.raises(ScoringError, match=r"candidates \d and \d of contest number 1"):
        rank(Silent(), "q", ["1", "2"])


def test_a_missing_verdict_is_an_error() -> None:
    class Short:
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            return Oracle().compare(pairs[1:])

    with pytest.raises(ScoringError, match="2 verdicts on 3 pairs"):
        rank(Short(), "q", answers([1, 2, 3]))


def test_a_schedule_asks_the_model_nothing_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that asks again, or the other way round, is served from memory."""

    def stubborn(n: int, rng: np.random.Generator):
        p = yield [(0, 1), (1, 0), (0, 1)]
        assert p == pytest.approx([p[0], 1 - p[0], p[0]])
        again = yield [(1, 0), (2, 0)]
        assert again[0] == pytest.approx(1 - p[0])
        assert n == 3
        return [0, 1, 2]

    monkeypatch.setattr("gram.ranking.driver.SCHEDULES", {"stubborn": stubborn})
    model = Oracle()
    got = rank(model, "q", answers([3, 2, 1]), "stubborn")
    assert [(pair.a, pair.b) for pair in model.asked] == [("3.0", "2.0"), ("1.0", "3.0")]
    assert got.comparisons == 2
    assert np.isnan(got.p[1, 2])
    assert got.wins[0] == pytest.approx((got.p[0, 1] + got.p[0, 2]) / 2)


def test_ties_cycles_and_the_position_gap_by_hand() -> None:
    """Rock, paper, scissors and a well that loses to all: one cyclic triple of four. On the well the two
    orders disagree with the scissors: log-odds 2 and -1 give a gap of 0.880797 - 0.268941 = 0.611856 and
    count as a tie; it is the mean of six gaps, the others 0.
    """
    beats = {
        ("rock", "scissors"),
        ("scissors", "paper"),
        ("paper", "rock"),
        ("rock", "well"),
        ("paper", "well"),
    }

    class Game:
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            odds = []
            for pair in pairs:
                if {pair.a, pair.b} == {"scissors", "well"}:
                    first = (2.0, -1.0)
                    odds.append(first if pair.a == "scissors" else (1.0, -2.0))
                else:
                    odds.append((2.0, 2.0) if (pair.a, pair.b) in beats else (-2.0, -2.0))
            return Verdicts(np.array(odds), np.ones((len(pairs), 2)))

    got = rank(Game(), "q", ["rock", "paper", "scissors", "well"])
    assert (got.ties, got.cyclic) == (1, 0.25)
    assert got.position_gap == pytest.approx(0.611856 / 6, abs=1e-6)
    assert got.order[-1] == 3
    assert got.p_best.sum() == pytest.approx(1) and got.p_best[3] == got.p_best.min()
    alone = rank(Game(), "q", ["rock", "well"])
    assert np.isnan(alone.cyclic)


@pytest.mark.parametrize("schedule", ALL)
@given(values=st.lists(st.integers(-9, 9), min_size=2, max_size=9, unique=True), budget=st.integers(1, 40))
def test_a_budget_is_kept_and_changes_nothing_where_it_suffices(
    schedule: str, values: list[int], budget: int
) -> None:
    model = Oracle()
    full = rank(Oracle(), "q", answers(values), schedule)
    got = rank(model, "q", answers(values), schedule, budget=budget)
    assert len(model.asked) == got.comparisons == min(budget, full.comparisons)
    assert sorted(got.order) == list(range(len(values)))
    if budget >= full.comparisons:
        assert got.order == full.order


def test_a_budget_of_round_robin_is_spread_over_the_candidates() -> None:
    """Six candidates, budget 9 of 15: three whole rounds of the tournament, so that all meet three others."""
    got = rank(Oracle(), "q", answers(range(6)), budget=9)
    met = ~np.isnan(got.p)
    assert list(met.sum(axis=1) - 1) == [3] * 6


def test_the_seed_decides_who_meets_whom() -> None:
    asked = []
    for seed in (0, 0, 1):
        model = Oracle()
        rank(model, "q", answers(range(8)), "knockout", seed=seed)
        asked.append([(pair.a, pair.b) for pair in model.asked])
    assert asked[0] == asked[1] != asked[2]
