"""The orders in which options are shown, and what a preference for places does to the answer."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from gram.decisions import Choice, Score
from gram.decisions.answers import ChoiceAnswer, ScoreAnswer, answer_to
from gram.decisions.orders import orders_of
from gram.errors import ConfigError

SIZES = range(2, 13)
COUNTS = (2, 4, 6, 8, 10, 24, 100)


def most(options: int) -> int:
    return 2 if options == 2 else 2 * options


@pytest.mark.parametrize("options", SIZES)
@pytest.mark.parametrize("count", COUNTS)
def test_orders_are_different_permutations_as_many_as_asked_or_as_there_are(options: int, count: int) -> None:
    orders = orders_of(options, count)
    assert len(set(orders)) == len(orders) == min(count, most(options))
    assert all(sorted(order) == list(range(options)) for order in orders)


@pytest.mark.parametrize("options", SIZES)
@pytest.mark.parametrize("count", COUNTS)
def test_listing_the_options_backwards_asks_the_same_orders(options: int, count: int) -> None:
    """The client's option i is then our option k - 1 - i: as sets, the orders shown are the same."""
    orders = orders_of(options, count)
    assert {tuple(options - 1 - option for option in order) for order in orders} == set(orders)


@pytest.mark.parametrize("options", SIZES)
@pytest.mark.parametrize("count", COUNTS)
def test_every_option_stands_as_early_as_late(options: int, count: int) -> None:
    places = np.array([np.argsort(order) for order in orders_of(options, count)])  # (orders, options)
    assert np.allclose(places.mean(axis=0), (options - 1) / 2)
    for option in range(options):
        found = sorted(places[:, option])
        assert found == sorted(options - 1 - place for place in found)


@pytest.mark.parametrize("options", [*SIZES][1:])
def test_with_all_orders_every_option_stands_twice_at_every_place(options: int) -> None:
    places = np.array([np.argsort(order) for order in orders_of(options, 2 * options)])
    for option in range(options):
        assert sorted(places[:, option]) == sorted([*range(options), *range(options)])


def test_of_three_options_six_orders_are_all_there_are() -> None:
    assert set(orders_of(3, 6)) == set(permutations(range(3)))
    assert orders_of(5, 1) == [(0, 1, 2, 3, 4)]
    assert orders_of(2, 8) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("count", [0, -2, 3, 7, True, 2.0])
def test_a_number_of_orders_that_lacks_a_reverse_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="orders must be 1, which leaves the preference"):
        orders_of(3, count)


def biased(utility: np.ndarray, bias: np.ndarray, count: int) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Readings of a model whose logit is what an option is worth plus what its place is worth."""
    orders = orders_of(len(utility), count)
    logits = np.array([utility[list(order)] + bias for order in orders])
    return orders, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True) * 1.25)  # mass 0.8


@pytest.mark.parametrize("count", [2, 4, 6])
def test_a_preference_that_grows_from_place_to_place_cancels(count: int) -> None:
    """Five options worth 0, 0.5, -1, 2, 1 nats; each place is worth 3 nats more than the one before."""
    utility = np.array([0.0, 0.5, -1.0, 2.0, 1.0])
    orders, logprobs = biased(utility, 3.0 * np.arange(5), count)
    answer = answer_to(Choice("?", list("vwxyz")), orders, logprobs)
    assert isinstance(answer, ChoiceAnswer) and answer.choice == "y" and answer.orders == count
    expected = np.exp(utility) / np.exp(utility).sum()
    np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-12)
    assert answer.mass == pytest.approx(0.8) and answer.spread is not None and answer.spread > 0.9


def test_with_all_orders_any_preference_for_places_cancels() -> None:
    utility, bias = np.array([0.0, 0.5, -1.0, 2.0, 1.0]), np.array([4.0, -3.0, 0.5, 1.0, 7.0])
    expected = np.exp(utility) / np.exp(utility).sum()
    answer = answer_to(Score("?", list("vwxyz")), *biased(utility, bias, 10))
    assert isinstance(answer, ScoreAnswer)
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-12)
    assert answer.score == pytest.approx(float(expected @ np.arange(5)))
    few = answer_to(Score("?", list("vwxyz")), *biased(utility, bias, 2))
    assert isinstance(few, ScoreAnswer) and np.abs(np.array(few.probabilities) - expected).max() > 0.1


def test_the_numbers_of_a_choice_by_hand() -> None:
    """Three options asked twice. First order: labels have 0.5, 0.2, 0.1 (shares 5/8, 2/8, 1/8). Backwards:
    0.4, 0.3, 0.1 in their places, so that the options in their own order have shares 1/8, 3/8, 4/8.
    Products: 5, 6, 4 (of 64), so the mean of logs is in proportion to their roots. Spread: 4/8, of the first.
    """
    orders = orders_of(3, 2)
    logprobs = np.log([[0.5, 0.2, 0.1], [0.4, 0.3, 0.1]])
    answer = answer_to(Choice("?", ["x", "y", "z"]), orders, logprobs)
    assert isinstance(answer, ChoiceAnswer)
    roots = np.sqrt([5, 6, 4])
    np.testing.assert_allclose(list(answer.probabilities.values()), roots / roots.sum())
    assert answer.choice == "y" and answer.spread == pytest.approx(0.5) and answer.mass == pytest.approx(0.8)
    best = roots[1] / roots.sum()
    assert answer.confidence == pytest.approx((best - 1 / 3) / (2 / 3))


def test_the_numbers_of_a_score_by_hand() -> None:
    """One order, shares 1/8, 2/8, 5/8: the expectation is 12/8. The likeliest level is 2, and the mean
    distance from it 4/8; equal shares are 2/3 from the middle: confidence 1 - (4/8) / (2/3) = 1/4.
    """
    answer = answer_to(Score("?", ["x", "y", "z"]), [(0, 1, 2)], np.log([[0.05, 0.1, 0.25]]))
    assert isinstance(answer, ScoreAnswer) and answer.spread is None and answer.orders == 1
    assert answer.probabilities == pytest.approx((0.125, 0.25, 0.625)) and answer.mass == pytest.approx(0.4)
    assert answer.score == pytest.approx(1.5) and answer.confidence == pytest.approx(0.25)


def test_a_temperature_divides_the_logits_of_the_options() -> None:
    """Shares 4 to 1 at temperature 2 are 2 to 1."""
    answer = answer_to(Choice("?", ["x", "y"]), [(0, 1)], np.log([[0.4, 0.1]]), temperature=2.0)
    assert isinstance(answer, ChoiceAnswer) and answer.probabilities["x"] == pytest.approx(2 / 3)
    assert answer.mass == pytest.approx(0.5)
