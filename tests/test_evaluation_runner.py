"""The runner: order, resuming, and what happens when a model gives no answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gram.errors import DataError, ScoringError
from gram.evaluation import Record, evaluate
from gram.evaluation.items import Item, item_of
from gram.evaluation.shards import merge
from gram.journal import Journal
from gram.types import Chat, Pair, Preference, Usage, Verdicts, as_chat

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


def rows(n: int) -> list[Item]:
    """Of two numbers each; the larger is the better answer, and so ``item_of`` puts it first."""
    rng = np.random.default_rng(0)
    return [
        item_of(Preference(Pair("which?", f"{a:.2f}", f"{b:.3f}"), float(a > b), f"r{i}", f"s{i % 3}"))
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
        better = float(row.responses[0]) - float(row.responses[1])
        assert record.log_odds == pytest.approx((better + 0.25, better - 0.25))
        assert record.mass == (0.9, 0.9)
        assert (record.label, record.correct) == (1.0, 1.0)
        assert (record.length_a, record.length_b) == tuple(map(len, row.responses))


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
    assert [*first.asked, *second.asked] == [row.pair(0, 1) for row in preferences]

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


def test_log_odds_of_any_size_are_kept_as_they_are(tmp_path: Path) -> None:
    """Sums of nats over long answers differ by thousands: only what is infinite needs another number."""
    model = Fixed((3000.0, 1e7), (-2500.5, NAN))
    records = evaluate(model, rows(2), journal=Journal(tmp_path / "r.jsonl", {}))
    again = evaluate(Fixed(), rows(2), journal=Journal(tmp_path / "r.jsonl", {}))
    assert repr(again) == repr(records)
    assert [record.margin for record in again] == [5_001_500.0, -2500.5]


def test_no_verdict_in_both_orders_names_the_row_and_keeps_what_was_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.jsonl", {})
    with pytest.raises(ScoringError, match="item r1 "):
        evaluate(Fixed((1.0, NAN), (NAN, NAN)), rows(2), journal=journal)
    assert journal.done == 0


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


class Scorer:
    """Scores an answer by the number in it; counts what it is asked."""

    slope, temperature, template, usage = 2.0, 0.5, None, Usage()

    def __init__(self) -> None:
        self.asked: list[str] = []

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        raise AssertionError("a model that scores is asked for scores")

    def tokens_cut(self, pairs: Sequence[Pair]) -> None:
        return None

    def score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> np.ndarray:
        self.asked += responses
        return np.array([float(response) for response in responses])


def best_of(n: int) -> Item:
    return Item("many", as_chat("which?"), tuple(str(n - k) for k in range(n)), ask="all")


def test_cross_and_all_ask_what_they_say() -> None:
    """Two correct of four: 2 * 2 cross comparisons, 4 * 3 / 2 in all; equals are labeled a tie."""
    item = Item("x", as_chat("?"), ("4", "3", "2", "1"), correct=2)
    assert item.comparisons == [(0, 2), (0, 3), (1, 2), (1, 3)]
    every = Item("x", as_chat("?"), ("4", "3", "2", "1"), correct=2, ask="all")
    assert every.comparisons == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [every.label_of(i, j) for i, j in every.comparisons] == [0.5, 1, 1, 1, 1, 0.5]
    records = evaluate(Oracle(), [every])
    assert [record.judged for record in records] == [False, True, True, True, True, False]
    assert [record.pair for record in records] == every.comparisons


def test_a_scoring_model_is_asked_once_per_answer_and_its_scores_are_kept() -> None:
    """Four answers make six comparisons and four scores; log-odds are slope 2 times the difference."""
    model = Scorer()
    records = evaluate(model, [best_of(4)])
    assert model.asked == ["4", "3", "2", "1"]
    assert records[2].pair == (0, 3) and records[2].scores == (4.0, 1.0) and records[2].log_odds == (6.0, 6.0)


def test_a_score_that_is_no_number_is_named() -> None:
    item = Item("x", as_chat("?"), ("1", "nan"))
    with pytest.raises(ScoringError, match="answer 1 of item x"):
        evaluate(Scorer(), [item])


def test_one_order_is_picked_by_the_id_and_turned_back() -> None:
    """The oracle leans to the first place by 0.25: +0.25 where the better answer stands first, else -0.25."""
    items = rows(40)
    records = evaluate(Oracle(), items, both_orders=False)
    firsts = [not math.isnan(record.log_odds[0]) for record in records]
    assert 8 < sum(firsts) < 32
    for record, item, first in zip(records, items, firsts, strict=True):
        better = float(item.responses[0]) - float(item.responses[1])
        assert math.isnan(record.log_odds[first])
        assert record.log_odds[not first] == pytest.approx(better + (0.25 if first else -0.25))
    assert repr(evaluate(Oracle(), items[::-1], both_orders=False)[::-1]) == repr(records)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_shards_merge_to_the_whole_run(n: int) -> None:
    items = [*rows(20), best_of(4)]
    shards = [evaluate(Oracle(), items, chunk=4, shard=(k, n)) for k in range(1, n + 1)]
    assert merge(items, shards[::-1]) == evaluate(Oracle(), items, chunk=4)
    with pytest.raises(DataError, match="expected 26"):
        merge(items, shards[1:])
    other = [Record(**{**{f: getattr(r, f) for f in Record.__slots__}, "run": "x"}) for r in shards[0]]
    with pytest.raises(DataError, match="2 different runs"):
        merge(items, [other, *shards[1:]])


def test_a_record_that_stands_for_two_items_is_refused() -> None:
    """Two items of one name have two records in one place: 3 records, 2 of them different."""
    items = rows(3)
    twins = [items[0], items[1], replace(items[2], id=items[0].id)]
    with pytest.raises(DataError, match="hold 3 records, 2 of them different; expected 3"):
        merge(twins, [evaluate(Oracle(), twins)])


def test_a_torn_call_is_asked_whole_again(tmp_path: Path) -> None:
    """Six of a call's four records (one and a half calls) are on file: the second call is asked as it was."""
    whole = evaluate(Oracle(), rows(12), chunk=4)
    Journal(tmp_path / "r.jsonl", {}).append(record.to_dict() for record in whole[:6])
    model = Oracle()
    again = evaluate(model, rows(12), chunk=4, journal=Journal(tmp_path / "r.jsonl", {}))
    assert again == whole and len(model.asked) == 8


class Cutting(Oracle):
    """Says that it cuts three tokens from every prompt that has a 7 in it."""

    template, temperature, slope, usage = None, 1.0, 1.0, Usage()

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        self.usage += Usage(truncated=sum(self.tokens_cut(pairs)) // 3)
        return super().compare(pairs)

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int]:
        return [3 * ("7" in pair.a + pair.b) for pair in pairs]


def test_truncation_is_kept_per_comparison() -> None:
    items = rows(20)
    records = evaluate(Cutting(), items, chunk=3)
    assert [record.truncated for record in records] == [
        3 * ("7" in "".join(item.responses)) for item in items
    ]
    assert {record.truncated for record in evaluate(Oracle(), items)} == {None}
