"""When an adapted model has won: hand-made verdicts, hand-made answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gram.adaptation.decision import OLD, HeldOutVerdicts, choose, decide, nested_selection
from gram.statistics import clustered_error
from gram.types import FloatArray

N, FOLDS = 60, 5


def both(log_odds: FloatArray) -> FloatArray:
    """The same said in both orders: (..., n) -> (..., n, 2)."""
    return np.stack([log_odds, log_odds], axis=-1)


def held(*candidates: FloatArray, labels: FloatArray | None = None, cluster: int = 1) -> HeldOutVerdicts:
    """60 rows in five folds; without labels, half of them 1 and half 0 by ``truth``."""
    fold = np.arange(N) % FOLDS
    rows = truth() if labels is None else labels
    return HeldOutVerdicts(both(np.stack(candidates)), rows, fold, np.arange(N) // cluster)


def truth() -> FloatArray:
    return (np.arange(N) // FOLDS % 2).astype(float)  # both labels in every fold


def knowing(accuracy: float, strength: float = 2.0, seed: int = 0) -> FloatArray:
    """Log-odds that are right on this share of rows."""
    right = np.random.default_rng(seed).permutation(N) < accuracy * N
    return strength * np.where(right, 1, -1) * (2 * truth() - 1)


def test_a_better_model_wins() -> None:
    decision = decide(held(knowing(0.5), knowing(0.9)))
    assert decision.adopted and decision.choice.candidate == 1
    assert decision.before.accuracy.value == pytest.approx(0.5)
    assert decision.after.accuracy.value == pytest.approx(0.9)
    assert decision.accuracy_gain.difference == pytest.approx(0.4)
    assert decision.gain.low > 0 and decision.after.log_loss < math.log(2)


def test_a_change_of_confidence_is_no_win() -> None:
    """The old model is as good but too sure: at its best temperature its log loss is the same."""
    sure = knowing(0.6, strength=8.0)
    decision = decide(held(sure, sure / 16))
    assert decision.before.log_loss > decision.after.log_loss + 1
    assert decision.gain.value == pytest.approx(0, abs=1e-3) and not decision.adopted


def test_no_training_that_helps_means_the_old_model() -> None:
    decision = decide(held(knowing(0.9), knowing(0.6), knowing(0.5)))
    assert not decision.adopted and decision.choice.candidate == OLD and "no amount" in decision.reason


def test_a_fall_of_accuracy_is_refused() -> None:
    """The new model is wrong twice more often, but knows when: surely right, faintly wrong."""
    old, new = knowing(0.8), knowing(0.75)
    new = np.where(np.sign(new) == 2 * truth() - 1, 4 * new, 0.01 * new)
    decision = decide(held(old, new))
    assert decision.gain.low > 0 and not decision.adopted and "accuracy" in decision.reason


def test_less_wrong_than_before_is_not_enough() -> None:
    """Both models are mostly wrong; the new one less so, but saying 0.5 would be better than either."""
    decision = decide(held(knowing(0.02), knowing(0.04, strength=0.1)))
    assert not decision.adopted and decision.after.log_loss >= math.log(2)


def test_a_small_gain_within_the_error_is_refused() -> None:
    decision = decide(held(knowing(0.6, seed=1), knowing(0.62, seed=2)))
    assert not decision.adopted


def test_rows_of_one_question_count_once() -> None:
    """The same gains in clusters of twelve equal rows have a larger error."""
    gains = np.repeat(np.random.default_rng(0).normal(size=5), 12)
    single, clustered = clustered_error(gains, np.arange(60)), clustered_error(gains, np.arange(60) // 12)
    assert clustered > 3 * single


def test_the_error_by_hand() -> None:
    """Values 1, 3 | 2, 6 have mean 3; deviations -2, 0 | -1, 3 sum to -2 and 2: sqrt(2 / 1 * 8) / 4 = 1."""
    assert clustered_error(np.array([1.0, 3.0, 2.0, 6.0]), np.array([0, 0, 7, 7])) == pytest.approx(1.0)
    assert clustered_error(np.array([1.0, 2.0]), np.array([3, 3])) == math.inf


def test_single_rows_have_the_ordinary_error() -> None:
    values = np.random.default_rng(1).normal(size=50)
    expected = float(np.std(values, ddof=1)) / math.sqrt(50)
    assert clustered_error(values, np.arange(50)) == pytest.approx(expected)


def test_no_label_has_a_part_in_what_is_reported_of_its_fold() -> None:
    """Candidates are noise; whichever fits a fold's own labels best must not be preferred there."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(12, N))
    labels = truth()
    first = held(*noise, labels=labels)
    other = labels.copy()
    other[first.fold == 3] = 1 - other[first.fold == 3]
    for before, after in zip(
        nested_selection(first), nested_selection(held(*noise, labels=other)), strict=True
    ):
        assert np.array_equal(before[first.fold == 3], after[first.fold == 3])


def test_reporting_does_not_flatter_the_best_of_many() -> None:
    """Twenty candidates that know nothing: the best one's own log loss lies below log 2, the reported not."""
    gaps, flattered = [], []
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(size=(20, N))
        rows = held(np.zeros(N), *noise)
        flattered.append(choose(rows.log_odds, rows.labels).losses.min() - math.log(2))
        gaps.append(decide(rows).after.log_loss - math.log(2))
    assert np.mean(flattered) < -0.02
    assert np.mean(gaps) > 0


def test_a_model_right_on_all_of_few_rows_gets_a_finite_temperature() -> None:
    """Ten rows, all right, at log-odds 1: Platt's target is 11/12, so the temperature is 1 / log 11."""
    choice = choose(both(np.ones((1, 10))), np.ones(10))
    assert choice.temperature == pytest.approx(1 / math.log(11), rel=1e-4)


def test_the_scale_of_the_log_odds_does_not_choose() -> None:
    """The same verdicts at ten thousand times the size have the same loss at their own temperature, and so
    the first is chosen; verdicts that know nothing of the labels lose nothing but ln 2.
    """
    said = knowing(0.7)
    small = choose(both(np.stack([said, said * 1e4])), truth())
    assert small.losses[0] == pytest.approx(small.losses[1]) and small.losses[0] < math.log(2)
    against = choose(both(-5 * (2 * truth() - 1))[None], truth())
    assert against.losses[0] == pytest.approx(math.log(2), abs=1e-4)


def test_of_equally_good_candidates_the_first_is_taken() -> None:
    said = knowing(0.7)
    assert decide(held(said, said, said)).choice.candidate == OLD


def test_ties_have_no_right_answer_but_count_in_the_log_loss() -> None:
    labels = truth()
    labels[:30] = 0.5
    decision = decide(held(knowing(0.5), np.where(labels == 0.5, 0.0, knowing(1.0)), labels=labels))
    assert decision.accuracy_gain.n == 30 and decision.gain.n == N and decision.adopted
