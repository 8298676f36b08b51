"""What the ranking experiments compute: numbers by hand, with judges whose opinions are known."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from experiments.rank_candidates import rows, table, write
from experiments.ranking_report import summary
from experiments.ranking_study import Memory, Pool, best_of_n, ensemble, one_row_a_line, real_pools, schedules

from gram.statistics import over_seeds
from gram.types import Contest, Pair, as_chat
from oracles import NumberJudge


def pool(*gold: float) -> Pool:
    """Answers that say their gold."""
    return Pool(Contest(as_chat("q"), tuple(f"{value:g}" for value in gold)), np.array(gold))


def test_over_seeds_by_hand() -> None:
    """1, 2, 3: mean 2, standard deviation 1, t(2) = 4.30: 2 ± 4.30 / sqrt(3) = 2 ± 2.4826."""
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.value, found.low, found.high) == pytest.approx((2, -0.4826, 4.4826), abs=1e-4)
    assert math.isnan(over_seeds([1.0]).low)


def test_a_summary_has_intervals_over_seeds_where_runs_have_them_over_prompts() -> None:
    """0.4 and 0.6: 0.5 ± 12.71 x 0.14142 / sqrt(2) = 0.5 ± 1.271; 10 and 12 comparisons: 11."""
    runs = [
        {
            "schedules": [
                {"n": 4, "schedule": "linear", "gold": [gold, 0.0, 1.0], "comparisons": asked, "c": None}
            ]
        }
        for gold, asked in ((0.4, 10.0), (0.6, 12.0))
    ]
    [row] = summary(runs, "schedules")
    assert row["gold"] == pytest.approx((0.5, -0.771, 1.771), abs=1e-3)
    assert (row["n"], row["schedule"], row["comparisons"], row["c"]) == (4, "linear", 11.0, None)


def test_a_judge_with_a_memory_says_what_the_judge_says_and_asks_once() -> None:
    judge = NumberJudge(bias=0.5)
    memory = Memory(judge)
    pairs = [Pair("q", a="3", b="1"), Pair("q", a="1", b="3"), Pair("q", a="2", b="2.5")]
    assert memory.compare(pairs).log_odds.tolist() == NumberJudge(bias=0.5).compare(pairs).log_odds.tolist()
    memory.compare(pairs)
    assert len(judge.asked) == memory.asked == 2


def test_schedules_by_hand() -> None:
    """The judge knows the gold: every winner is the best, 2 of 4 candidates from the front for n = 2."""
    pools = [pool(0, 1, 3, 2), pool(5, 4, 0, 1)]
    found = {
        (row["n"], row["schedule"]): row for row in schedules(pools, Memory(NumberJudge()), 10.0, (2, 4))
    }
    for name in ("round_robin", "linear", "knockout", "swiss", "merge"):
        assert found[2, name]["gold"][0] == 3 and found[4, name]["gold"][0] == 4
        assert found[4, name]["winner_is_best"] == 1
        assert found[4, name]["less_than_round_robin"] == (0, 0, 0)
    assert (found[4, "round_robin"]["comparisons"], found[4, "round_robin"]["tokens"]) == (6, 60)
    assert found[4, "knockout"]["comparisons"] == 3
    assert found[4, "the best there is"]["gold"][0] == 4
    assert found[4, "any of them (mean)"]["gold"][0] == 2


def test_a_judge_that_is_wrong_finds_the_worst() -> None:
    """Answers say the opposite of their gold: all winners have the lowest, no one is a best one."""
    wrong = Pool(Contest(as_chat("q"), ("0", "-1", "-3", "-2")), np.array([0.0, 1.0, 3.0, 2.0]))
    found = [row for row in schedules([wrong], Memory(NumberJudge()), 1.0, (4,)) if "winner_is_best" in row]
    assert [(row["gold"][0], row["winner_is_best"]) for row in found] == [(0, 0)] * 5


def test_best_of_n_by_hand() -> None:
    """Gold 0 and 1. Who knows picks 1 of two, who errs 0; both see 1 standard deviation above the mean."""
    pools = [pool(0, 1), pool(1, 0)]
    knows = [one.gold for one in pools]
    found = best_of_n(pools, {"knows": knows, "errs": [-gold for gold in knows]})
    of_two = {row["chooser"]: row for row in found if row["n"] == 2}
    assert (of_two["knows"]["gold"][0], of_two["errs"]["gold"][0]) == (1, 0)
    assert of_two["knows"]["proxy"] == of_two["errs"]["proxy"] == 1
    assert of_two["knows"]["kl"] == pytest.approx(math.log(2) - 0.5)
    any_of_them = [row["gold"][0] for row in found if row["n"] == 1]
    assert any_of_them[0] == any_of_them[1] and 0 < any_of_them[0] < 1


def test_an_ensemble_does_not_depend_on_the_scale_of_its_members() -> None:
    scores = [[np.array([0.0, 1.0]), np.array([2.0, 5.0])], [np.array([3.0, 1.0]), np.array([0.0, 1.0])]]
    scaled = [scores[0], [100 * part + 7 for part in scores[1]]]
    for one, other in zip(ensemble(scores), ensemble(scaled), strict=True):
        assert one == pytest.approx(other)


def test_a_real_pool_has_test_rows_with_enough_candidates_that_differ(tmp_path: Path) -> None:
    def row(name: str, scores: list[float], split: str = "test") -> str:
        responses = [f"{name}{place}" for place in range(len(scores))]
        return json.dumps(
            {"id": name, "prompt": "q", "responses": responses, "scores": scores, "split": split}
        )

    path = tmp_path / "pool.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        lines = [row("few", [0, 1]), row("same", [1, 1, 1, 0]), row("train", [0, 1, 0], "train")]
        file.write("\n".join([*lines, row("a", [0, 1, 0, 9]), row("b", [1, 0, 0])]) + "\n")
    found = real_pools(path, 10, 3)
    assert [one.contest.id for one in found] == ["a", "b"]
    assert found[0].contest.responses == ("a0", "a1", "a2") and found[0].gold.tolist() == [0, 1, 0]
    assert [one.contest.id for one in real_pools(path, 1, 3)] == ["a"]


def test_winners_of_gram_rank_are_looked_up_row_by_row(tmp_path: Path) -> None:
    """Ids repeat in the two halves of the world: a ranking belongs to the prompt in the same line."""
    candidates, ranked = tmp_path / "candidates.jsonl", tmp_path / "ranked-best.jsonl"
    write(candidates, seed=3)
    asked = rows(candidates)
    assert len(asked) == 100 and {len(row["responses"]) for row in asked} == {16}
    best = [{"id": row["id"], "order": [int(np.argmax(row["gold"]))], "comparisons": 15} for row in asked]
    ranked.write_text("".join(json.dumps(row) + "\n" for row in best))
    expected = np.mean([max(row["gold"]) for row in asked])
    assert f"| ranked-best | {expected:.3f} [" in table(candidates, [ranked])


def test_rows_of_results_take_a_line_each() -> None:
    value = {"title": "t", "rows": [{"n": 1, "gold": [0.5, 0.25, 0.75]}, {"n": 2, "gold": [1.0, 1.0, 1.0]}]}
    text = one_row_a_line(json.dumps(value, indent=1))
    assert json.loads(text) == value
    assert len(text.splitlines()) == 7
