"""Metrics: every number is derived by hand, every symmetry is a law."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gram.errors import DataError
from gram.evaluation import Record, paired_difference
from gram.statistics import (
    accuracy,
    brier,
    credit,
    effective_number,
    log_loss,
    mcnemar,
    mean_by_group,
    over_seeds,
    paired_bootstrap,
    reliability,
    wilson,
)
from gram.types import FloatArray, sigmoid

pytestmark = pytest.mark.law(7)


def test_wilson_interval_of_8_out_of_10() -> None:
    """z^2/n = 0.384146; centre (0.8 + 0.192073) / 1.384146 = 0.716740;
    half width sqrt(0.384146 * 0.16 + 0.384146^2 / 4) / 1.384146 = 0.313617 / 1.384146 = 0.226578.
    """
    estimate = accuracy(np.array([1.0] * 8 + [0.0] * 2))
    assert estimate.value == pytest.approx(0.8)
    assert estimate.low == pytest.approx(0.716740 - 0.226578, abs=2e-6)
    assert estimate.high == pytest.approx(0.716740 + 0.226578, abs=2e-6)
    assert estimate.n == 10


def test_wilson_interval_at_the_edges() -> None:
    """All right, n = 10: the lower end is 1 / (1 + z^2/n) = 1 / 1.384146 = 0.722467, the upper end 1."""
    perfect, hopeless = accuracy(np.ones(10)), accuracy(np.zeros(10))
    assert (perfect.low, perfect.high) == (pytest.approx(0.722467, abs=1e-6), pytest.approx(1.0))
    assert (hopeless.low, hopeless.high) == (pytest.approx(0.0), pytest.approx(1 - 0.722467, abs=1e-6))
    nothing = accuracy(np.array([]))
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)


def test_wilson_interval_covers_the_truth_19_times_out_of_20() -> None:
    """4000 samples of n = 50 at p = 0.85: coverage near 0.95 (Wilson's is 0.94 here), where the normal
    interval has about 0.91."""
    rng = np.random.default_rng(3)
    estimates = [accuracy((rng.random(50) < 0.85).astype(float)) for _ in range(4000)]
    covered = np.mean([estimate.low <= 0.85 <= estimate.high for estimate in estimates])
    assert 0.93 < covered < 0.97


def test_rows_of_a_cluster_count_as_few() -> None:
    """Pairs of rows (1, 1), (0, 0), (1, 0): mean 1/2. Deviations per cluster add up to 1, -1, 0, so the error
    is sqrt(3/2 * 2) / 6 and its square 1/12; independent rows of that mean would vary by 1/4 each: 1/4 * 12 =
    3 of them tell as much. Two clusters of four equal rows: 2 * (2^2 + 2^2) / 8^2 = 1/4, so one.
    """
    values = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    names = ["x", "x", "y", "y", "z", "z"]
    assert effective_number(values, names) == pytest.approx(3.0)
    estimate = accuracy(values, names)
    assert (estimate.low, estimate.high) == pytest.approx(wilson(0.5, 3.0))
    assert estimate.n == 6
    alike = np.array([1.0] * 4 + [0.0] * 4)
    assert effective_number(alike, ["x"] * 4 + ["y"] * 4) == pytest.approx(1.0)
    assert effective_number(np.ones(6), names) == 3.0  # nothing varies: each cluster is one value


def test_rows_without_a_shared_cluster_have_the_plain_interval() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0])
    assert accuracy(values, ["a", "b", "c", "d"]) == accuracy(values)
    assert accuracy(np.array([]), []).n == 0
    opposed = np.array([1.0, 0.0, 0.0, 1.0])  # clusters that balance out never count for more than their rows
    assert accuracy(opposed, ["a", "a", "b", "b"]) == accuracy(opposed)


def test_the_clustered_interval_covers_where_the_plain_one_does_not() -> None:
    """400 samples of 40 questions with 5 equal rows each, p = 0.7: plain, it is 5 ** 0.5 times too narrow."""
    rng = np.random.default_rng(5)
    names = np.repeat(np.arange(40), 5).tolist()
    samples = [np.repeat((rng.random(40) < 0.7).astype(float), 5) for _ in range(400)]
    clustered = [accuracy(sample, names) for sample in samples]
    plain = [accuracy(sample) for sample in samples]
    assert 0.92 < np.mean([e.low <= 0.7 <= e.high for e in clustered]) < 0.98
    assert np.mean([e.low <= 0.7 <= e.high for e in plain]) < 0.75


def test_a_paired_interval_draws_whole_clusters() -> None:
    """Every row written five times says nothing new: the interval is that of the rows written once."""
    rng = np.random.default_rng(1)
    x, y = (rng.random((2, 60)) < np.array([[0.7], [0.5]])).astype(float)
    five, names = np.repeat(x, 5), np.repeat(np.arange(60), 5).tolist()
    once, often = paired_bootstrap(x, y), paired_bootstrap(five, np.repeat(y, 5), names)
    assert often == pytest.approx(once, abs=0.02)
    narrow = paired_bootstrap(five, np.repeat(y, 5))
    assert narrow[1] - narrow[0] < 0.6 * (often[1] - often[0])
    by_group = mean_by_group(five - np.repeat(y, 5), np.array(names), resamples=10_000)
    assert (by_group.low, by_group.high) == often
    assert paired_bootstrap(x, y, list(range(60))) == once


def test_over_seeds_by_hand() -> None:
    """1, 2, 3: mean 2, standard deviation 1, half width 4.30 / sqrt(3) = 2.483. One seed: no interval."""
    estimate = over_seeds([1.0, 2.0, 3.0])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((2.0, -0.4826, 4.4826), abs=1e-4)
    assert math.isnan(over_seeds([0.3]).low)


def test_credit_of_hard_soft_and_tied_verdicts() -> None:
    """Preferring a (0.8) earns the label; preferring b earns 1 - label; 0.5 earns a half."""
    got = credit(np.array([0.8, 0.2, 0.5, 0.8, 0.2]), np.array([1.0, 1.0, 1.0, 0.7, 0.7]))
    assert got == pytest.approx([1.0, 0.0, 0.5, 0.7, 0.3])


def test_orders_that_contradict_each_other_average_to_an_exact_tie() -> None:
    log_odds = np.linspace(0.01, 9, 500)
    p_a = (sigmoid(log_odds) + sigmoid(-log_odds)) / 2
    assert np.all(credit(p_a, np.ones(500)) == 0.5)


def test_brier_and_log_loss_by_hand() -> None:
    """Brier: (0.1^2 + 0.2^2 + 0) / 3. Log loss: -(ln 0.9 + ln 0.8 + ln 0.5) / 3 = 1.0216512 / 3."""
    p_a, labels = np.array([0.9, 0.2, 0.5]), np.array([1.0, 0.0, 0.5])
    assert brier(p_a, labels) == pytest.approx(0.05 / 3)
    assert log_loss(p_a, labels) == pytest.approx(1.0216512 / 3, abs=1e-7)
    assert log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(12 * math.log(10))


def test_reliability_by_hand() -> None:
    """Confidences 0.91 0.91 0.61 0.61 lie in two bins of width 1/30; each is right half of the time.

    ECE = (2 * |0.5 - 0.91| + 2 * |0.5 - 0.61|) / 4 = 0.26.
    """
    got = reliability(np.array([0.91, 0.09, 0.61, 0.39]), np.ones(4))
    assert got.confidence == pytest.approx([0.61, 0.91])
    assert got.accuracy == pytest.approx([0.5, 0.5])
    assert list(got.count) == [2, 2]
    assert got.ece == pytest.approx(0.26)


def test_a_calibrated_model_has_almost_no_calibration_error() -> None:
    """40,000 outcomes drawn from the very probabilities: per bin of 2,667 the error is about 0.8 * 0.0085."""
    rng = np.random.default_rng(0)
    p_a = rng.random(40_000)
    labels = (rng.random(40_000) < p_a).astype(float)
    assert reliability(p_a, labels).ece < 0.012
    assert reliability(p_a**3 / (p_a**3 + (1 - p_a) ** 3), labels).ece > 0.1


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from([0.0, 0.5, 0.8, 1.0]), st.booleans()), min_size=1)
)
def test_calibration_does_not_depend_on_which_answer_is_called_a(rows: list[tuple[int, float, bool]]) -> None:
    """Probabilities (k + 0.5) / 1000 stay clear of the edges of bins, where rounding would decide."""
    k, labels, turn = (np.array(column) for column in zip(*rows, strict=True))
    p_a = (k + 0.5) / 1000
    turned, turned_labels = np.where(turn, 1 - p_a, p_a), np.where(turn, 1 - labels, labels)
    assert brier(turned, turned_labels) == pytest.approx(brier(p_a, labels))
    assert log_loss(turned, turned_labels) == pytest.approx(log_loss(p_a, labels))
    assert reliability(turned, turned_labels).ece == pytest.approx(reliability(p_a, labels).ece)
    assert credit(turned, turned_labels) == pytest.approx(credit(p_a, labels))


def test_mcnemar_by_hand() -> None:
    """One better on 1, the other on 5 of 6 discordant items: 2 * (C(6,0) + C(6,1)) / 2^6 = 14 / 64."""
    x = np.array([1, 0, 0, 0, 0, 0, 1, 1, 0], dtype=float)
    y = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0], dtype=float)
    assert mcnemar(x, y) == mcnemar(y, x) == pytest.approx(14 / 64)
    assert mcnemar(x, x) == 1.0
    assert mcnemar(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0


def test_mcnemar_of_many_items_is_near_the_normal_test() -> None:
    """5200 against 4800: z = (400 - 1) / sqrt(10000) = 3.99 with continuity correction, two-sided
    p = 6.6e-5."""
    x = np.array([1.0] * 5200 + [0.0] * 4800)
    assert mcnemar(x, 1.0 - x) == pytest.approx(6.6e-5, rel=0.02)


def test_paired_bootstrap_is_near_the_normal_interval() -> None:
    """100 items, +1 on 30, -1 on 10: mean 0.2, variance 0.4 - 0.04, so 0.2 +- 1.96 * 0.06."""
    difference = np.array([1.0] * 30 + [-1.0] * 10 + [0.0] * 60)
    low, high = paired_bootstrap(difference, np.zeros(100), seed=1)
    assert (low, high) == (pytest.approx(0.0824, abs=0.011), pytest.approx(0.3176, abs=0.011))
    assert paired_bootstrap(difference, np.zeros(100), seed=1) == (low, high)
    assert paired_bootstrap(np.zeros(100), difference, seed=1)[1] == pytest.approx(-low, abs=0.011)
    assert paired_bootstrap(difference, difference) == (0.0, 0.0)


def _runs(x: list[float], y: list[float]) -> tuple[list[Record], list[Record]]:
    def run(right: FloatArray) -> list[Record]:
        return [
            Record(f"r{i}", "", 1.0, (2.0 * v - 1.0, 2.0 * v - 1.0), (1.0, 1.0), 3, 4)
            for i, v in enumerate(right)
        ]

    return run(np.array(x)), run(np.array(y))


def test_paired_difference_of_two_runs() -> None:
    """Right on 3 of 4 and on 1 of 4, never worse: 0.5, and p = 2 * 1 / 2^2 = 0.5. Ties stay out."""
    first, second = _runs([1, 1, 1, 0], [1, 0, 0, 0])
    tie = Record("tie", "", 0.5, (1.0, 1.0), (1.0, 1.0), 3, 4)
    got = paired_difference([*first, tie], [*second, tie], seed=4)
    assert (got.difference, got.p_value, got.n) == (0.5, 0.5, 4)
    assert got.low <= 0.5 <= got.high


def test_runs_over_different_rows_cannot_be_compared() -> None:
    first, second = _runs([1, 1], [1, 0])
    with pytest.raises(DataError, match="2 and 1 rows"):
        paired_difference(first, second[:1])
    with pytest.raises(DataError, match="number 2 is 'r1' and 'other'"):
        paired_difference(first, [second[0], replace(second[1], id="other")])
    with pytest.raises(DataError, match="number 2"):
        paired_difference(first, [second[0], replace(second[1], label=0.0)])
    with pytest.raises(DataError, match="no row has a right answer"):
        paired_difference([replace(first[0], label=0.5)], [replace(first[0], label=0.5)])
