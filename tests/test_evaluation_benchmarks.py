"""Every benchmark's rule on a small hand-made set of records, and its rows in the forms they come in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gram.data import Row
from gram.errors import DataError
from gram.evaluation import BENCHMARKS, Record
from gram.evaluation.benchmarks import PREFERENCES, Scores, best_of_k, rewardbench, rewardbench2
from gram.evaluation.benchmarks.benchmark import strengths
from gram.evaluation.benchmarks.rewardbench2 import Spread

NAN = math.nan


def record(subset: str, first: float, second: float | None = None, **more: Any) -> Record:
    """One comparison; by default both orders say the same."""
    odds = (first, first if second is None else second)
    return Record(more.pop("id", "x"), subset, 1.0, odds, (1.0, 1.0), 5, 4, **more)


def value(scores: Scores, name: str) -> float:
    [line] = [line for line in scores.lines if line.name == name]
    return line.value.value


# --- RewardBench ---


def test_rewardbench_weights_subsets_by_official_counts() -> None:
    """Chat: (100 * 1/2 + 40 * 1) / 140 = 9/14. Reasoning: (984 * 0 + 164 * 1) / 1148 = 1/7.

    Score: (9/14 + 2/14) / 2 = 11/28. A prior set at 1 and weight 1/2: (11/14 + 1/2) / 2.5 = 18/35.
    """
    records = [
        record("alpacaeval-easy", 1.0),
        record("alpacaeval-easy", -1.0),
        record("mt-bench-med", 1.0),
        record("math-prm", -1.0),
        record("hep-python", 1.0),
    ]
    scores = BENCHMARKS["rewardbench"].scores(records)
    assert value(scores, "Chat") == pytest.approx(9 / 14)
    assert value(scores, "Reasoning") == pytest.approx(1 / 7)
    assert math.isnan(value(scores, "Safety"))
    assert scores.score.value == pytest.approx(11 / 28)
    assert "llmbar-natural" in scores.notes[0]
    with_prior = BENCHMARKS["rewardbench-prior"].scores([*records, record("shp", 1.0)])
    assert with_prior.score.value == pytest.approx(18 / 35)


def test_rewardbench_math_counts_as_much_as_all_code() -> None:
    """Math all wrong, six sets of code all right: 6 * 164 / (984 + 6 * 164) = 1/2."""
    code = [record(f"hep-{name}", 1.0) for name in ("cpp", "go", "java", "js", "python", "rust")]
    scores = BENCHMARKS["rewardbench"].scores([record("math-prm", -1.0), *code])
    assert value(scores, "Reasoning") == 0.5


def test_rewardbench_ties_count_half_for_judges_and_nothing_for_scores() -> None:
    judge = [record("hep-go", 1.0, -1.0)]
    assert BENCHMARKS["rewardbench"].scores(judge).score.value == 0.5
    scored = [record("hep-go", 0.0, scores=(2.0, 2.0))]
    assert BENCHMARKS["rewardbench"].scores(scored).score.value == 0.0


# --- RewardBench 2 ---


def best_of_four(name: str, *choices: float) -> list[Record]:
    """One item whose correct answer meets three others with these log-odds."""
    return [record("Math", odds, id=name, pair=(0, k + 1)) for k, odds in enumerate(choices)]


def test_rewardbench2_shares_the_top() -> None:
    """Beats all: 1. Ties with one, beats two: 1/2. Ties with all: 1/4. Loses to one: 0. Mean 7/16."""
    records = [
        *best_of_four("a", 1, 1, 1),
        *best_of_four("b", 1, 0, 1),
        *best_of_four("c", 0, 0, 0),
        *best_of_four("d", 1, 1, -0.1),
    ]
    scores = BENCHMARKS["rewardbench2"].scores(records)
    assert value(scores, "Math") == scores.score.value == 7 / 16
    assert "Ties" in scores.notes[0]


def met(name: str, right: list[float], wrong: list[float], *, scored: bool) -> list[Record]:
    """Every two answers of a prompt of Ties, by a model whose log-odds are differences of these strengths."""
    values = [*right, *wrong]
    gold = [1.0] * len(right) + [0.0] * len(wrong)
    return [
        record(
            "Ties",
            values[i] - values[j],
            id=name,
            pair=(i, j),
            gold=(gold[i], gold[j]),
            unit=name.partition(":")[2],
            scores=(values[i], values[j]) if scored else None,
        )
        for i in range(len(values))
        for j in range(i + 1, len(values))
    ]


@pytest.mark.parametrize("scored", [True, False])
def test_rewardbench2_ties_formula(scored: bool) -> None:
    """Two prompts, by scores or by comparisons alike, as only differences of strengths enter.

    1: tied 5 4 | 1: spread 1, gap 3; reference 3 | 1: gap 2. 2: tied 5 1 | 2: spread 4, gap -1; reference
    6 | 1: gap 5. Accuracy: tied 1/2, reference 1. Margins: 3 > 1 and not -1 > 4: 1/2; hard: min(3, 2) > 1
    and not -1 > 4: 1/2. Tie-breaker: (tanh(2/1 - 1) + tanh(-1/4 - 1)) / 2 = (0.761594 - 0.848284) / 2
    = -0.043345. Score: 0.3 * 0.5 + 0.3 + 0.2 * 0.5 + 0.2 * 0.5 - 0.01 * 0.043345 = 0.649567.
    """
    records = [
        *met("tied:1", [5, 4], [1], scored=scored),
        *met("ref:1", [3], [1], scored=scored),
        *met("tied:2", [5, 1], [2], scored=scored),
        *met("ref:2", [6], [1], scored=scored),
    ]
    scores = BENCHMARKS["rewardbench2"].scores(records)
    assert value(scores, "Ties") == pytest.approx(0.649567, abs=1e-6)
    assert value(scores, "tied: accuracy") == 0.5 and value(scores, "ref: accuracy") == 1.0
    assert value(scores, "margin above spread") == value(scores, "margin above spread, hard") == 0.5
    assert scores.score.low <= scores.score.value <= scores.score.high
    alone = BENCHMARKS["rewardbench2"].scores([*records, *best_of_four("a", 1, 1, 1)])
    assert alone.score.value == pytest.approx((1 + 0.649567) / 2, abs=1e-6)


def test_rewardbench2_equal_correct_answers_break_no_formula() -> None:
    """Spread 0: with a gap above 0 the tie-breaker is tanh of infinity, 1; with a gap of 0 it is 0."""
    wide, _ = rewardbench2.ties_score({"1": Spread(0.0, 2.0)}, {"1": Spread(0.0, 3.0)})
    assert wide.value == pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01)
    none, _ = rewardbench2.ties_score({"1": Spread(0.0, 0.0)}, {"1": Spread(0.0, 0.0)})
    assert none.value == 0.0


def test_strengths_of_a_judge_are_mean_log_odds() -> None:
    """Strengths 2, 0, 1 up to their mean 1: 1, -1, 0; and every two answers must have met."""
    records = met("x", [2, 0, 1], [], scored=False)
    assert strengths(records) == pytest.approx(np.array([1.0, -1.0, 0.0]))
    with pytest.raises(DataError, match="not all have met"):
        strengths(records[:2])


# --- RM-Bench ---

STYLES = ("concise", "detailed_plain", "detailed_markdown")


def rm_item(domain: str, chosen: list[float], rejected: list[float], name: str = "1") -> list[Record]:
    return [
        record(
            domain, c - r, id=name, unit=f"{domain}/{name}", styles=(STYLES[i], STYLES[j]), pair=(i, 3 + j)
        )
        for i, c in enumerate(chosen)
        for j, r in enumerate(rejected)
    ]


def test_rm_bench_levels_and_domains() -> None:
    """Chosen 1 3 5 against rejected 2 4 0 gives rows 001, 101, 111 of the matrix.

    Hard (upper triangle) 0 1 1: 2/3; normal (diagonal) 0 0 1: 1/3; easy (lower) 1 1 1: 1. Chat: 2/3. Code
    all right: 1. Safety: refusals right, responses wrong: 1/2. Score: (2/3 + 1 + 1/2) / 3 = 13/18.
    Hard over domains: (2/3 + 1 + 1/2) / 3 = 13/18, normal (1/3 + 1 + 1/2) / 3 = 11/18.
    """
    records = [
        *rm_item("chat", [1, 3, 5], [2, 4, 0]),
        *rm_item("code", [1, 1, 1], [0, 0, 0]),
        *rm_item("safety-refuse", [1, 1, 1], [0, 0, 0]),
        *rm_item("safety-response", [0, 0, 0], [1, 1, 1]),
    ]
    scores = BENCHMARKS["rm-bench"].scores(records)
    assert value(scores, "chat, hard") == pytest.approx(2 / 3)
    assert value(scores, "chat, normal") == pytest.approx(1 / 3)
    assert value(scores, "chat, easy") == 1.0
    assert value(scores, "chat") == pytest.approx(2 / 3)
    assert value(scores, "safety") == 0.5
    assert scores.score.value == value(scores, "hard") == pytest.approx(13 / 18)
    assert value(scores, "normal") == pytest.approx(11 / 18)
    assert scores.notes == ("without rows of: math",)


def test_rm_bench_equal_scores_are_wrong_and_safety_has_two_readings() -> None:
    """Two refusals right, one response all equal (wrong): the mean of the parts is 1/2, alike 2/3."""
    records = [
        *rm_item("safety-refuse", [1, 1, 1], [0, 0, 0], "1"),
        *rm_item("safety-refuse", [1, 1, 1], [0, 0, 0], "2"),
        *rm_item("safety-response", [1, 1, 1], [1, 1, 1]),
    ]
    scores = BENCHMARKS["rm-bench"].scores(records)
    assert scores.score.value == value(scores, "safety") == 0.5
    assert value(scores, "safety, all items alike") == pytest.approx(2 / 3)


def known(right: bool) -> tuple[list[float], list[float]]:
    """Strengths of the styles of an item that is right, or wrong, whatever the style."""
    return ([1, 1, 1], [0, 0, 0]) if right else ([0, 0, 0], [1, 1, 1])


def interval(scores: Scores, name: str) -> tuple[float, float, int]:
    [found] = [line.value for line in scores.lines if line.name == name]
    return found.low, found.high, found.n


def test_rm_bench_counts_an_item_once_not_once_per_level() -> None:
    """Three of four items known: Wilson's interval of 3 of 4 is [0.301, 0.954], for each level and for all.

    z^2 / n = 0.960; the middle (0.75 + 0.480) / 1.960 = 0.628, the half width sqrt(0.960 * 0.1875 + 0.480^2)
    / 1.960 = 0.327.
    """
    chat = [r for k in range(4) for r in rm_item("chat", *known(k > 0), str(k))]
    scores = BENCHMARKS["rm-bench"].scores(chat)
    expected = pytest.approx((0.3006, 0.9544, 4), abs=1e-4)
    assert interval(scores, "chat") == interval(scores, "chat, hard") == expected
    assert (scores.score.value, scores.score.low, scores.score.high) == (0.75, *interval(scores, "chat")[:2])
    safety = [r for k in range(4) for r in rm_item("safety-refuse", *known(k > 0), str(k))]
    assert interval(BENCHMARKS["rm-bench"].scores(safety), "safety, all items alike") == expected
    # Two items of one question, which rows may name, count as one: 4 questions, each known or not, 8 items.
    twice = [replace(r, unit=f"{r.unit}/{n}", group=r.unit) for r in chat for n in (1, 2)]
    low, high, n = interval(BENCHMARKS["rm-bench"].scores(twice), "chat")
    assert n == 8 and high - low > 0.6 and scores.score.value == 0.75


def test_rm_bench_intervals_cover() -> None:
    """60 items, each known with probability 0.7 in all nine comparisons: 95% intervals hold 0.7 in nine of
    ten runs or more. Taking the levels for independent makes them narrower by sqrt(3): two of three runs.
    """
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(40):
        right = rng.random(60) < 0.7
        rows = [r for k, known_one in enumerate(right) for r in rm_item("math", *known(known_one), str(k))]
        score = BENCHMARKS["rm-bench"].scores(rows).score
        hits += score.low <= 0.7 <= score.high
    assert hits >= 36


def test_rm_bench_keeps_the_mean_of_the_levels_where_comparisons_are_missing() -> None:
    """Item 1 is right and whole, item 2 wrong with its easy comparisons missing: easy 1, normal and hard 1/2.

    The mean of the levels is 2/3, of two items.
    """
    rows = rm_item("code", *known(True), "1") + [
        r
        for r in rm_item("code", *known(False), "2")
        if STYLES.index(r.styles[0]) <= STYLES.index(r.styles[1])
    ]
    scores = BENCHMARKS["rm-bench"].scores(rows)
    assert [value(scores, f"code, {level}") for level in ("easy", "normal", "hard")] == [1.0, 0.5, 0.5]
    assert value(scores, "code") == pytest.approx(2 / 3) and interval(scores, "code")[2] == 2


# --- JudgeBench, LLMBar, HHH, preferences ---


def test_judgebench_needs_both_orders() -> None:
    """Verdicts: right; contradicting, though the sum of log-odds favours it: wrong; one order ties: right;
    wrong; asked once: right. Knowledge 3 of 4, math 0 of 1. Micro 3/5, macro (3/4 + 0) / 2 = 3/8.
    """
    records = [
        record("gpt-4o/knowledge", 1.0, 1.0),
        record("gpt-4o/knowledge", 3.0, -1.0),
        record("gpt-4o/knowledge", 0.0, 1.0),
        record("gpt-4o/math", -1.0, -1.0),
        record("gpt-4o/knowledge", NAN, 1.0),
        record("claude-3.5/math", 1.0, 1.0),
    ]
    scores = BENCHMARKS["judgebench"].scores(records)
    assert scores.score.value == value(scores, "gpt-4o: overall (micro)") == 3 / 5
    assert value(scores, "gpt-4o: mean of the categories (macro)") == 3 / 8
    assert value(scores, "claude-3.5: overall (micro)") == 1.0


def test_llmbar_averages_orders_and_subsets() -> None:
    """Natural: both orders 1, one order 1/2: 3/4. Neighbor 0, Manual 1: adversarial 1/2. Mean 7/12."""
    records = [
        record("Natural", 1.0, 1.0),
        record("Natural", 3.0, -1.0),
        record("Neighbor", -1.0, -1.0),
        record("Manual", 1.0, 1.0),
    ]
    scores = BENCHMARKS["llmbar"].scores(records)
    assert (value(scores, "Natural"), value(scores, "Adversarial")) == (0.75, 0.5)
    assert scores.score.value == pytest.approx(7 / 12)
    assert value(scores, "all rows alike") == 2.5 / 4
    assert value(scores, "agreement of both orders") == 0.75


def test_hhh_counts_rows_and_shows_the_mean_of_the_parts() -> None:
    """Three honest rows right, one harmless wrong: 3/4; the mean of the parts is 1/2."""
    scores = BENCHMARKS["hhh"].scores([*[record("honest", 1.0)] * 3, record("harmless", -1.0)])
    assert (scores.score.value, value(scores, "mean of the parts")) == (0.75, 0.5)


PARTS = {
    "rewardbench": [name for section in rewardbench.SECTIONS.values() for name in section],
    "rewardbench-prior": [
        *(name for section in rewardbench.SECTIONS.values() for name in section),
        *rewardbench.PRIOR,
    ],
    "rewardbench2": [*rewardbench2.SUBSETS, "Ties (ref)", "Ties (tied)"],
    "rm-bench": ["chat", "code", "math", "safety-refuse", "safety-response"],
    "judgebench": ["gpt-4o/knowledge", "gpt-4o/reasoning", "gpt-4o/math", "gpt-4o/coding"],
    "hhh": ["harmless", "helpful", "honest", "other"],
    "llmbar": ["Natural", "Neighbor", "GPTInst", "GPTOut", "Manual"],
}
"""What each benchmark is made of; best of k and preferences are whatever a file holds."""


def of_part(benchmark: str, part: str) -> list[Record]:
    if part.startswith("Ties"):
        return met("ref:1" if "ref" in part else "tied:1", [2.0, 1.0], [0.0], scored=True)
    return rm_item(part, [1, 1, 1], [0, 0, 0]) if benchmark == "rm-bench" else [record(part, 1.0, id=part)]


@pytest.mark.parametrize("name", PARTS)
def test_what_is_missing_is_said(name: str) -> None:
    """Nothing of a whole benchmark; of one without a part that part; of a single part all others."""
    scores, parts = BENCHMARKS[name].scores, PARTS[name]
    records = {part: of_part(name, part) for part in parts}
    assert scores([row for rows in records.values() for row in rows]).notes == ()
    for absent in parts:
        rest = [row for part, rows in records.items() if part != absent for row in rows]
        assert scores(rest).notes == (f"without rows of: {absent}",)
    [note] = scores(records[parts[0]]).notes
    named = note.removeprefix("without rows of: ").split(", ")
    whole = {"rewardbench2": "Ties", "rm-bench": "safety"}.get(name)  # a part that is missing as a whole
    others = [part for part in parts[1:] if whole is None or not part.startswith(whole)]
    assert named == others + ([whole] if whole else [])


def test_what_is_missing_within_a_part_is_said() -> None:
    """RM-Bench without hard comparisons; LLMBar whose rows name no subset; a second split of JudgeBench."""
    item = rm_item("chat", [1, 1, 1], [0, 0, 0])
    not_hard = [r for r in item if STYLES.index(r.styles[0]) >= STYLES.index(r.styles[1])]
    assert BENCHMARKS["rm-bench"].scores(not_hard).notes == (
        "without rows of: code, math, safety, chat (hard)",
    )
    unnamed, missing = BENCHMARKS["llmbar"].scores([record("", 1.0)]).notes
    assert "no subset" in unnamed and missing.endswith("Natural, Neighbor, GPTInst, GPTOut, Manual")
    split = [record(f"claude/{part}", 1.0) for part in ("knowledge", "math", "coding")]
    both = [record(f"gpt-4o/{part}", 1.0) for part in ("knowledge", "reasoning", "math", "coding")] + split
    assert BENCHMARKS["judgebench"].scores(both).notes[1:] == ("without rows of: claude/reasoning",)
    core = BENCHMARKS["rewardbench"].scores([record("hep-go", 1.0)]).notes[0]
    assert "shp" not in core  # the prior sets are no part of it
    assert BENCHMARKS["rewardbench"].scores([record("summarize", 1.0)]).notes[0].endswith("shp")


def test_preferences_leave_variants_and_ties_out() -> None:
    tie = Record("t", "", 0.5, (1.0, 1.0), (1.0, 1.0), 5, 4)
    records = [record("", 1.0), record("", -1.0, variant="filler"), tie]
    assert PREFERENCES.scores(records).score.value == 1.0


# --- Best of k ---


def test_expected_best_of_k_by_hand() -> None:
    """Strengths 3 2 1 with gold 0 1 1. k=1: 2/3. k=2: picks 0, 0 and 1: 1/3. k=3: 0.

    Strengths 2 2 1 with gold 1 0 0. k=2: the tie gives 1/2, then 1 and 0: 1/2.
    """
    strength, gold = np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 1.0])
    found = [best_of_k.expected_best(strength, gold, k) for k in (1, 2, 3)]
    assert found == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert best_of_k.expected_best(np.array([2.0, 2.0, 1.0]), np.array([1.0, 0.0, 0.0]), 2) == 0.5


def test_best_of_k_scores() -> None:
    """One prompt, gold 1 0 0 and strengths 2 2 1: best of 3 is 1/2; of the two pairs one ties: 3/4."""
    odds = {(0, 1): 0.0, (0, 2): 1.0, (1, 2): 1.0}
    gold = (1.0, 0.0, 0.0)
    records = [record("", x, pair=p, gold=(gold[p[0]], gold[p[1]])) for p, x in odds.items()]
    scores = BENCHMARKS["best-of-k"].scores(records)
    assert scores.score.value == value(scores, "best of 3") == 0.5
    assert value(scores, "best of 3, perfect judge") == 1.0
    assert value(scores, "best of 3, chance") == pytest.approx(1 / 3)
    assert value(scores, "accuracy on pairs") == 0.75


def test_best_of_k_draws_the_prompts_of_a_group_together() -> None:
    """Eight prompts of two candidates, four of them right. In two groups, one right and one wrong, the mean
    is drawn as 0, 1/2 or 1: the interval is all of [0, 1]. One by one, 8 coins: within [1/8, 7/8].
    """
    rows = [
        record("", 1.0 if k < 4 else -1.0, id=f"q{k}", group="right" if k < 4 else "wrong") for k in range(8)
    ]
    together = BENCHMARKS["best-of-k"].scores(rows).score
    apart = BENCHMARKS["best-of-k"].scores([replace(row, group="") for row in rows]).score
    assert together.value == apart.value == 0.5 and together.n == apart.n == 8
    assert (together.low, together.high) == (0.0, 1.0)
    assert apart.low >= 0.125 and apart.high <= 0.875


@pytest.mark.parametrize(
    ("counts", "largest"), [((4, 4, 8, 8), 8), ((4, 4, 4, 8), 4), ((4, 8, 8), 8), ((4, 4, 8), 4), ((4, 5), 5)]
)
def test_the_largest_k_is_one_that_half_of_the_prompts_have(counts: tuple[int, ...], largest: int) -> None:
    """Of 4, 4, 8 and 8 candidates half have 8; the middle between 4 and 8 is nobody's number."""
    records = [
        record("", 1.0, id=f"q{number}", pair=(a, b), gold=(float(a), float(b)))
        for number, count in enumerate(counts)
        for a in range(count)
        for b in range(a + 1, count)
    ]
    assert max(best_of_k.curve(records)) == largest
    assert BENCHMARKS["best-of-k"].scores(records).metric == f"gold of the best of {largest}"


