"""Bodies of decision clients: what is read and refused, and answers in the shapes that they know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gram.bench.decision import pipeline_is_there
from gram.decisions import Choice, Decisions, Noul, Score
from gram.decisions.answers import answer_to
from gram.decisions.orders import orders_of
from gram.decisions.wire import (
    decisions_answers,
    decisions_request,
    diagnostics,
    systemone_answers,
    systemone_request,
)
from gram.errors import DataError

SYSTEMONE: dict[str, Any] = {
    "model": "m",
    "state": [{"role": "user", "content": "Hi!"}],
    "questions": {
        "refund": {"type": "noul", "instructions": "Is it?"},
        "tone": {
            "type": "choice",
            "instructions": "Tone?",
            "criteria": {"calm": "Polite", "angry": None, "x": {}},
        },
        "urgency": {"type": "score", "instructions": ["How?"], "criteria": ["low", {"a": 1}, "high", "top"]},
    },
}
ASKED: dict[str, Any] = {
    "input": "Hi!",
    "questions": [
        {"type": "predicate", "name": "refund", "instructions": "Is it?"},
        {"type": "choice", "instructions": "Tone?", "choices": ["calm", "angry"]},
        {"type": "score", "name": "s", "instructions": "How?", "levels": ["low", "high"]},
    ],
}


def answered(questions: dict[str, Any], orders: int, seed: int) -> Decisions:
    draw = np.random.default_rng(seed)
    answers = {}
    for name, question in questions.items():
        k = len(question.options)
        shown = [(0, 1)] if isinstance(question, Noul) else orders_of(k, orders)
        answers[name] = answer_to(question, shown, np.log(draw.dirichlet(np.ones(k + 1), len(shown))[:, :k]))
    return Decisions(answers)


@pytest.mark.skipif(not pipeline_is_there(), reason="needs a newer transformers")
@pytest.mark.parametrize("seed", range(20))
def test_answers_are_written_as_transformers_writes_them(seed: int) -> None:
    """From the same probabilities, by ``transformers serve``: types, keys, legend, confidence and score."""
    from transformers.decision import DecisionConfig, parse_questions

    request = systemone_request(SYSTEMONE, orders=2)
    decisions = answered(dict(request.questions), 2, seed)
    ours = systemone_answers(request, decisions)
    for question in parse_questions(SYSTEMONE["questions"], DecisionConfig()):
        mine = ours[question.name]
        shares = (
            [mine["noul"], 1 - mine["noul"]] if question.type == "noul" else [*mine["probabilities"].values()]
        )
        theirs = question.answer(shares)
        assert list(mine) == list(theirs) and mine["type"] == theirs["type"]
        for key in set(theirs) - {"type", "choice", "legend"}:
            assert mine[key] == pytest.approx(theirs[key])
        assert mine.get("choice") == theirs.get("choice") and mine.get("legend") == theirs.get("legend")
    told = diagnostics(decisions, dict.fromkeys(request.questions, 0) | {"tone": 2})
    assert set(told["refund"]) == {"mass", "truncated"} and told["tone"]["truncated"] == 2
    assert set(told["tone"]) == {"mass", "orders", "spread", "truncated"}


def test_the_shape_of_v1_decisions() -> None:
    request = decisions_request(ASKED)
    assert dict(request.questions) == {
        "0": Noul("Is it?"),
        "1": Choice("Tone?", ["calm", "angry"]),
        "2": Score("How?", ["low", "high"]),
    }
    decisions = answered(dict(request.questions), 2, 0)
    first, second, third = decisions_answers(ASKED, request, decisions)
    assert first == {"type": "predicate", "name": "refund", "probability": decisions["0"].noul}
    assert second["choice"] == decisions["1"].choice and second["name"] is None
    assert [share["value"] for share in second["probabilities"]] == ["calm", "angry"]
    assert third["score"] == decisions["2"].score
    assert [(share["value"], share["label"]) for share in third["probabilities"]] == [(0, "low"), (1, "high")]
    assert sum(share["probability"] for share in third["probabilities"]) == pytest.approx(1.0)


NOUL = {"type": "noul"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": None}, "field 'state'"),
        (
            {"colour": 1},
            "field 'colour': is no field of this request; there are: assets, model, questions, s",
        ),
        ({"assets": {"img": {}}}, "field 'assets': images cannot be shown"),
        ({"questions": {}}, "field 'questions': holds no question"),
        (
            {"questions": {str(k): NOUL for k in range(65)}},
            "field 'questions': holds 65 questions, and may hold",
        ),
        (
            {"questions": {"q": {"type": "score", "criteria": ["x"] * 11}}},
            "'questions.q.criteria': has 11 levels",
        ),
        (
            {"questions": {"q": {"type": "choice", "criteria": {"x": None}}}},
            "field 'questions.q.criteria': needs",
        ),
    ],
)
def test_bad_bodies_of_systemone_are_refused_with_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        systemone_request(SYSTEMONE | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": {"a": 1}}, "field 'input': expected a text or messages, got an object"),
        ({"input": 3}, "field 'input': expected a string"),
        ({"state": "x"}, "field 'state': is no field"),
        ({"questions": {"q": 1}}, "field 'questions': expected a list of questions, got dict"),
        ({"questions": []}, "field 'questions': holds no question"),
        ({"questions": ["x"]}, r"field 'questions\[0\]': expected a question"),
        (
            {"questions": [{"type": "noul"}]},
            r"field 'questions\[0\].type': must be one of predicate, choice, sc",
        ),
        (
            {"questions": [{"type": "choice"}]},
            r"field 'questions\[0\].choices': expected a list of texts, got",
        ),
        (
            {"questions": [{"type": "choice", "choices": ["x"]}]},
            r"'questions\[0\].choices': needs at least two",
        ),
        (
            {"questions": [{"type": "choice", "choices": ["x", "x"]}]},
            r"'questions\[0\].choices': the same opt",
        ),
        (
            {"questions": [{"type": "choice", "choices": ["x", 1]}]},
            r"'questions\[0\].choices\[1\]': expected a s",
        ),
        ({"questions": [{"type": "choice", "levels": ["x", "y"]}]}, r"'questions\[0\].levels': is no field"),
        ({"questions": [{"type": "score", "levels": ["x"] * 11}]}, r"'questions\[0\].levels': has 11 levels"),
        (
            {"questions": [{"type": "predicate", "instructions": 1}]},
            r"'questions\[0\].instructions': expected",
        ),
        ({"questions": [{"type": "predicate", "name": 1}]}, r"'questions\[0\].name': expected a string"),
    ],
)
def test_bad_bodies_of_decisions_are_refused_with_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        decisions_request(ASKED | change)
