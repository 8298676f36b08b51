"""Records: what is derived from the raw log-odds, and the way to JSON and back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gram.errors import DataError
from gram.evaluation import Record
from gram.files import finite

NAN = math.nan
LOG3 = math.log(3.0)


def record(log_odds: tuple[float, float], label: float = 1.0) -> Record:
    return Record("r", "s", label, log_odds, (0.9, 0.8), 10, 20)


def test_derived_numbers_by_hand() -> None:
    """sigmoid(ln 3) = 3/4 and sigmoid(-ln 3) = 1/4: shown first 0.75, shown second 0.25."""
    both = record((LOG3, LOG3))
    assert (both.p_a, both.correct, both.consistent) == (pytest.approx(0.75), 1.0, True)
    assert both.position_gap == 0.0
    mixed = record((LOG3, 0.0))
    assert (mixed.p_a, mixed.correct, mixed.consistent) == (pytest.approx(0.625), 1.0, False)
    assert mixed.position_gap == pytest.approx(0.25)
    assert record((LOG3, LOG3), label=0.0).correct == 0.0
    assert record((LOG3, LOG3), label=0.7).correct == 1.0
    assert record((LOG3, LOG3), label=0.5).correct is None


@given(st.floats(1e-6, 900))
def test_a_model_that_sees_only_the_position_gets_half_the_credit_exactly(x: float) -> None:
    assert record((x, -x)).correct == record((-x, x)).correct == 0.5
    assert record((x, -x)).consistent is False
    assert record((x, -x)).position_gap > 0


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_swapping_the_answers_changes_no_judgement(first: float, second: float) -> None:
    """Swapped: the label turns, and a shown first with odds x is b shown second with odds -x."""
    here, there = record((first, second), 1.0), record((-second, -first), 0.0)
    assert here.correct == there.correct
    assert here.consistent == there.consistent
    assert here.position_gap == pytest.approx(there.position_gap)
    assert here.p_a == pytest.approx(1 - there.p_a)


def test_one_order_only() -> None:
    single = record((NAN, -LOG3))
    assert single.p_a == pytest.approx(0.25)
    assert single.correct == 0.0
    assert single.consistent is None
    assert math.isnan(single.position_gap)


def test_ties_in_both_orders_agree() -> None:
    assert record((0.0, 0.0)).consistent is True
    assert record((0.0, 0.0)).correct == 0.5
    assert record((0.0, 1.0)).consistent is False


def test_to_json_and_back() -> None:
    for one in (record((LOG3, -0.1)), record((NAN, 2.0), 0.5)):
        again = Record.from_dict(json.loads(json.dumps(finite(one.to_dict()), allow_nan=False)))
        assert repr(again) == repr(one)


def test_a_file_from_before_groups_is_read() -> None:
    row = record((1.0, 2.0)).to_dict()
    del row["group"]
    assert Record.from_dict(row) == record((1.0, 2.0))


@pytest.mark.parametrize(
    ("field", "value"), [("log_odds", None), ("log_odds", [1.0]), ("mass", ["x", 1]), ("label", "yes")]
)
def test_a_malformed_field_is_named(field: str, value: object) -> None:
    row = {**record((1.0, 1.0)).to_dict(), field: value}
    with pytest.raises(DataError, match=field):
        Record.from_dict(row)
    del row[field]
    with pytest.raises(DataError, match=field):
        Record.from_dict(row)