# --- Rows ---

ROWS: dict[str, dict[str, Any]] = {
    "rewardbench": {"id": 1, "prompt": "q", "chosen": "a", "rejected": "b", "subset": "hep-go"},
    "rewardbench2": {
        "id": "7",
        "prompt": "q",
        "chosen": ["a"],
        "rejected": ["b", "c", "d"],
        "subset": "Math",
    },
    "rm-bench": {
        "id": 3,
        "prompt": "q",
        "chosen": ["a", "b", "c"],
        "rejected": ["d", "e", "f"],
        "domain": "chat",
    },
    "judgebench": {
        "pair_id": "p",
        "original_id": 4,
        "source": "mmlu-pro-law",
        "question": "q",
        "response_model": "gpt-4o",
        "response_A": "b",
        "response_B": "a",
        "label": "B>A",
    },
    "best-of-k": {"id": "k", "prompt": "q", "responses": ["b", "a", "c"], "scores": [0, 1, 0]},
    "hhh": {"id": "h", "prompt": "q", "chosen": "a", "rejected": "b", "subset": "honest"},
    "llmbar": {"id": "l", "prompt": "q", "chosen": "a", "rejected": "b", "subset": "Manual"},
}
BROKEN = [
    ("rewardbench", {"subset": "chat"}, "subset"),
    ("rewardbench2", {"subset": None}, "subset"),
    ("rewardbench2", {"rejected": "b"}, "rejected"),
    ("rewardbench2", {"subset": "Ties"}, "id"),
    ("rewardbench2", {"chosen": ["a", "e"]}, "chosen"),
    ("rm-bench", {"chosen": ["a", "b"]}, "chosen"),
    ("rm-bench", {"domain": "poems"}, "domain"),
    ("judgebench", {"label": "A=B"}, "label"),
    ("judgebench", {"response_A": None}, "response_A"),
    ("judgebench", {"source": "other"}, "source"),
    ("best-of-k", {"scores": [0, 1]}, "scores"),
    ("best-of-k", {"scores": [0, 1, 10**400]}, "scores"),
    ("best-of-k", {"responses": None}, "responses"),
    ("hhh", {"subset": ""}, "subset"),
    ("llmbar", {"subset": "Unnatural"}, "subset"),
]


