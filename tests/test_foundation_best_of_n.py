"""Best of eight: how prompts are drawn, that nothing is asked twice, and the gold of each choice by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments.foundation import best_of_n

import gram
from gram.scoring.scalar import LikelihoodModel
from gram.types import Pair, Verdicts


class Later:
    """Prefers the answer that comes later in the alphabet; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        self.asked += len(pairs)
        odds = np.array([[1.0, 1.0] if pair.a > pair.b else [-1.0, -1.0] for pair in pairs])
        return Verdicts(odds, np.ones_like(odds))


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three answers to choose from, at most two prompts, and files of its own."""
    monkeypatch.setattr(best_of_n, "SHARED", tmp_path)
    monkeypatch.setattr(best_of_n, "WORK", tmp_path / "work")
    monkeypatch.setattr(best_of_n, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(best_of_n, "PROMPTS", 2)
    monkeypatch.setattr(best_of_n, "ANSWERS", 3)
    (tmp_path / "bon").mkdir()
    return tmp_path


def store(shared: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    with gzip.open(shared / "bon" / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def row(place: str, responses: str, scores: Sequence[float], split: str = "test") -> dict[str, Any]:
    texts = responses.split()
    return {
        "id": place,
        "prompt": f"{place}?",
        "responses": texts,
        "scores": scores,
        "split": split,
        "group": place,
    }


def test_prompts_have_enough_answers_that_differ_and_something_to_choose(shared: Path) -> None:
    """Of six prompts one is to train on, one has two answers, one the same answer twice, one equal scores."""
    rows = [
        row("one", "a b c d", [1, 0, 0, 0]),
        row("two", "a b c", [3, 1, 2]),
        row("train", "a b c", [3, 1, 2], "train"),
        row("few", "a b", [0, 1]),
        row("same", "a a b", [0, 0, 1]),
        row("flat", "a b c", [1, 1, 1]),
    ]
    store(shared, "zeroeval", rows)
    found = best_of_n.pools("zeroeval")
    assert {pool.contest.id for pool in found} <= {"one", "two"} and "two" in {p.contest.id for p in found}
    assert [pool.contest.responses for pool in found] == [
        p.contest.responses for p in best_of_n.pools("zeroeval")
    ]
    for pool in found:
        [stored] = [row for row in rows if row["id"] == pool.contest.id]
        scores = dict(zip(stored["responses"], stored["scores"], strict=True))
        assert pool.gold.tolist() == [scores[text] for text in pool.contest.responses]


def test_the_gold_of_every_choice(shared: Path) -> None:
    """By hand: "one" has gold 0 (a), 6 (bb), 3 (ccc), "two" 9, 0, 6.

    At random 3 and 5, mean 4. The longest is ccc: 3 and 6, mean 4.5, as is the last of the alphabet. The best
    there is: 6 and 9. Lead over chance: 0 and 1.
    """
    store(shared, "zeroeval", [row("one", "a bb ccc", [0, 6, 3]), row("two", "a bb ccc", [9, 0, 6])])
    found = best_of_n.pools("zeroeval")
    model = Later()
    for name, asked in (("one", 6), ("one", 6), ("another", 12)):
        best_of_n.ask("zeroeval", "gram", name, lambda: model, found)
        assert model.asked == asked
    numbers = best_of_n.measured("zeroeval", found)
    gold = {who: value[0] for who, value in numbers["gold"].items()}
    assert (gold["random"], gold["length"], gold["gram"], gold[best_of_n.BEST]) == (4, 4.5, 4.5, 7.5)
    assert {gold[f"gram, {name}"] for name in best_of_n.SCHEDULES} == {4.5}
    assert numbers["leads"]["random"] == [0.5, 0.0, 1.0, 2]
    assert numbers["leads"]["length"] == [0.0, 0.0, 0.0, 2]
    assert numbers["comparisons"]["round_robin"] == 3
    assert "zero_shot" not in gold

    table = best_of_n.table({"zeroeval": numbers})
    assert "| at random | 4.000 [3.000, 5.000] |" in table and "Bradley-Terry" not in table
    assert "| less at random | +0.500 [+0.000, +1.000] |" in best_of_n.lead_table({"zeroeval": numbers})


def test_scores_put_answers_in_the_order_of_their_comparisons(likelihood_folder: Path) -> None:
    """The log-odds of a likelihood are the differences of its scores, times its slope."""
    model = gram.load(likelihood_folder, device="cpu")
    assert isinstance(model, LikelihoodModel)
    contest = gram.Contest("what is the letter ?", ("the letter is old .", "silver", "the river"))
    table = best_of_n.log_odds(model, contest)
    said = model.compare([Pair(contest.prompt, a, b) for a in contest.responses for b in contest.responses])
    np.testing.assert_allclose(model.slope * table.reshape(-1, 2), said.log_odds, atol=1e-4)
    assert abs(table[0, 1, 0]) > 1e-3


@pytest.mark.parametrize("kind", ["judge", "likelihood"])
def test_the_command_asks_three_models_about_three_pools(
    kind: str, shared: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (split, _) in best_of_n.POOLS.items():
        store(shared, name, [row(k, f"the river {k} bridge", [1, 0, 2, 4], split) for k in ("one", "two")])
    monkeypatch.setattr(best_of_n, "BASE", str(request.getfixturevalue("converted")))
    monkeypatch.setattr(best_of_n, "MAX_LENGTH", 256)
    model, rival = (str(request.getfixturevalue(f"{name}_folder")) for name in (kind, "scalar"))
    best_of_n.main(["--model", model, "--rival", rival, "--device", "cpu"])
    found = json.loads(best_of_n.RESULTS.read_text())
    assert set(found) == set(best_of_n.POOLS)
    for pool in found.values():
        assert {"gram", "zero_shot", "bradley_terry", "random", "length"} < set(pool["gold"])
    assert best_of_n.section().count("\n|") >= 14
