"""The Bradley-Terry fit: hand-derived cases, recovery of known strengths, and the optimum itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gram.ranking.bradley_terry import fit_strengths, probability_best
from gram.types import FloatArray, sigmoid


def matrix(strengths: FloatArray) -> FloatArray:
    return sigmoid(strengths[:, None] - strengths[None, :])


def two(p: float) -> FloatArray:
    return np.array([[0.5, p], [1 - p, 0.5]])


def test_two_players_by_hand() -> None:
    """With s = (d/2, -d/2) the penalty is ridge d^2 / 4, so the optimum solves p - sigmoid(d) = ridge d / 2.

    d = 1 and ridge = 0.1 need p = sigmoid(1) + 0.05 = 0.7810586. Curvature in d: w + ridge / 2 with
    w = sigmoid(1) sigmoid(-1) = 0.1966119, so var(d) = 1 / 0.2466119 = 4.054953 and stderr of s_1 = d/2 is
    sqrt(4.054953) / 2 = 1.006845.
    """
    got = fit_strengths(two(0.7310586 + 0.05), ridge=0.1)
    assert got.value == pytest.approx([0.5, -0.5], abs=1e-6)
    assert got.stderr == pytest.approx([1.006845, 1.006845], abs=1e-5)


def test_certain_wins_stay_finite() -> None:
    """p = 1, ridge 0.01: the difference solves sigmoid(-d) = 0.005 d.

    At d = 3.90 that is 0.01984 > 0.01950, at d = 3.92 it is 0.01946 < 0.01960: d lies between.
    """
    d = float(np.ptp(fit_strengths(two(1.0), ridge=0.01).value))
    assert 3.90 < d < 3.92
    assert float(sigmoid(np.array(-d))) == pytest.approx(0.01 * d / 2)
    chain = np.where(np.arange(8)[:, None] < np.arange(8)[None, :], 1.0, 0.0)
    assert np.all(np.diff(fit_strengths(chain).value) < 0)


@pytest.mark.parametrize("n", [2, 3, 7, 30])
def test_known_strengths_are_recovered_with_a_weak_prior(n: int) -> None:
    strengths = np.random.default_rng(n).normal(scale=1.5, size=n)
    strengths -= strengths.mean()
    assert fit_strengths(matrix(strengths), ridge=1e-9).value == pytest.approx(strengths, abs=1e-5)


def test_pairs_that_did_not_meet_are_left_out() -> None:
    """A chain 0-1-2-3 pins all strengths; the errors are those of sums along the chain."""
    strengths = np.array([1.5, 0.5, -0.5, -1.5])
    p = matrix(strengths)
    p[np.abs(np.subtract.outer(np.arange(4), np.arange(4))) > 1] = np.nan
    got = fit_strengths(p, ridge=1e-9)
    assert got.value == pytest.approx(strengths, abs=1e-6)
    assert np.all(got.stderr > fit_strengths(matrix(strengths), ridge=1e-9).stderr)


def test_three_equal_players_by_hand() -> None:
    """All p = 1/2: curvature 1/4 (3 I - J) + ridge I, eigenvalue 3/4 + ridge off the common shift.

    The centred covariance is (I - J/3) / (3/4 + ridge): stderr sqrt((2/3) / 0.76) = 0.936586 at 0.01.
    """
    got = fit_strengths(np.full((3, 3), 0.5), ridge=0.01)
    assert got.value == pytest.approx([0, 0, 0])
    assert got.stderr == pytest.approx([0.936586] * 3, abs=1e-6)


def test_one_player() -> None:
    got = fit_strengths(np.array([[0.5]]))
    assert (list(got.value), list(got.stderr)) == ([0.0], [0.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000), st.sampled_from([1e-4, 0.01, 1.0]))
def test_it_is_the_optimum_for_any_matrix(n: int, seed: int, ridge: float) -> None:
    """The score equations hold, for hard and soft results and missing meetings alike."""
    rng = np.random.default_rng(seed)
    p = np.clip(rng.normal(0.5, 0.6, size=(n, n)), 0, 1)
    p = np.where(rng.random((n, n)) < 0.3, np.nan, p)
    p = np.triu(p, 1) + np.tril(1 - p.T, -1) + 0.5 * np.eye(n)
    got = fit_strengths(p, ridge=ridge)
    met = ~np.isnan(p)
    score = np.where(met, p - matrix(got.value), 0.0).sum(axis=1) - ridge * got.value
    assert np.abs(score).max() < 1e-8
    assert abs(got.value.sum()) < 1e-8
    assert np.isfinite(got.stderr).all()
    turn = rng.permutation(n)
    turned = fit_strengths(p[np.ix_(turn, turn)], ridge=ridge)
    assert turned.value == pytest.approx(got.value[turn], abs=1e-6)
    assert turned.stderr == pytest.approx(got.stderr[turn], rel=1e-4)


def test_errors_match_the_spread_of_repeated_experiments() -> None:
    """50 games per pair are 50 equal matrices added up: the errors shrink by sqrt(50), and so does the spread
    of strengths fitted to sampled games."""
    strengths = np.array([1.0, 0.3, -0.4, -0.9])
    expected = fit_strengths(matrix(strengths), ridge=1e-6).stderr / math.sqrt(50)
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(400):
        upper = np.triu(rng.binomial(50, matrix(strengths)) / 50, 1)
        samples.append(fit_strengths(upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(4), ridge=1e-6).value)
    assert np.std(samples, axis=0) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_choix_finds(seed: int) -> None:
    """Against another library: its maximum-likelihood fit of a matrix of probabilities (our prior weak), and
    its penalised fit of single games, whose penalty alpha |s|^2 is our ridge/2 |s|^2 times the games a pair
    played."""
    import choix

    rng, n, games, ridge = np.random.default_rng(seed), 6, 4, 0.2
    noisy = matrix(rng.normal(size=n)) + rng.uniform(-0.1, 0.1, size=(n, n))
    p = np.triu(np.clip(noisy, 0.05, 0.95), 1)
    p = p + np.tril(1 - p.T, -1) + 0.5 * np.eye(n)
    weights = p - np.diag(np.diag(p))
    assert fit_strengths(p, ridge=1e-9).value == pytest.approx(choix.ilsr_pairwise_dense(weights), abs=1e-5)
    wins = np.triu(rng.integers(0, games + 1, size=(n, n)), 1)
    data = [(i, j) for i in range(n) for j in range(i + 1, n) for _ in range(wins[i, j])]
    data += [(j, i) for i in range(n) for j in range(i + 1, n) for _ in range(games - wins[i, j])]
    upper = np.triu(wins / games, 1)
    p = upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(n)
    theirs = choix.opt_pairwise(n, data, alpha=games * ridge / 2)
    assert fit_strengths(p, ridge=ridge).value == pytest.approx(theirs, abs=1e-3)


def test_the_probability_of_being_best_by_hand() -> None:
    """Two players: the difference d of the strengths has mean v and variance 4 var(s_1), so that the first is
    best with probability Phi(v / (2 stderr)). At p = 0.7810586, ridge 0.1 (see above): Phi(1 / 2.013690) =
    Phi(0.496601) = 0.690264; the mean of 4,000 draws has a standard error of 0.0073.
    """
    strengths = fit_strengths(two(0.7310586 + 0.05), ridge=0.1)
    assert probability_best(strengths) == pytest.approx([0.690264, 0.309736], abs=0.02)
    assert probability_best(fit_strengths(np.full((3, 3), 0.5))) == pytest.approx([1 / 3] * 3, abs=0.03)
    assert list(probability_best(fit_strengths(np.array([[0.5]])))) == [1.0]
