"""Typed questions as people write them: what is read, and what is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

import gram
from gram.decisions import Choice, Noul, Request, Score, read_questions
from gram.errors import ConfigError, DataError, WrongTypeError

NOUL = {"type": "noul", "instructions": "Is it?"}
CHOICE = {"type": "choice", "instructions": "Which?", "criteria": {"x": "One.", "y": None}}
SCORE = {"type": "score", "instructions": {"ask": ["How much?"]}, "criteria": ["little", {"or": "much"}]}


def test_json_becomes_the_classes() -> None:
    meant = {"type": "noul", "criteria": {"true": "Yes.", "false": None}}
    found = read_questions({"n": NOUL, "m": meant, "c": CHOICE, "s": SCORE, "own": Noul("So?")})
    assert found == {
        "n": Noul("Is it?"),
        "m": Noul(None, true="Yes."),
        "c": Choice("Which?", {"x": "One.", "y": None}),
        "s": Score({"ask": ["How much?"]}, ["little", {"or": "much"}]),
        "own": Noul("So?"),
    }
    assert list(found) == ["n", "m", "c", "s", "own"]
    assert found["c"].options == ("x", "y") and found["s"].options == ("0", "1")


BAD: list[tuple[Any, str]] = [
    ([], "field 'questions': expected questions by name, got list"),
    ({}, "field 'questions': holds no question"),
    ({"q": "Is it?"}, "field 'questions.q': expected a question, got a single string"),
    ({"q": {"instructions": "?"}}, "field 'questions.q.type': must be one of noul, choice, score, got None"),
    ({"q": {"type": "rank"}}, "field 'questions.q.type': must be one of noul, choice, score, got 'rank'"),
    (
        {"q": {"type": ["noul"]}},
        r"field 'questions.q.type': must be one of noul, choice, score, got \['noul'",
    ),
    ({"q": NOUL | {"levels": []}}, "field 'questions.q': a question has type, instructions and criteria"),
    ({"q": NOUL | {"instructions": 3}}, "field 'questions.q.instructions': expected a string, or a JSON"),
    ({"q": NOUL | {"instructions": "\ud800"}}, "field 'questions.q.instructions': holds half of a surrogate"),
    ({"q": NOUL | {"instructions": ["\ud800"]}}, "field 'questions.q.instructions': holds half of a surr"),
    ({"q": NOUL | {"instructions": {"x": float("nan")}}}, "field 'questions.q.instructions': is no JSON"),
    ({"q": NOUL | {"criteria": ["a", "b"]}}, "field 'questions.q.criteria': expected what true and false"),
    ({"q": NOUL | {"criteria": {"maybe": "x"}}}, "field 'questions.q.criteria': may say what true and false"),
    ({"q": NOUL | {"criteria": {"true": 1}}}, "field 'questions.q.criteria.true': expected a string, or"),
    ({"q": {"type": "choice"}}, "field 'questions.q.criteria': is missing: the options of the question"),
    ({"q": CHOICE | {"criteria": ["x", "y"]}}, "field 'questions.q.criteria': expected options with their"),
    ({"q": CHOICE | {"criteria": {"x": None}}}, "'questions.q.criteria': needs at least two options, got 1"),
    ({"q": CHOICE | {"criteria": {"x": 1, "y": None}}}, "field 'questions.q.criteria.x': expected a string"),
    ({"q": CHOICE | {"criteria": {1: None, "y": None}}}, "'questions.q.criteria.1': expected a string, got"),
    ({"q": SCORE | {"criteria": {"0": "x"}}}, "field 'questions.q.criteria': expected a list of levels, got"),
    ({"q": SCORE | {"criteria": None}}, "field 'questions.q.criteria': expected a list of levels, got noth"),
    ({"q": SCORE | {"criteria": ["x"]}}, "field 'questions.q.criteria': needs at least two levels, got 1"),
    ({"q": SCORE | {"criteria": ["x", None]}}, r"field 'questions.q.criteria\[1\]': a level must say what"),
    ({"q": SCORE | {"criteria": ["x", 2]}}, r"field 'questions.q.criteria\[1\]': expected a string, or a J"),
]


@pytest.mark.parametrize(("questions", "message"), BAD)
def test_what_cannot_be_read_is_refused_with_its_place(questions: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Request("x", questions)


@pytest.mark.parametrize("state", [None, 3, b"x", {1, 2}, {"x": float("inf")}, "\ud800", ["\udfff"]])
def test_a_state_is_a_text_messages_or_json(state: Any) -> None:
    with pytest.raises(DataError, match="field 'state'"):
        Request(state, {"q": NOUL})


def test_states_are_kept_as_they_are() -> None:
    turns = [gram.Message("user", "Hi!"), {"role": "assistant", "content": "Hello."}]
    kept = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]
    assert Request(turns, {"q": NOUL}).state == kept
    for state in ("text", {"a": [1, None, True]}, [], [{"role": 1}], ["x", 2.5]):
        assert Request(state, {"q": NOUL}).state == state


def test_a_choice_may_be_a_list_of_names_in_python() -> None:
    assert Choice("?", ["x", "y"]) == Choice("?", {"x": None, "y": None})
    with pytest.raises(DataError, match="field 'criteria': the same option stands there twice"):
        Choice("?", ["x", "y", "x"])
    with pytest.raises(WrongTypeError, match="field 'criteria': expected options"):
        Choice("?", "xy")


@pytest.mark.parametrize("names", [[["a"], ["b"]], [{"value": "a"}, {"value": "b"}], [None, "a"], [1, 2]])
def test_options_of_a_list_are_strings(names: Any) -> None:
    with pytest.raises(WrongTypeError, match=r"field 'criteria\[0\]': expected a string"):
        Choice("?", names)


def test_only_a_judge_answers_questions(likelihood_folder, scalar_folder) -> None:
    for folder, name in ((likelihood_folder, "LikelihoodModel"), (scalar_folder, "ScalarHeadModel")):
        model = gram.load(folder, device="cpu")
        with pytest.raises(ConfigError, match=f"{name} answers no questions: it gives numbers to whole"):
            gram.decide(model, "x", {"q": NOUL})
    asked_as_one = gram.load(likelihood_folder, device="cpu", kind="judge")
    assert 0 < gram.decide(asked_as_one, "x", {"q": NOUL})["q"].noul < 1


def test_an_odd_number_of_orders_is_refused_before_a_model_is_asked(judge_folder) -> None:
    with pytest.raises(ConfigError, match="or an even number, got 3"):
        gram.decide(gram.load(judge_folder, device="cpu"), "x", {"q": CHOICE}, orders=3)
