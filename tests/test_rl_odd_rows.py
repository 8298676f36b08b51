"""An odd row never ends a training run: it is read, or it is a failure of its own that costs no other row."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gram.errors import DataError, ScoringError, WrongTypeError
from gram.rl import GroupReward, LikelihoodReward, ReferenceReward, Reward, Shaping
from gram.rl.failures import Failures
from gram.rl.openrlhf import OpenRlhfReward
from gram.rl.rows import read_rows, reference_text, text_of
from gram.rl.trl import AsyncTrlReward, TrlReward
from gram.rl.verl import VerlReward
from oracles import NumberJudge, NumberScorer

HALF = "half a pair \ud83d"
IMAGE = {"type": "image_url", "image_url": {"url": "x"}}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


READ_PROMPTS: list[Any] = [
    [user([{"type": "text", "text": "q"}])],
    [user([{"type": "text", "text": "q", "image": None}, {"type": "text", "text": ""}], tool_calls=None)],
    np.array([user("q")], dtype=object),
    (user("q"),),
    [user("q"), assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "4"}],
    [user("q"), assistant("let me look", tool_calls=[CALL]), {"role": "tool", "content": "4"}],
]
ODD_PROMPTS: list[Any] = [
    None,
    3,
    float("nan"),
    b"q",
    {},
    user("q"),
    ["q"],
    [None],
    [user(None)],
    [user([IMAGE, {"type": "text", "text": "q"}])],
    [user([{"type": "text", "text": None}])],
    [user([3])],
    [user({"text": "q"})],
    [{"role": None, "content": "q"}],
    [{"from": "human", "value": "q"}],
    [user(HALF)],
    [{"role": HALF, "content": "q"}],
    HALF,
    "\udfff",
]
# Completions and the answer that is read from them.
READ_COMPLETIONS: list[tuple[Any, str]] = [
    ("3", "3"),
    ("", ""),
    ([], ""),
    ([assistant("3")], "3"),
    ([assistant(None)], ""),
    ([assistant([{"type": "text", "text": "3"}])], "3"),
    ([assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "9"}, assistant("3")], "3"),
    ([assistant("2"), user("more ?"), assistant("3")], "3"),
    ([assistant("3", tool_calls=None)], "3"),
    (np.array([assistant("3")], dtype=object), "3"),
]
ODD_COMPLETIONS: list[Any] = [
    None,
    3,
    b"3",
    assistant("3"),
    ["3"],
    [None],
    [assistant(3)],
    [assistant([IMAGE])],
    [assistant(None, tool_calls=[{"name": 3}])],
    [assistant("let me look", tool_calls="look")],
    [assistant("", function_call={"name": "look", "arguments": "{"})],
    [assistant(HALF)],
    HALF,
]
REWARDS: dict[str, Callable[[], Reward]] = {
    "against": lambda: ReferenceReward(NumberJudge()),
    "inside": lambda: GroupReward(NumberJudge()),
    "alone": lambda: LikelihoodReward(NumberScorer()),
    "shaped": lambda: LikelihoodReward(NumberScorer(), shaping=Shaping(length_residual=True)),
}


@pytest.mark.parametrize("name", REWARDS)
def test_one_odd_row_costs_no_other(name: str) -> None:
    """Three rows with the odd one in each place: the two others get what they get without it."""
    good = TrlReward(REWARDS[name]())(["q", "q"], ["3", "1"], reference=["1", "0"])
    cases = [(prompt, "2") for prompt in ODD_PROMPTS] + [("q", answer) for answer in ODD_COMPLETIONS]
    for prompt, completion in cases:
        for place in range(3):
            prompts, completions, references = ["q", "q"], ["3", "1"], ["1", "0"]
            prompts.insert(place, prompt)
            completions.insert(place, completion)
            references.insert(place, "0")
            reward, logged = REWARDS[name](), dict[str, float]()
            got = TrlReward(reward)(prompts, completions, logged.__setitem__, reference=references)
            assert got.pop(place) is None and got == pytest.approx(good), (prompt, completion)
            assert reward.failures.count == 1 and logged["gram/failures"] == pytest.approx(1 / 3)
            assert reward.failures.last.startswith(f"field '{'completions' if prompt == 'q' else 'prompts'}")


@pytest.mark.parametrize("name", REWARDS)
def test_a_batch_of_odd_rows_alone(name: str) -> None:
    reward = REWARDS[name]()
    rows = len(ODD_PROMPTS)
    outcome = reward(ODD_PROMPTS, ["1"] * rows, ["0"] * rows)
    assert outcome.rewards == [None] * rows and reward.failures.count == rows
    assert outcome.metrics == {"failures": 1.0}
    assert outcome.scores in (None, [None] * rows)
    assert asyncio.run(AsyncTrlReward(reward)([None], ["1"], reference=["0"])) == [None]


def test_what_can_be_read_is_read() -> None:
    judge = NumberJudge()
    reward = TrlReward(ReferenceReward(judge))
    count = len(READ_PROMPTS)
    assert reward(READ_PROMPTS, ["3"] * count, reference=["1"] * count) == [2.0] * count
    assert {pair.prompt[0].content for pair in judge.asked} == {"q"}
    assert sum("<tool_call>" in pair.prompt[-2].content for pair in judge.asked if len(pair.prompt) > 1) == 2
    completions = [completion for completion, _ in READ_COMPLETIONS]
    texts = [text for _, text in READ_COMPLETIONS]
    assert [text_of(completion) for completion in completions] == texts
    got = reward(["q"] * len(texts), completions, reference=["1"] * len(texts))
    assert got == [float(text or 0) - 1 for text in texts] and reward.reward.failures.count == 0


def test_tool_calls_and_thoughts_of_the_answer_are_part_of_it() -> None:
    call = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
    for completion, text in [
        ([assistant(None, tool_calls=[CALL])], call),
        ([assistant("let me look", tool_calls=[CALL])], f"let me look\n{call}"),
        ([assistant("", function_call={"name": "look", "arguments": "{}"})], call),
        ([assistant("3", reasoning_content="1 + 2")], "<think>\n1 + 2\n</think>\n\n3"),
    ]:
        assert text_of(completion) == text


def test_odd_rows_count_towards_the_limit() -> None:
    reward = TrlReward(LikelihoodReward(NumberScorer(), failure_limit=2))
    assert reward([None, "q", HALF], ["1", "2", "3"]) == [None, 2.0, None]
    with pytest.raises(ScoringError, match=r"over the limit of 2; the last: field 'prompts\[0\]'"):
        reward([3], ["1"])


def test_lists_that_are_none_stop_at_once() -> None:
    """They are no fault of a row: the call itself is wrong."""
    for reward in (make() for make in REWARDS.values()):
        with pytest.raises(TypeError, match="'prompts': expected a list of prompts, got a single string"):
            reward("q", ["1"], ["0"])
        with pytest.raises(TypeError, match="'responses': expected a list of strings, got a single string"):
            reward(["q"], "1", ["0"])
        with pytest.raises(ValueError, match="1 prompts but 2 responses"):
            reward(iter(["q"]), iter(["1", "2"]), ["0"])
        assert reward(iter([]), [], []).rewards == []


REFERENCES: list[tuple[Any, str | None]] = [
    (None, None), ("", None), ("1", "1"), (0, "0"), (0.5, "0.5"), (np.int64(7), "7"),
    (np.float64(0.5), "0.5"), (4.0, "4"), (-0.0, "0"), (np.float32(7), "7"), (1e300, "1e+300"),
    (math.nan, None), (math.inf, None), (np.float32("nan"), None), (np.float64("-inf"), None), ("nan", "nan"),
    (True, "True"), (np.bool_(False), "False"),
    ([assistant("1")], "1"), ([user("q"), assistant([{"type": "text", "text": "1"}])], "1"), ([], None),
]  # fmt: skip
ODD_REFERENCES: list[Any] = [{"answer": 4}, ["4"], [4], b"4", [assistant([IMAGE])], HALF, object()]


def test_references_are_read_or_fail_by_row() -> None:
    for value, text in REFERENCES:
        assert reference_text(value) == text
    for value in ODD_REFERENCES[:-2]:
        with pytest.raises(WrongTypeError, match="reference"):
            reference_text(value)
    for value in ODD_REFERENCES:
        reward = ReferenceReward(NumberJudge())
        assert TrlReward(reward)(["q", "q"], ["3", "3"], reference=[value, "1"]) == [None, 2.0], value
        assert reward.failures.count == 1 and "reference" in reward.failures.last
        alone = TrlReward(LikelihoodReward(NumberScorer()))  # needs no reference, and does not read it
        assert alone(["q"], ["3"], reference=[value]) == [3.0]


def test_openrlhf_fails_by_row() -> None:
    """Queries that do not hold their prompt, half pairs, and what is no string: neutral, and counted."""
    odd: list[tuple[Any, Any, Any]] = [
        ("nothing of it", "q?", "1"),
        (HALF + "3", HALF, "1"),
        ("q" + HALF, "q", "1"),
        (None, "q", "1"),
        ("q3", None, "1"),
        ("q3", ["q"], "1"),
        *(("q3", "q", value) for value in ODD_REFERENCES),
    ]
    for row in odd:
        reward = ReferenceReward(NumberJudge())
        queries, prompts, labels = zip(row, ("q3", "q", "1"), strict=True)
        got = OpenRlhfReward(reward)(queries, prompts, labels)
        assert got["rewards"].tolist() == [0.0, 2.0], row
        assert got["extra_logs"]["gram_failed"].tolist() == [1.0, 0.0]
        assert reward.failures.count == 1
    assert OpenRlhfReward(LikelihoodReward(NumberScorer()))(["q3"], ["q"], [{}])["rewards"].tolist() == [3.0]


def test_openrlhf_read_may_refuse_a_row() -> None:
    def read(prompt: str, label: Any) -> Any:
        if not label:
            raise DataError("no label")
        return prompt, label

    got = OpenRlhfReward(ReferenceReward(NumberJudge()), read=read)(["q3", "q3"], ["q", "q"], ["", "1"])
    assert got["rewards"].tolist() == [0.0, 2.0]


def test_verl_fails_by_row() -> None:
    odd: list[tuple[Any, Any, Any]] = [("q", answer, "1") for answer in (None, 3, [assistant("3")], HALF)]
    odd += [(prompt, "3", "1") for prompt in ODD_PROMPTS if prompt not in (None, {})]
    odd += [("q", "3", value) for value in ODD_REFERENCES]
    for prompt, answer, truth in odd:
        reward = ReferenceReward(NumberJudge())
        failed, scored = VerlReward(reward, neutral=-1.0).compute_scores(
            ["d"] * 2, [answer, "3"], [truth, "1"], [{"prompt": prompt}, {"prompt": "q"}]
        )
        assert (failed["score"], failed["failed"], scored["score"]) == (-1.0, 1.0, 2.0), (
            prompt,
            answer,
            truth,
        )
    for info in (None, [], "prompt", {"prompt": None}, {"prompt": []}, {"prompt": np.array([])}):
        with pytest.raises(DataError, match=r"extra_info\.prompt"):  # the data set has no prompts: not a row
            VerlReward(ReferenceReward(NumberJudge())).compute_score("d", "3", "1", info)  # type: ignore[arg-type]


def test_an_odd_row_of_one_process_leaves_the_groups_of_all() -> None:
    """Two processes, one group of three answers; an odd row stands before the second process's answers."""

    class Shared:
        """Plays both processes, one after the other: every gather sees what the other one would give."""

        def __init__(self, rank: int, other: list[Any]) -> None:
            self.rank, self.other = rank, other

        def gather(self, value: Any) -> list[Any]:
            other = replace(value, value=self.other.pop(0))
            return [value, other] if self.rank == 0 else [other, value]

    odd: list[Any] = [None, "q"]
    whole = GroupReward(NumberJudge())(["q"] * 3, ["0", "1", "2"]).rewards
    theirs = read_rows(Failures(9), odd, ["5", "2"])
    first = GroupReward(NumberJudge(), processes=Shared(0, [theirs, ({}, 1)]))(["q", "q"], ["0", "1"])
    assert first.rewards == whole[:2] and first.metrics["failures"] == pytest.approx(1 / 4)
    ranking = {}
    judge = NumberJudge()

    class Rank0(Shared):
        def gather(self, value: Any) -> list[Any]:
            if isinstance(value.value, tuple):
                ranking.update(value.value[0])
                return [value, replace(value, value=({}, 1))]
            return super().gather(value)

    GroupReward(judge, processes=Rank0(0, [theirs]))(["q", "q"], ["0", "1"])
    ours = read_rows(Failures(9), ["q", "q"], ["0", "1"])
    second = GroupReward(NumberJudge(), processes=Shared(1, [ours, (ranking, 0)]))(odd, ["5", "2"])
    assert second.rewards == [None, whole[2]]
