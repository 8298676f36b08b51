"""Bias, calibration, perturbations and the pieces of items: numbers derived by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gram.errors import ConfigError, DataError
from gram.evaluation import Estimate, Record, bias, fit_temperature
from gram.evaluation.bands import tie_band
from gram.evaluation.bias import degradation, styles
from gram.evaluation.items import Item, item_of, named, preferences_of, sample
from gram.evaluation.sources import load, parse
from gram.evaluation.texts import FILLER, filler, markdown, perturbed, repetition, whitespace
from gram.statistics import mean, weighted
from gram.types import Pair, Preference, as_chat

NAN = math.nan


def record(first: float, second: float, length_a: int = 5, length_b: int = 5, **more: Any) -> Record:
    return Record(more.pop("id", "x"), "", 1.0, (first, second), (1.0, 1.0), length_a, length_b, **more)


# --- Position, length, repetition, truncation, style ---


def test_first_place_reads_single_verdicts() -> None:
    """(1, -1): a first wins, b first wins: 2 of 2. (1, 1): 1 of 2. (0, -): half of 1. Together 3.5 of 5."""
    found = bias([record(1.0, -1.0), record(1.0, 1.0), record(0.0, NAN)])
    assert (found.first_place.value, found.first_place.n) == (3.5 / 5, 5)


def test_slope_of_the_margin_on_the_doubling_of_length() -> None:
    """Length ratios 2, 1, 1/2 are 1, 0, -1 doublings; margins 3, 1, -1 lie on 1 + 2x without residual."""
    found = bias([record(3, 3, 8, 4, id="1"), record(1, 1, id="2"), record(-1, -1, 4, 8, id="3")])
    assert found.slope == pytest.approx(2.0)
    assert found.slope_low == found.slope_high == pytest.approx(2.0)
    assert math.isnan(bias([record(1, 1)] * 5).slope)


def four_rows(*groups: str) -> list[Record]:
    """x = -1, -1, 1, 1 doublings and margins y = 0, 2, 2, 4."""
    lengths = [(4, 8), (4, 8), (8, 4), (8, 4)]
    return [
        record(y, y, *length, id=str(k), group=group)
        for k, (y, length, group) in enumerate(zip((0, 2, 2, 4), lengths, groups, strict=True))
    ]


@pytest.mark.parametrize(
    ("groups", "variance"),
    [("1234", 4 * 4 / 2 / 16), ("1221", 8 * 2 * 3 / 2 / 16), ("1122", 0.0), ("1111", NAN)],
)
def test_slope_interval_by_hand(groups: str, variance: float) -> None:
    """Slope 1, residuals e = -1, 1, -1, 1, so x e = 1, -1, -1, 1, and the sum of squares of x is 4.

    Each row by itself: sum (x e)^2 = 4, times n / (n - 2) = 4 / 2, over 4^2: 1/2. Rows 1 and 4 in a cluster,
    and 2 and 3: their sums are 2 and -2, so 8, times g / (g - 1) (n - 1) / (n - 2) = 2 * 3 / 2, over 4^2:
    3/2. Rows 1 and 2, and 3 and 4: the sums are 0. One cluster tells nothing of the spread between clusters.
    """
    found = bias(four_rows(*groups))
    assert found.slope == pytest.approx(1.0)
    for half in (found.slope_high - found.slope, found.slope - found.slope_low):
        assert half == pytest.approx(1.959964 * math.sqrt(variance), abs=1e-5, nan_ok=True)


def test_the_slope_interval_covers_where_answers_meet_many_others() -> None:
    """Strengths know nothing of lengths, so the slope is 0. Six answers to a prompt meet in 15 comparisons,
    which share answers; as independent rows their interval holds 0 in two of three runs.
    """
    rng = np.random.default_rng(0)
    hits = {"": 0, "apart": 0}
    for _ in range(50):
        rows = []
        for prompt in range(25):
            strength, length = 2 * rng.normal(size=6), rng.integers(50, 800, size=6)
            for i, j in itertools.combinations(range(6), 2):
                margin = float(strength[i] - strength[j])
                rows.append(
                    record(margin, margin, int(length[i]), int(length[j]), id=f"{prompt}", pair=(i, j))
                )
        apart = [replace(row, group=str(k)) for k, row in enumerate(rows)]
        for name, tried in (("", rows), ("apart", apart)):
            found = bias(tried)
            hits[name] += found.slope_low <= 0 <= found.slope_high
    assert hits[""] >= 44 and hits["apart"] <= 40, hits


def test_longer_and_length_bins() -> None:
    """a longer wins; a half as long wins (the shorter is favoured); equal lengths say nothing: 1/2."""
    found = bias([record(1, 1, 10, 5), record(1, 1, 4, 8), record(-1, -1)])
    assert (found.longer.value, found.longer.n) == (0.5, 2)
    bins = [(b.low, b.high, b.accuracy.value, b.accuracy.n) for b in found.by_length]
    assert bins == [(-0.5, -0.1, 1.0, 1), (-0.1, 0.1, 0.0, 1), (0.5, 1.0, 1.0, 1)]


def test_repetition_and_truncation_counts() -> None:
    """Two comparisons share the repetitive answer 0 of x: it counts once. b of y repeats more and wins."""
    found = bias(
        [
            record(1, 1, repetition=(0.5, 0.0), pair=(0, 1), truncated=0),
            record(1, 1, repetition=(0.5, 0.45), pair=(0, 2), truncated=7),
            record(-1, -1, repetition=(0.0, 0.15), id="y", truncated=5),
        ]
    )
    assert found.repetitive == 2
    assert (found.more_repetitive.value, found.more_repetitive.n) == (1.0, 2)
    assert (found.truncated, found.tokens_cut) == (2, 12)
    assert (found.accuracy_cut.value, found.accuracy_cut.n) == (0.5, 2)
    assert math.isnan(bias([record(1, 1)]).truncated)


def test_repetition_of_texts() -> None:
    """a b c d a b c d: runs abcd bcda cdab dabc abcd: 4 of 5 differ. Under five words nothing can repeat."""
    assert repetition("a b c d a b c d") == pytest.approx(0.2)
    assert repetition("one two three four") == 0.0
    assert repetition("no " * 103) == pytest.approx(0.99)


def test_styles_in_their_order() -> None:
    cells = styles([record(1, 1, styles=("plain", "rich")), record(-1, -1, styles=("plain", "rich"))])
    assert [(cell.better, cell.worse, cell.accuracy.value) for cell in cells] == [("plain", "rich", 0.5)]


# --- Perturbations ---


def test_perturbations_keep_the_words() -> None:
    text = "First line is long.\n\nSecond."
    assert whitespace(text).split() == text.split()
    assert markdown(text) == "## Answer\n\n- **First line is** long.\n- **Second.**"
    assert filler(text) == text + FILLER


def test_only_worse_answers_of_cross_items_are_dressed_up() -> None:
    item = Item("x", as_chat("q"), ("good", "bad", "worse"))
    [changed] = perturbed([item, replace(item, ask="all")], ["filler", "filler"])
    assert changed.variant == "filler" and changed.id == "x"
    assert changed.responses == ("good", "bad" + FILLER, "worse" + FILLER)
    with pytest.raises(ConfigError, match="no perturbation 'glitter'"):
        perturbed([item], ["glitter"])
    with pytest.raises(ConfigError, match="there are none here"):
        perturbed([replace(item, ask="all")], ["filler"])
    assert perturbed([replace(item, ask="all")], []) == []


def test_degradation_is_paired() -> None:
    """Before: right, right. After: right, wrong: difference -1/2; margins 1 -> 2 and 1 -> -1: mean -1/2."""
    plain = [record(1, 1, id="a"), record(1, 1, id="b")]
    changed = [record(2, 2, id="a", variant="filler"), record(-1, -1, id="b", variant="filler")]
    [found] = degradation([*plain, *changed])
    assert (found.before.value, found.after.value) == (1.0, 0.5)
    assert (found.difference.difference, found.difference.n, found.margin) == (-0.5, 2, -0.5)


# --- Calibration, bands, weighted means ---


def test_temperature_has_a_closed_form_for_one_size_of_log_odds() -> None:
    """All log-odds of size 2, three of four right: best is sigmoid(2 / T) = 3/4, so T = 2 / ln 3."""
    rows = [record(2, 2)] * 3 + [record(-2, -2)]
    found = fit_temperature(rows)
    assert found.temperature == pytest.approx(2 / math.log(3), rel=1e-6)
    assert found.log_loss_after < found.log_loss_before
    assert found.ece_after == pytest.approx(0.0, abs=1e-6) and found.n == 4


@pytest.mark.parametrize("size", [1e-4, 0.01, 40.0, 3000.0])
def test_a_temperature_has_the_scale_of_the_log_odds(size: float) -> None:
    """As above with log-odds of any size: best is size / ln 3, and the log loss is that of saying 3/4.

    It is -(3 ln(3/4) + ln(1/4)) / 4 = 0.562, below ln 2, which a range that ends at 100 misses for 3000.
    """
    rows = [record(size, size)] * 3 + [record(-size, -size)]
    found = fit_temperature(rows)
    assert found.temperature == pytest.approx(size / math.log(3), rel=1e-6)
    assert found.log_loss_after == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)


def test_one_order_and_both_have_the_same_best_temperature_where_they_agree() -> None:
    both = fit_temperature([record(5, 5), record(5, 5), record(-5, -5)])
    one = fit_temperature([record(5, math.nan), record(math.nan, 5), record(-5, math.nan)])
    assert one.temperature == pytest.approx(both.temperature) == pytest.approx(5 / math.log(2))


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        ([record(1, 1)] * 3, "right on 3, wrong on 0 and tied on 0; the smaller it is"),
        ([record(1, 1)] * 9 + [record(0, 0)], "right on 9, wrong on 0 and tied on 1; the smaller it is"),
        ([record(0, 0)] * 2, "right on 0, wrong on 0 and tied on 2; the smaller it is"),
        ([record(-1, -1)] * 9, "right on 0, wrong on 9 and tied on 0; always saying 0.5 is better"),
        ([record(1, 1), record(-2, -2)], "right on 1, wrong on 1 and tied on 0; always saying 0.5 is better"),
    ],
)
def test_where_no_temperature_is_best_none_is_fitted(rows: list[Record], seen: str) -> None:
    """Where nothing is wrong the loss falls towards temperature 0. Log-odds 1 right and 2 wrong: the loss is
    (ln(1 + e^-b) + ln(1 + e^2b)) / 2 for b = 1/T, with the slope (-1 + 2) / 4 at b = 0: best is b = 0.
    """
    with pytest.raises(DataError, match=seen):
        fit_temperature(rows)


def test_a_temperature_needs_rows() -> None:
    with pytest.raises(DataError, match="no records"):
        fit_temperature([])


def test_tie_band_by_hand() -> None:
    """Within 0.1 of 1/2: 0.55 and 0.42, of five: 2/5. Outside: 0.9 right, 0.2 wrong: 1/2. The tie at 0.42
    is found, the one at 0.7 is not: 1/2.
    """
    found = tie_band(np.array([0.55, 0.42, 0.9, 0.2, 0.7]), np.array([1, 0.5, 1, 1, 0.5]), 0.1)
    assert (found.tied, found.accuracy.value, found.accuracy.n, found.found) == (0.4, 0.5, 2, 0.5)


def test_weighted_mean_adds_distances_in_squares() -> None:
    """Values 1/2 and 1, weights equal: 3/4; below sqrt(0.05^2 + 0.1^2), above 0.05. No items: no weight."""
    parts = [(2.0, Estimate(0.5, 0.4, 0.6, 10)), (2.0, Estimate(1.0, 0.8, 1.0, 5))]
    found = weighted([*parts, (9.0, Estimate(NAN, 0, 1, 0))])
    assert (found.value, found.n) == (0.75, 15)
    assert found.low == pytest.approx(0.75 - math.sqrt(0.0125)) and found.high == pytest.approx(0.8)
    assert math.isnan(weighted([]).value) and math.isnan(mean(np.empty(0)).value)


# --- Items and sources ---


def test_the_better_answer_comes_first_and_the_label_turns_with_it() -> None:
    item = item_of(Preference(Pair("q", "worse", "better"), 0.2, "i"))
    assert item.responses == ("better", "worse") and item.label == 0.8
    assert item_of(Preference(Pair("q", "a", "b"), 0.5)).label_of(0, 1) == 0.5
    assert [p.p_a for p in preferences_of([item])] == [0.8]


def test_items_that_make_no_sense() -> None:
    with pytest.raises(DataError, match="at least two"):
        Item("x", as_chat("q"), ("a",))
    with pytest.raises(DataError, match="no wrong answer"):
        Item("x", as_chat("q"), ("a", "b"), correct=2)
    with pytest.raises(DataError, match="descending order"):
        Item("x", as_chat("q"), ("a", "b"), ask="all", gold=(0.0, 1.0))


def test_names_are_unique_and_samples_nest_and_keep_units() -> None:
    items = [Item(name, as_chat("q"), ("a", "b"), unit=unit) for name, unit in zip("aab", "uuv", strict=True)]
    assert [item.id for item in named(items)] == ["a", "a#2", "b"]
    assert [item.id for item in named([replace(items[0], id="")])] == ["number 1"]
    names = ["x", "x#2", "x", "x", "x#2"]  # a row's own name may be one that a second x would get
    assert [item.id for item in named([replace(items[0], id=name) for name in names])] == [
        *("x", "x#2", "x#3", "x#4", "x#2#2")
    ]
    assert len(sample(items, 1, 0)) in (1, 2)
    many = [Item(str(k), as_chat("q"), ("a", "b")) for k in range(50)]
    small, large = sample(many, 10, 3), sample(many, 20, 3)
    assert len(small) == 10 and {i.id for i in small} < {i.id for i in large}
    assert sample(many, 10, 4) != small and sample(many, None, 0) == many
    with pytest.raises(ConfigError, match="at least 1"):
        sample(many, 0, 0)


def test_sources_are_parsed() -> None:
    found = parse(["rewardbench", "rm-bench=x.json,y.json", "a/b.jsonl.gz::test", "c/b.jsonl"])
    assert [source.name for source in found] == ["rewardbench", "rm-bench", "b", "b#2"]
    assert found[0].files == (("allenai/reward-bench::filtered", ""),)
    assert [file for file, _ in found[1].files] == ["x.json", "y.json"]
    with pytest.raises(ConfigError, match="no such benchmark or file; benchmarks are: rewardbench"):
        parse(["rewardbnech"])
    with pytest.raises(ConfigError, match="no such benchmark"):
        parse(["rewardbnech=x.json"])
    with pytest.raises(ConfigError, match="give llmbar=FILE"):
        parse(["llmbar"])
    with pytest.raises(ConfigError, match="name a file"):
        parse(["hhh="])


def test_a_subset_given_with_the_source_wins(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "q", "chosen": "a", "rejected": "b", "subset": "inner"}\n')
    [source] = parse([f"rewardbench-prior={path}"])
    found = load(replace(source, files=((str(path), "shp"),)))
    assert [(item.subset, item.source) for item in found.items] == [("shp", "rewardbench-prior")]