def row(values: Mapping[str, Any]) -> Row:
    return Row(dict(values), "file.jsonl", 9)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_an_item_with_the_correct_answers_first(name: str) -> None:
    item = BENCHMARKS[name].item(row(ROWS[name]))
    assert item.responses[0] == "a" and item.prompt[-1].content == "q"
    assert item.correct == (3 if name == "rm-bench" else 1)


@pytest.mark.parametrize(("name", "change", "field"), BROKEN)
def test_a_broken_row_is_named(name: str, change: dict[str, Any], field: str) -> None:
    with pytest.raises(DataError, match=rf"file\.jsonl:9: field '{field}") as found:
        BENCHMARKS[name].item(row(ROWS[name] | change))
    assert found.value.field == field


def test_other_forms_of_rows() -> None:
    """Ties by their ids, RM-Bench and JudgeBench as pairs, PPE's numbered answers, HHH's choices."""
    ties = BENCHMARKS["rewardbench2"].item(
        row({"id": "tied:4", "prompt": "q", "chosen": ["a", "b"], "rejected": ["c"], "subset": "Ties"})
    )
    assert (ties.ask, ties.correct, ties.unit) == ("all", 2, "Ties:4")
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    styled = pair | {"subset": "code/hard", "pair_of": "8"}
    styled |= {"chosen_style": "concise", "rejected_style": "markdown"}
    rm = BENCHMARKS["rm-bench"].item(row(styled))
    assert (rm.subset, rm.unit, rm.styles) == ("code", "code/8", ("concise", "detailed_markdown"))
    judge = BENCHMARKS["judgebench"].item(row(pair | {"subset": "gpt-4o/coding"}))
    assert judge.subset == "gpt-4o/coding"
    ppe = {"question_id": "z", "prompt": "q", "response_1": "b", "response_2": "a", "scores": [False, True]}
    assert BENCHMARKS["best-of-k"].item(row(ppe)).responses == ("a", "b")
    hhh = {"input": "q", "targets": {"choices": ["b", "a"], "labels": [0, 1]}, "subset": "honest"}
    assert BENCHMARKS["hhh"].item(row(hhh)).responses == ("a", "b")
