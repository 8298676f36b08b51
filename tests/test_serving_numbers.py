"""What the server says is what the library says: alone, in a crowd, swapped, remembered, for every kind."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import make_preferences
from gram.serving.limits import Limits
from gram.types import Message, Pair, Usage
from served import Here, Served, serving, together

EXACT = 1e-6


def turns(pair: Pair) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in pair.prompt]


def as_json(pair: Pair) -> dict[str, Any]:
    return {"prompt": turns(pair), "a": pair.a, "b": pair.b}


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [item.pair for item in make_preferences(24, seed=5)]


@pytest.fixture(scope="module")
def judge(judge_folder: Path) -> Any:
    return gram.load(judge_folder)


@pytest.fixture
def served(judge_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(judge_folder))) as server:
        yield server


def check(rows: Iterable[dict[str, Any]], verdicts: Any) -> None:
    """Probabilities agree to 1e-6; log-odds to what float32 tells of log-probabilities of that size."""
    data = list(rows)
    assert [row["index"] for row in data] == list(range(len(verdicts)))
    assert [row["error"] for row in data] == [None] * len(verdicts)
    assert [row["p_a"] for row in data] == pytest.approx(verdicts.p_a, abs=EXACT)
    assert [row["position_gap"] for row in data] == pytest.approx(verdicts.position_gap, abs=EXACT)
    for row, odds, mass in zip(data, verdicts.log_odds, verdicts.mass, strict=True):
        assert row["log_odds"] == pytest.approx(odds.tolist(), rel=EXACT, abs=4 * EXACT)
        assert row["mass"] == pytest.approx(mass.tolist(), abs=EXACT)


def test_pairs_of_one_request(served: Served, judge: Any, pairs: list[Pair]) -> None:
    status, answer = served.post("/v1/compare", {"pairs": [as_json(pair) for pair in pairs]})
    assert status == 200 and answer["model"] == "tiny"
    verdicts = judge.compare(pairs)
    assert len({round(float(p), 4) for p in verdicts.p_a}) > 20  # they differ, so that a mix-up would show
    check(answer["data"], verdicts)
    assert answer["usage"]["prompt_tokens"] == pytest.approx(verdicts.usage.tokens, rel=0.01)


def test_in_a_crowd_each_gets_its_own_numbers(served: Served, judge: Any, pairs: list[Pair]) -> None:
    """48 callers at once, each with one pair, every second one the swapped pair of another."""
    asked = [pair for pair in pairs for pair in (pair, pair.swapped())]
    random.Random(0).shuffle(asked)
    answers = together([partial(served.post, "/v1/compare", {"pairs": [as_json(pair)]}) for pair in asked])
    rows = ({**answer["data"][0], "index": place} for place, (_, answer) in enumerate(answers))
    check(rows, judge.compare(asked))
    assert served.metric("gram_units_total", source="new") == len(pairs)


def test_numbers_do_not_depend_on_the_batch(judge_folder: Path, judge: Any, pairs: list[Pair]) -> None:
    """Batches of one unit, against all in one call."""
    worker = Here(gram.load(judge_folder))
    with serving(worker, limits=Limits(max_batch_tokens=1, cache_entries=0)) as one:
        _, answer = one.post("/v1/compare", {"pairs": [as_json(pair) for pair in pairs]})
    assert {len(batch) for batch in worker.batches} == {1}
    check(answer["data"], judge.compare(pairs))


def test_what_was_answered_is_remembered(served: Served, judge: Any, pairs: list[Pair]) -> None:
    """The second time costs no tokens; so does the swapped pair."""
    pair = pairs[3]
    _, first = served.post("/v1/compare", {"pairs": [as_json(pair)]})
    _, second = served.post("/v1/compare", {"pairs": [as_json(pair)]})
    _, swapped = served.post("/v1/compare", {"pairs": [as_json(pair.swapped())]})
    assert second["data"] == first["data"]
    check(swapped["data"], judge.compare([pair.swapped()]))
    costs = [answer["usage"]["prompt_tokens"] for answer in (first, second, swapped)]
    assert costs[0] > 0 and costs[1:] == [0, 0]


def test_one_order(judge_folder: Path, pairs: list[Pair]) -> None:
    """What is asked in one order is null in the other, and its swapped pair is another question."""
    model = gram.load(judge_folder, both_orders=False)
    both = [pairs[0], pairs[0].swapped()]
    with serving(Here(gram.load(judge_folder, both_orders=False), both_orders=False)) as server:
        _, answer = server.post("/v1/compare", {"pairs": [as_json(pair) for pair in both]})
    verdicts = model.compare(both)
    for row, odds, p in zip(answer["data"], verdicts.log_odds, verdicts.p_a, strict=True):
        assert row["log_odds"] == [pytest.approx(odds[0], abs=4 * EXACT), None]
        assert row["p_a"] == pytest.approx(p, abs=EXACT) and row["position_gap"] is None


@pytest.mark.parametrize("schedule", ["round_robin", "knockout", "swiss", "merge"])
def test_rankings(served: Served, judge: Any, pairs: list[Pair], schedule: str) -> None:
    candidates = [text for pair in pairs[:3] for text in (pair.a, pair.b)]
    content = {"prompt": turns(pairs[0]), "candidates": candidates, "schedule": schedule, "seed": 3}
    status, answer = served.post("/v1/rank", content)
    ranking = gram.rank(judge, pairs[0].prompt, candidates, schedule, seed=3)
    assert status == 200 and answer["order"] == ranking.order
    assert answer["strengths"] == pytest.approx(ranking.strengths.tolist(), abs=1e-4)
    assert answer["wins"] == pytest.approx(ranking.wins.tolist(), abs=EXACT)
    assert answer["comparisons"] == ranking.comparisons


def test_rewards_against_a_reference_and_in_a_group(served: Served, judge: Any, pairs: list[Pair]) -> None:
    """A group's reward is the mean probability of beating each of the others."""
    pair, others = pairs[0], [pairs[1].a, pairs[2].b]
    items = [
        {"prompt": turns(pair), "response": pair.a, "reference": pair.b},
        {"prompt": turns(pair), "response": pair.a, "group": others},
    ]
    status, answer = served.post("/v1/reward", {"items": items})
    against = judge.compare([pair])
    within = judge.compare([Pair(pair.prompt, pair.a, other) for other in others])
    reference, group = answer["data"]
    assert status == 200
    assert reference["reward"] == pytest.approx(float(against.log_odds.mean()), abs=4 * EXACT)
    assert reference["probability"] == pytest.approx(float(against.p_a[0]), abs=EXACT)
    assert group["reward"] == group["probability"] == pytest.approx(float(within.p_a.mean()), abs=EXACT)


