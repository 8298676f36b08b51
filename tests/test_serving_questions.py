"""Typed questions over HTTP: the answers of ``gram.decide``, in the two public shapes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import gram
from gram import Pair
from gram.decisions import Choice, Noul, Score
from gram.serving.limits import Limits
from served import Here, Served, serving, together

STATE = "the bread of the river is old ."
TONES = {"quiet": None, "bright": "green"}
QUESTIONS: dict[str, Any] = {
    "old": {"type": "noul", "instructions": "is the bread old ?"},
    "tone": {
        "type": "choice",
        "instructions": "what is it ?",
        "criteria": {"quiet": None, "bright": "green"},
    },
    "size": {"type": "score", "instructions": "how small ?", "criteria": ["small", "heavy", "green"]},
}
OURS = {
    "old": Noul("is the bread old ?"),
    "tone": Choice("what is it ?", TONES),
    "size": Score("how small ?", ["small", "heavy", "green"]),
}


@pytest.fixture(scope="module")
def judge(judge_folder: Path) -> Any:
    return gram.load(judge_folder)


@pytest.fixture(scope="module")
def served(judge_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(judge_folder))) as server:
        yield server


def test_systemone_answers_as_decide_does(served: Served, judge: Any) -> None:
    status, answer = served.post(
        "/v1/systemone", {"model": "jev-latest", "state": STATE, "questions": QUESTIONS, "seed": 1}
    )
    expected = gram.decide(judge, STATE, OURS)
    got = answer["answers"]
    assert status == 200 and set(answer) == {"model", "answers", "usage", "x_gram"}
    assert got["old"]["noul"] == pytest.approx(expected["old"].noul, abs=1e-6)
    assert got["tone"]["choice"] == expected["tone"].choice
    assert got["tone"]["probabilities"] == pytest.approx(dict(expected["tone"].probabilities), abs=1e-6)
    assert got["size"]["score"] == pytest.approx(expected["size"].score, abs=1e-6)
    assert got["size"]["legend"] == {"0": "small", "1": "heavy", "2": "green"}
    assert answer["x_gram"]["tone"]["orders"] == 2
    assert answer["x_gram"]["tone"]["spread"] == pytest.approx(expected["tone"].spread, abs=1e-5)
    assert answer["usage"]["input_tokens"] > 0 == answer["usage"]["output_tokens"]


def test_a_state_that_was_shortened_is_told(judge_folder: Path) -> None:
    """Each order of the options is a prompt of its own: one of a yes/no question, two of a choice. Told again
    where the answer is remembered."""
    model: Any = gram.load(judge_folder, max_length=600)
    long = "a bird " * 800
    asked = [{"type": "predicate", "instructions": "is it ?"}]
    yes = {"yes": {"type": "noul", "instructions": "is it ?"}}
    with serving(Here(model)) as server:
        for _ in range(2):
            _, answer = server.post("/v1/systemone", {"state": long, "questions": QUESTIONS | yes})
            told = {name: about["truncated"] for name, about in answer["x_gram"].items()}
            assert told == {"old": 1, "tone": 2, "size": 2, "yes": 1}
        _, answer = server.post("/v1/decisions", {"input": long, "questions": asked})
        assert answer["x_gram"]["0"]["truncated"] == 1
        _, answer = server.post("/v1/systemone", {"state": "a bird", "questions": yes})
        assert answer["x_gram"]["yes"]["truncated"] == 0
        there: Any = gram.load(f"systemone:jev-latest@{server.url}")
        verdicts = there.compare([Pair("what is it ?", long, "a fish"), Pair("what ?", "a", "b")])
    assert verdicts.usage.truncated == 2  # one pair in both orders


def test_decisions_are_the_same_in_another_shape(served: Served, judge: Any) -> None:
    asked = [
        {"type": "predicate", "name": "old", "instructions": "is the bread old ?"},
        {"type": "choice", "instructions": "what is it ?", "choices": ["quiet", "bright"]},
        {"type": "score", "instructions": "how small ?", "levels": ["small", "heavy", "green"]},
    ]
    status, answer = served.post("/v1/decisions", {"model": "tiny", "input": STATE, "questions": asked})
    expected = gram.decide(
        judge, STATE, {**OURS, "tone": Choice("what is it ?", {"quiet": None, "bright": None})}
    )
    predicate, choice, score = answer["answers"]
    assert status == 200 and (predicate["name"], choice["name"]) == ("old", None)
    assert predicate["probability"] == pytest.approx(expected["old"].noul, abs=1e-6)
    shares = {row["value"]: row["probability"] for row in choice["probabilities"]}
    assert shares == pytest.approx(dict(expected["tone"].probabilities), abs=1e-6)
    assert score["score"] == pytest.approx(expected["size"].score, abs=1e-6)


HALF = "\ud83d"
CALL = {"role": "assistant", "content": None}


@pytest.mark.parametrize(("turn", "place"), [
    ({"role": "user", "content": f"It broke {HALF}"}, "[0].content"),
    ({"role": HALF, "content": "It broke ."}, "[0].role"),
    ({"role": "user", "content": [{"type": "text", "text": HALF}]}, "[0].content[0].text"),
    ({"role": "user", "content": [{"type": "text", "text": "Hi", "of": HALF}]}, ""),
    ({"role": "user", "content": "Hi", "name": HALF}, ""),
    ({"role": "user", "content": "Hi", HALF: "a name"}, ""),
    (CALL | {"tool_calls": [{"function": {"name": HALF, "arguments": "{}"}}]}, "[0].tool_calls"),
    (CALL | {"tool_calls": [{"function": {"name": "f", "arguments": {"x": HALF}}}]}, "[0].tool_calls"),
])  # fmt: skip
def test_half_a_surrogate_pair_in_messages_is_refused_with_its_place(
    served: Served, turn: dict[str, Any], place: str
) -> None:
    """Where it stands in what is shown; else the state is named, as a half is no text that can be sent on."""
    asked = {"state": [turn], "questions": QUESTIONS}
    status, answer = served.post("/v1/systemone", asked)
    assert status == 422 and answer["detail"][0]["loc"] == ["body", f"state{place}"], answer
    asked = {"input": [turn], "questions": [{"type": "predicate", "instructions": "?"}]}
    status, answer = served.post("/v1/decisions", asked)
    assert status == 422 and answer["detail"][0]["loc"] == ["body", f"input{place}"], answer
    assert served.post("/v1/compare", {"pairs": [{"prompt": [turn], "a": "x", "b": "y"}]})[0] in (200, 422)


def test_a_state_is_as_long_as_it_has_characters(judge_folder: Path) -> None:
    """Of at most 1,000: Chinese, quotes and line breaks count once each. JSON is counted as it is written.

    Around one text that is {"of": ""}, 10 characters.
    """
    with serving(Here(gram.load(judge_folder)), limits=Limits(max_characters=1_000)) as server:

        def ask(state: Any) -> int:
            return server.post("/v1/systemone", {"state": state, "questions": QUESTIONS})[0]

        assert ask("\u95ee" * 1_000) == ask('"\n' * 500) == ask({"of": "\u95ee" * 990}) == 200
        assert ask("\u95ee" * 1_001) == ask({"of": "\u95ee" * 991}) == 413


def test_other_questions_and_names_change_nothing(judge_folder: Path) -> None:
    """Each question by itself, all together, renamed and reordered; what was answered is not read again."""
    with serving(Here(gram.load(judge_folder))) as server:

        def ask(questions: dict[str, Any]) -> dict[str, Any]:
            return server.post("/v1/systemone", {"state": STATE, "questions": questions})[1]

        alone = {name: ask({name: one})["answers"][name] for name, one in QUESTIONS.items()}
        renamed = ask({f"{name} again": one for name, one in reversed(QUESTIONS.items())})
        assert renamed["usage"]["input_tokens"] == 0
        assert renamed["answers"] == {f"{name} again": alone[name] for name in reversed(alone)}
        assert server.metric("gram_units_total", source="new") == 3
    with serving(Here(gram.load(judge_folder))) as server:
        answers = together(
            [partial(server.post, "/v1/systemone", {"state": STATE, "questions": QUESTIONS})] * 8
        )
        assert server.metric("gram_units_total", source="new") == 3
    for _, answer in answers:
        assert answer["answers"]["old"]["noul"] == pytest.approx(alone["old"]["noul"], abs=1e-6)
        for name in ("tone", "size"):
            expected = alone[name]["probabilities"]
            assert answer["answers"][name]["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_questions_of_one_state_are_one_batch(judge_folder: Path) -> None:
    worker = Here(gram.load(judge_folder))
    with serving(worker) as server:
        server.post("/v1/systemone", {"state": {"ticket": [1, STATE]}, "questions": QUESTIONS})
    assert [len(batch) for batch in worker.batches] == [3]


@pytest.mark.parametrize(
    "path, body, place",
    [
        ("/v1/systemone", {"questions": QUESTIONS}, "state"),
        ("/v1/systemone", {"state": STATE, "questions": {}}, "questions"),
        ("/v1/systemone", {"state": STATE, "questions": {"q": {"type": "what"}}}, "questions.q.type"),
        ("/v1/systemone", {"state": None, "questions": QUESTIONS}, "state"),
        ("/v1/systemone", {"model": 3, "state": STATE, "questions": QUESTIONS}, "model"),
        ("/v1/systemone", {"state": STATE, "questions": {"\ud800": QUESTIONS["old"]}}, "questions"),
        ("/v1/decisions", {"input": STATE, "questions": [{"type": "choice"}]}, "questions[0].choices"),
    ],
)
def test_what_cannot_be_read_is_422_with_its_place(
    served: Served, path: str, body: dict[str, Any], place: str
) -> None:
    status, answer = served.post(path, body)
    assert status == 422 and answer["detail"][0]["loc"][1].startswith(place), answer


def test_a_question_that_is_too_long_is_named(served: Served) -> None:
    """It is the caller's fault: 422, and which one."""
    long = {"type": "noul", "instructions": "the bread " * 2_000}
    status, answer = served.post("/v1/systemone", {"state": STATE, "questions": {**QUESTIONS, "long": long}})
    assert status == 422 and answer["detail"][0]["loc"] == ["body", "questions.long"]


