"""The runner: order, resuming, and what happens when a model gives no answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gram.data.journal import Journal
from gram.errors import DataError, ScoringError
from gram.evaluation import Record, evaluate
from gram.types import Pair, Preference, Verdicts

NAN = math.nan


class Oracle:
    """Prefers the answer with the larger number in it, and leans to the first place by 0.25."""

    def __init__(self, die_at_call: int = 0) -> None:
        self.asked: list[Pair] = []
        self.calls = 0
        self.die_at_call = die_at_call

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        self.calls += 1
        if self.calls == self.die_at_call:
            raise KeyboardInterrupt
        self.asked += pairs
        better = np.array([float(pair.a) - float(pair.b) for pair in pairs])
        return Verdicts(np.stack([better + 0.25, better - 0.25], axis=1), np.full((len(pairs), 2), 0.9))


class Fixed:
    """Says the same log-odds about the rows in turn."""

    def __init__(self, *log_odds: tuple[float, float]) -> None:
        self.log_odds = log_odds

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        table = np.array(self.log_odds[: len(pairs)], dtype=float).reshape(-1, 2)
        return Verdicts(table, np.ones_like(table))


def rows(n: int) -> list[Preference]:
    rng = np.random.default_rng(0)
    return [
        Preference(Pair("which?", f"{a:.2f}", f"{b:.3f}"), float(a > b), f"r{i}", f"s{i % 3}")
        for i, (a, b) in enumerate(rng.normal(size=(n, 2)))
    ]


def test_records_keep_order_and_raw_numbers() -> None:
    preferences = rows(23)
    model = Oracle()
    records = evaluate(model, preferences, chunk=5)
    assert [record.id for record in records] == [row.id for row in preferences]
    assert [record.subset for record in records] == [row.subset for row in preferences]
    assert model.calls == 5
    for record, row in zip(records, preferences, strict=True):
        better = float(row.pair.a) - float(row.pair.b)
        assert record.log_odds == pytest.approx((better + 0.25, better - 0.25))
        assert record.mass == (0.9, 0.9)
        assert (record.label, record.correct) == (row.p_a, 1.0)
        assert (record.length_a, record.length_b) == (len(row.pair.a), len(row.pair.b))


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_the_chunk_does_not_change_the_records(chunk: int) -> None:
    assert evaluate(Oracle(), rows(11), chunk=chunk) == evaluate(Oracle(), rows(11))


def test_a_killed_run_resumes_asks_nothing_twice_and_ends_the_same(tmp_path: Path) -> None:
    preferences = rows(20)
    path = tmp_path / "records.jsonl"
    first = Oracle(die_at_call=3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(first, preferences, journal=Journal(path, {"m": 1}), chunk=4)
    second = Oracle()
    journal = Journal(path, {"m": 1})
    assert journal.done == 8
    records = evaluate(second, preferences, journal=journal, chunk=4)
    journal.finish()
    assert [*first.asked, *second.asked] == [row.pair for row in preferences]

    straight = Journal(tmp_path / "straight.jsonl", {"m": 1})
    assert records == evaluate(Oracle(), preferences, journal=straight)
    straight.finish()
    assert path.read_bytes() == straight.path.read_bytes()


def test_one_order_and_certainty_survive_the_journal(tmp_path: Path) -> None:
    """JSON knows neither NaN nor infinity: not asked stays not asked, certain becomes log-odds 1000."""
    model = Fixed((NAN, 1.5), (math.inf, -math.inf), (-math.inf, -math.inf))
    records = evaluate(model, rows(3), journal=Journal(tmp_path / "r.jsonl", {}))
    again = evaluate(Fixed(), rows(3), journal=Journal(tmp_path / "r.jsonl", {}))
    assert repr(again) == repr(records)
    assert [record.log_odds[1] for record in again] == [1.5, -1000.0, -1000.0]
    assert [record.p_a for record in again] == pytest.approx([1 / (1 + math.exp(-1.5)), 0.5, 0.0])


def test_no_verdict_in_both_orders_names_the_row_and_keeps_what_was_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.jsonl", {})
    with pytest.raises(ScoringError, match="row r1 "):
        evaluate(Fixed((1.0, NAN), (NAN, NAN)), rows(2), journal=journal)
    assert journal.done == 0
    nameless = [Preference(row.pair, row.p_a) for row in rows(2)]
    with pytest.raises(ScoringError, match="row number 2 "):
        evaluate(Fixed((1.0, NAN), (NAN, NAN)), nameless)


def test_a_missing_verdict_is_an_error() -> None:
    with pytest.raises(ScoringError, match="2 verdicts on 3 pairs"):
        evaluate(Fixed((1.0, 1.0), (1.0, 1.0)), rows(3))


def test_a_journal_of_other_rows_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "r.jsonl", {}).append([Record("x", "", 1.0, (0, 0), (1, 1), 1, 1).to_dict()])
    with pytest.raises(DataError, match=r"r\.jsonl\.partial.*other rows"):
        evaluate(Oracle(), rows(3), journal=Journal(tmp_path / "r.jsonl", {}))
    with pytest.raises(DataError, match="other rows"):
        evaluate(Oracle(), [], journal=Journal(tmp_path / "r.jsonl", {}))


def test_nothing_is_printed_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(Oracle(), rows(3))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_no_rows_no_records() -> None:
    assert evaluate(Oracle(), []) == []