@pytest.mark.parametrize("kind", ["likelihood", "scalar"])
def test_models_that_score(kind: str, request: pytest.FixtureRequest, pairs: list[Pair]) -> None:
    """Scores, and verdicts from their differences; an answer that was scored is not read again."""
    model: Any = gram.load(request.getfixturevalue(f"{kind}_folder"))
    scores = model.score([pair.prompt for pair in pairs], [pair.a for pair in pairs])
    items = [{"prompt": turns(pair), "response": pair.a} for pair in pairs]
    with serving(Here(model, kind)) as server:
        _, rewards = server.post("/v1/reward", {"items": items})
        _, verdicts = server.post("/v1/compare", {"pairs": [as_json(pair) for pair in pairs]})
        assert server.metric("gram_units_total", source="remembered") == len(pairs)
    assert [row["reward"] for row in rewards["data"]] == pytest.approx(scores.tolist(), rel=EXACT)
    check(verdicts["data"], model.compare(pairs))


def test_what_is_cut_is_told(judge_folder: Path) -> None:
    """The long pair loses tokens, the short one none."""
    model = gram.load(judge_folder, max_length=80)
    long = Pair([Message("user", "why ?")], "the bread is old . " * 40, "the river is quiet . " * 40)
    asked = [long, Pair([Message("user", "why ?")], "no", "yes")]
    with serving(Here(gram.load(judge_folder, max_length=80))) as server:
        _, answer = server.post("/v1/compare", {"pairs": [as_json(pair) for pair in asked]})
        assert server.metric("gram_truncated_units_total") == 1
    check(answer["data"], model.compare(asked))
    assert [row["tokens_cut"] for row in answer["data"]] == model.tokens_cut(asked)
    assert answer["data"][0]["tokens_cut"] > 0 == answer["data"][1]["tokens_cut"]


class Picky:
    """Compares by length, and gives no number for an answer with a word that it does not like."""

    temperature = slope = 1.0
    template = None
    usage = Usage()

    def compare(self, pairs: Sequence[Pair]) -> gram.Verdicts:
        odds = [[math.nan if "music" in pair.a + pair.b else len(pair.a) - len(pair.b)] * 2 for pair in pairs]
        if any("bug" in pair.a + pair.b for pair in pairs):
            raise RuntimeError("a text that nobody should see in a log")
        return gram.Verdicts(np.array(odds, dtype=float), np.ones((len(pairs), 2)))

    def tokens_cut(self, pairs: Sequence[Pair]) -> None:
        return None


def test_a_pair_without_a_number_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Null, a reason and a counter; a bug is told by its place, without the text."""
    texts = ["yes", "music", "because", "bug", "no"]
    with serving(Here(Picky())) as server:
        pairs = [{"prompt": "why ?", "a": text, "b": "so"} for text in texts]
        status, answer = server.post("/v1/compare", {"pairs": pairs})
        assert server.metric("gram_failed_units_total") == 2
    assert status == 200
    assert [row["p_a"] is None for row in answer["data"]] == [False, True, False, True, False]
    assert [row["log_odds"] for row in answer["data"]][::2] == [[1.0, 1.0], [5.0, 5.0], [0.0, 0.0]]
    assert answer["data"][1]["error"] == "the model gave no finite number"
    assert answer["data"][3]["error"] == "the model failed (RuntimeError)"
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "RuntimeError at test_serving_numbers.py" in told and "nobody" not in told
