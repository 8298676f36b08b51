"""Summary and report: a hand-made set of records whose every number is derived here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gram.errors import DataError
from gram.evaluation import Record, summarize
from gram.report import markdown, write_report
from gram.statistics import wilson

NAN = math.nan
LOG3 = math.log(3.0)


def record(name: str, subset: str, label: float, first: float, second: float) -> Record:
    return Record(name, subset, label, (first, second), (1.0, 1.0), 5, 4)


RECORDS = [
    record("1", "math", 1.0, LOG3, LOG3),
    record("2", "math", 1.0, LOG3, -LOG3),
    record("3", "chat", 0.0, LOG3, 0.0),
    record("4", "chat", 0.5, -LOG3, -LOG3),
    record("5", "chat", 0.0, NAN, -LOG3),
]
FLOORS = {"length": np.array([1.0, 1.0, 1.0, 1.0, 0.5])}


def test_summary_by_hand() -> None:
    """p_a: 3/4, 1/2, 5/8, 1/4, 1/4. Credit: 1, 1/2, 0, (tie label), 1: 2.5 of 4.

    Consistent: yes, no, no, yes, not asked twice: 2 of 4. Gaps: 0, 1/2, 1/4, 0: mean 3/16.
    Brier: (1/16 + 1/4 + 25/64 + 1/16 + 1/16) / 5 = (53/64) / 5.
    The length rule: right, right, wrong, (tie label), half: 2.5 of 4; in chat 0.5 of 2.
    ECE: confidences 3/4 (credit 1, 1/2, 1 in one bin of three), 1/2 (credit 1/2), 5/8 (credit 0):
    (3 * |5/6 - 3/4| + 0 + 5/8) / 5 = 7/40.
    """
    summary = summarize(RECORDS, FLOORS)
    overall = summary.overall
    assert (overall.n, overall.ties, overall.accuracy.n) == (5, 1, 4)
    assert overall.accuracy.value == 0.625
    assert overall.consistency == 0.5
    assert overall.floors["length"].value == 0.625
    assert summary.position_gap == pytest.approx(3 / 16)
    assert summary.position_gap_size == pytest.approx(3 / 16)
    assert summary.brier == pytest.approx(53 / 320)
    assert summary.ece == pytest.approx(7 / 40)
    chat, math_row = summary.subsets
    assert (chat.subset, chat.n, chat.ties, chat.accuracy.value, chat.consistency) == ("chat", 3, 1, 0.5, 0.5)
    assert (math_row.subset, math_row.n, math_row.ties, math_row.accuracy.value) == ("math", 2, 0, 0.75)
    assert (chat.floors["length"].value, math_row.floors["length"].value) == (0.25, 1.0)


def test_rows_of_one_group_make_the_interval_wider_and_no_other_number_different() -> None:
    """Groups (right, right), (wrong, wrong), (right, wrong) count as 3 independent rows, see test_statistics;
    in another source the same group is another question.
    """
    odds = (1.0, 1.0, -1.0, -1.0, 1.0, -1.0)
    rows = [record(str(k), "", 1.0, x, x) for k, x in enumerate(odds)]
    grouped = [replace(row, group=f"g{k // 2}") for k, row in enumerate(rows)]
    floors = {"length": np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0])}
    plain, wide = summarize(rows, floors).overall, summarize(grouped, floors).overall
    assert (wide.accuracy.low, wide.accuracy.high) == pytest.approx(wilson(0.5, 3.0))
    assert wide.floors["length"] == wide.accuracy
    assert (plain.accuracy.low, plain.accuracy.high) == pytest.approx(wilson(0.5, 6.0))
    assert (wide.accuracy.value, wide.accuracy.n) == (plain.accuracy.value, plain.accuracy.n)
    apart = [replace(row, source=f"file {k % 2}") for k, row in enumerate(grouped)]
    assert summarize(apart).overall.accuracy == plain.accuracy


def test_the_gap_has_a_sign_and_a_size() -> None:
    """Gaps +1/2 and -1/2: mean 0, mean size 1/2."""
    summary = summarize([record("1", "", 1.0, LOG3, -LOG3), record("2", "", 1.0, -LOG3, LOG3)])
    assert summary.position_gap == pytest.approx(0.0)
    assert summary.position_gap_size == pytest.approx(0.5)
    assert summary.subsets == ()


def test_one_order_leaves_consistency_and_gap_open() -> None:
    summary = summarize([record("1", "", 1.0, LOG3, NAN)])
    assert math.isnan(summary.overall.consistency)
    assert math.isnan(summary.position_gap)
    assert summary.to_dict()["position_gap"] is None
    assert "mean -, mean size -" in markdown(summary)


def test_rows_that_are_all_ties_have_no_accuracy() -> None:
    summary = summarize([record("1", "", 0.5, LOG3, LOG3)], {"length": np.array([1.0])})
    assert math.isnan(summary.overall.accuracy.value)
    assert "| **overall** | 1 | **-** | - | 1.000 | - |" in markdown(summary)


def test_order_of_the_records_does_not_matter() -> None:
    turned = summarize(RECORDS[::-1], {"length": FLOORS["length"][::-1]})
    assert markdown(turned) == markdown(summarize(RECORDS, FLOORS))


def test_bad_input() -> None:
    with pytest.raises(DataError, match="no records"):
        summarize([])
    with pytest.raises(DataError, match="'length' has 2 rows, the records 5"):
        summarize(RECORDS, {"length": np.ones(2)})


def test_markdown_shows_everything() -> None:
    """2.5 of 4: Wilson centre (0.625 + 0.480182) / 1.960365 = 0.563763, half width
    sqrt(0.960365 * 0.234375 + 0.230575) / 1.960365 = 0.674921 / 1.960365 = 0.344283.
    """
    text = markdown(summarize(RECORDS, FLOORS), "toy | run")
    lines = text.splitlines()
    assert lines[0] == "## toy | run"
    assert lines[2] == "| subset | n | accuracy | 95% interval | consistency | length |"
    assert lines[4].startswith("| chat | 3 | 0.500 |")
    assert lines[5].startswith("| math | 2 | 0.750 |")
    assert lines[6] == "| **overall** | 5 | **0.625** | 0.219 to 0.908 | 0.500 | 0.625 |"
    assert "1 of 5 rows are labeled ties" in text
    assert "mean +0.188, mean size 0.188" in text
    assert "Brier 0.166" in text
    assert "ECE 0.175" in text
    assert "a\\|b" in markdown(summarize([*RECORDS, record("6", "a|b", 1.0, 1.0, 1.0)]))


def test_report_files(tmp_path: Path) -> None:
    summary = summarize(RECORDS, FLOORS)
    whole = {"model": "m", "loss": NAN, **summary.to_dict()}
    results, report = write_report(tmp_path / "out", whole, markdown(summary, "t"))
    assert report.read_text(encoding="utf-8") == markdown(summary, "t")
    content = json.loads(results.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (content["model"], content["loss"]) == ("m", None)
    assert content["overall"]["accuracy"]["value"] == 0.625
    assert content["overall"]["floors"]["length"]["n"] == 4
    assert [row["subset"] for row in content["subsets"]] == ["chat", "math"]
    before = results.read_bytes()
    write_report(tmp_path / "out", whole, markdown(summary, "t"))
    assert results.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.md", "results.json"]


def test_a_failed_report_leaves_the_old_one(tmp_path: Path) -> None:
    write_report(tmp_path, summarize(RECORDS).to_dict(), "t")
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(TypeError):
        write_report(tmp_path, {"model": object()}, "t")
    assert (tmp_path / "results.json").read_bytes() == before