def test_models_that_score_answer_no_questions(scalar_folder: Path) -> None:
    with serving(Here(gram.load(scalar_folder), "scalar")) as server:
        status, answer = server.post("/v1/systemone", {"state": STATE, "questions": QUESTIONS})
    assert status == 400 and "scalar" in answer["detail"]["message"]


def test_the_examples_are_answered(served: Served) -> None:
    from gram.serving.questions import _DECISIONS, _SYSTEMONE

    assert served.post("/v1/systemone", _SYSTEMONE)[0] == 200
    assert served.post("/v1/decisions", _DECISIONS)[0] == 200


@pytest.mark.slow
def test_the_public_suite_for_systemone(tmp_path: Path) -> None:
    """``jevcompat`` (in an environment of its own; GRAM_JEVCOMPAT names its command) against gram-135m.

    It reads 512 tokens, fewer than 64 options are: that one requirement needs a larger model. All else that
    MUST be is; without the official SDK its check is left out.
    """
    command = os.environ.get("GRAM_JEVCOMPAT", "")
    if not command:
        pytest.skip("GRAM_JEVCOMPAT names no command")
    report = tmp_path / "report.json"
    with serving(Here(gram.load("gram-135m", kind="judge"))) as server:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([command, "test", server.url, "--json", str(report)], env=environment, check=False)
    text = report.read_text()
    results = json.loads(text)["results"]
    failed = {one["id"] for one in results if one["status"] == "fail"}
    assert len(results) > 40 and failed <= {"choice.options"}
