"""The adapters, called exactly as TRL, OpenRLHF and verl call a reward (contracts, not their libraries)."""

from __future__ import annotations

import asyncio
import inspect
import json
import unicodedata
from typing import Any

import numpy as np
import pytest

from gram.errors import ConfigError, DataError, ScoringError
from gram.rl import GroupReward, ReferenceReward
from gram.rl.openrlhf import END_TOKENS, OpenRlhfReward, answer_in
from gram.rl.trl import AsyncTrlReward, TrlReward, text_of
from gram.rl.verl import VerlReward
from oracles import NumberJudge


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def through_trl(reward: ReferenceReward, reference: Any) -> list[float | None]:
    return TrlReward(reward)(["q"], ["3"], reference=[reference])


def through_openrlhf(reward: ReferenceReward, reference: Any) -> list[float | None]:
    return OpenRlhfReward(reward)(["q3"], ["q"], [reference])["rewards"].tolist()


def through_verl(reward: ReferenceReward, reference: Any) -> list[float | None]:
    return [VerlReward(reward).compute_score("d", "3", reference, {"prompt": "q"})["score"]]


@pytest.mark.parametrize("ask", [through_trl, through_openrlhf, through_verl])
@pytest.mark.parametrize(("reference", "reward"), [(0, 3.0), (0.5, 2.5), ("1", 2.0), (None, 1.0), ("", 1.0)])
def test_only_none_and_an_empty_text_are_no_reference(ask: Any, reference: Any, reward: float) -> None:
    """The answer 3 less the reference, a number in some datasets; where there is none, less the written 2."""
    judge = NumberJudge()
    assert ask(ReferenceReward(judge, answer=lambda chats: ["2"] * len(chats)), reference) == [reward]
    assert isinstance(judge.asked[0].b, str)


# --- TRL ---


def call_of_trl(prompts: list[Any], completions: list[Any], **columns: Any) -> dict[str, Any]:
    """The keywords of GRPOTrainer._calculate_rewards."""
    return {
        "prompts": prompts,
        "completions": completions,
        "completion_ids": [[1, 2, 3]] * len(prompts),
        "trainer_state": object(),
        "log_extra": lambda name, values: None,
        **columns,
    }


@pytest.mark.parametrize("conversational", [False, True])
def test_trl_sync(conversational: bool) -> None:
    judge, logged = NumberJudge(bias=0.5), dict[str, float]()
    function = TrlReward(ReferenceReward(judge))
    prompts: list[Any] = [asked("q"), asked("q")] if conversational else ["q", "q"]
    completions: list[Any] = [said("3"), said("bad")] if conversational else ["3", "bad"]
    call = call_of_trl(prompts, completions, reference=["1", "1"], log_metric=logged.__setitem__)
    assert function(**call) == [2.0, None]
    assert logged["gram/mean"] == 2 and logged["gram/failures"] == 0.5 and logged["gram/position_gap"] > 0
    assert judge.asked[-1].prompt[0].content == "q"
    assert function.__name__ == "gram"


def test_trl_async_is_seen_as_async_and_gathered() -> None:
    """TRL asks whether ``__call__`` is a coroutine function, then gathers all such rewards."""
    functions = [
        AsyncTrlReward(ReferenceReward(NumberJudge())),
        AsyncTrlReward(GroupReward(NumberJudge()), name="inside"),
    ]
    assert all(inspect.iscoroutinefunction(type(one).__call__) for one in functions)
    assert not inspect.iscoroutinefunction(type(TrlReward(GroupReward(NumberJudge()))).__call__)

    async def both() -> list[list[float | None]]:
        call = call_of_trl(["q", "q"], ["3", "1"], reference=["1", "1"])
        return await asyncio.gather(*(one(**call) for one in functions))

    against, inside = asyncio.run(both())
    assert against == [2, 0]
    assert inside == pytest.approx([0.880797, 0.119203], abs=1e-6)


@pytest.mark.parametrize("kind", [TrlReward, AsyncTrlReward])
def test_two_rewards_of_one_trainer_need_two_names(kind: type[TrlReward]) -> None:
    """TRL would log one mean of both. Another trainer's reward may have the name, and so may a later one."""

    def ask(function: TrlReward, trainer: object) -> list[float | None]:
        call: dict[str, Any] = call_of_trl(["q"], ["3"], reference=["1"]) | {"trainer_state": trainer}
        got = function(**call)
        return asyncio.run(got) if inspect.iscoroutine(got) else got  # type: ignore[arg-type]

    first, second, named = (
        kind(ReferenceReward(NumberJudge()), **name) for name in ({}, {}, {"name": "second"})
    )
    one, other = object(), object()
    for _ in range(2):
        assert ask(first, one) == ask(named, one) == [2.0]
        with pytest.raises(ConfigError, match="two rewards of this trainer are called 'gram'"):
            ask(second, one)
    assert ask(second, other) == [2.0]
    assert ask(first, None) == ask(second, None) == [2.0]
    ask(first, one)
    del first
    assert ask(second, one) == [2.0]


def test_trl_online_dpo_passes_lists_without_log_metric() -> None:
    function = TrlReward(ReferenceReward(NumberJudge()), reference_column="best")
    assert function(
        prompts=["q"], completions=["2"], completion_ids=[[1]], best=["1"], trainer_state=None
    ) == [1]


def test_the_answer_in_a_completion() -> None:
    assert text_of("plain") == "plain"
    tools = [*said("let me look"), {"role": "tool", "content": "42"}, *said("it is 42")]
    assert text_of(tools) == "it is 42"
    assert text_of([{"role": "assistant", "content": [{"type": "text", "text": "parts"}]}]) == "parts"
    assert text_of([{"role": "assistant", "content": None}]) == ""
    assert text_of([]) == ""


# --- OpenRLHF ---


def test_openrlhf_reward_func() -> None:
    """One sample per call, in a thread: query = prompt + answer + end token; the label is the reference."""
    import torch

    function = OpenRlhfReward(ReferenceReward(NumberJudge()))

    async def fetch() -> dict[str, Any]:
        return await asyncio.to_thread(function, ["user: q\n3<|im_end|>\n"], ["user: q\n"], ["1"])

    got = asyncio.run(fetch())
    assert isinstance(got["rewards"], torch.Tensor) and got["rewards"].tolist() == [2.0]
    assert got["scores"].tolist() == pytest.approx([0.880797], abs=1e-6)
    assert got["extra_logs"]["gram_failed"].tolist() == [0.0]


def test_openrlhf_has_no_word_for_none() -> None:
    """A failed answer is as good as its reference and is counted; the names of the logs stay the same."""
    reward = ReferenceReward(NumberJudge(), failure_limit=1)
    function = OpenRlhfReward(reward)
    scored, failed = (function([query], ["q"], ["1"]) for query in ("q3", "qbad"))
    assert (failed["rewards"].tolist(), failed["scores"].tolist()) == ([0.0], [0.5])
    assert failed["extra_logs"]["gram_failed"].tolist() == [1.0]
    assert list(failed["extra_logs"]) == list(scored["extra_logs"])
    both = OpenRlhfReward(ReferenceReward(NumberJudge()), neutral=-1.0)(["qbad", "q2"], ["q", "q"], ["1"] * 2)
    assert both["rewards"].tolist() == [-1.0, 1.0]
    with pytest.raises(ScoringError, match="over the limit"):
        function(["qbad"], ["q"], ["1"])


def test_openrlhf_over_json() -> None:
    """The answer survives JSON, and the lists are as long as the query list."""
    function = OpenRlhfReward(ReferenceReward(NumberJudge()))
    request = {"query": ["q3</s>", "q0"], "prompts": ["q", "q"], "labels": ["1", "1"]}
    got = json.loads(json.dumps(function.get_reward(request)))
    assert got["rewards"] == [2, -1]
    assert got["scores"] == pytest.approx([0.880797, 0.268941], abs=1e-6)
    assert all(len(values) == 2 for values in got["extra_logs"].values())
    with pytest.raises(DataError, match="labels"):
        function.get_reward({"query": ["q3"], "prompts": ["q"]})
    with pytest.raises(DataError, match="1 queries"):
        function.get_reward({"query": ["q3"], "prompts": ["q", "q"], "labels": ["1"]})


def test_openrlhf_reads_prompt_and_reference_from_where_it_is_told() -> None:
    judge = NumberJudge()

    def read(prompt: str, label: str) -> tuple[Any, str]:
        row = json.loads(label)
        return row["prompt"], row["reference"]

    label = json.dumps({"prompt": asked("what?"), "reference": "2"})
    templated = "<|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\n"
    got = OpenRlhfReward(ReferenceReward(judge), read=read)([templated + "5<|im_end|>"], [templated], [label])
    assert got["rewards"].tolist() == [3.0]
    assert judge.asked[0].prompt[0].content == "what?" and judge.asked[0].a == "5"


def test_the_answer_in_a_query() -> None:
    assert answer_in("pa b <|end|>\n<|end|>", "p") == "a b"
    assert answer_in("p a", "p") == " a"
    long = "x" * 50 + "the end of the prompt, long enough to be found again, surely: "
    assert answer_in(long[40:] + "yes", long) == "yes"
    with pytest.raises(DataError, match="query"):
        answer_in("nothing of it", "prompt")


@pytest.mark.parametrize(
    "end",
    [
        *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|eot|>", "<|return|>", "<turn|>"),
        *(
            "<|END_OF_TURN_TOKEN|>",
            "<\uff5cend\u2581of\u2581sentence\uff5c>",
            "<|user|>",
            "<|role_end|>",
            "[e~[",
        ),
    ],
)
def test_the_end_token_of_a_published_model_is_no_part_of_an_answer(end: str) -> None:
    """As their tokenizers spell it; "3" is 2 better than "1", whatever ends it."""
    assert answer_in(f"q3{end}\n", "q") == "3" and end in END_TOKENS
    reward = OpenRlhfReward(ReferenceReward(NumberJudge()))
    assert reward([f"q3{end}"], ["q"], ["1"])["rewards"].tolist() == [2.0]


@pytest.mark.parametrize("front", ["", "\ufffd"])
def test_the_answer_after_a_cut_prompt_whose_end_stands_in_earlier_turns_too(front: str) -> None:
    """Two turns end in the same 69 characters, and the answer quotes all of the prompt that it saw.

    Without its first 5 characters (the next one may be left in half) the prompt still ends in one place.
    """
    tail = " Please reason step by step, and box the final result.\nassistant: go\n"
    assert len(tail) == 69
    prompt = f"user: Q1{tail}A1<|im_end|>\nuser: Q2{tail}"
    seen = prompt[5 + len(front) :]
    for answer in ("ANSWER", f"A2\n{seen}ANSWER", f"Q2{tail}ANSWER"):
        assert answer_in(f"{front}{seen}{answer}<|im_end|>", prompt) == answer


CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
DECOMPOSED = unicodedata.normalize("NFD", "Où est le café ? \uc65c")  # the last a syllable of three letters


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        (DECOMPOSED, unicodedata.normalize("NFC", DECOMPOSED)),
        (unicodedata.normalize("NFC", DECOMPOSED), DECOMPOSED),
        (CHAT.format(DECOMPOSED), CHAT.format(unicodedata.normalize("NFC", DECOMPOSED))),
        ("\u0958 \u212b", "\u0915\u093c \u00c5"),  # composed characters that NFC takes apart, or replaces
        ("<s> [INST] Why? [/INST]", "<s>[INST] Why? [/INST]"),
        ("<s>[INST] Why? [/INST]", "<s> [INST] Why? [/INST]"),
        ("user: Why?\r\n\r\nassistant:", "user: Why?\n\nassistant:"),
        ("user: Why?\nassistant:", "user: Why?\r\nassistant:"),
        ("Why?\u00a0Really?", "Why? Really?"),
        ("Q: Why? A: ", "Q: Why? A:"),
        ("user:\r\nWhy?\r\n", "user:\nWhy?\n"),
        (
            "x" * 50 + DECOMPOSED + " the end of the prompt, long enough to be found again, surely: ",
            "x" * 9
            + unicodedata.normalize("NFC", DECOMPOSED)
            + " the end of the prompt, long enough to be found again, surely: ",
        ),
    ],
)
def test_the_answer_after_a_prompt_that_the_tokenizer_wrote_in_another_way(prompt: str, seen: str) -> None:
    """The query is decoded tokens. The answer, of both forms itself, is to the letter of the query."""
    assert prompt != seen
    answer = f"Café {unicodedata.normalize('NFD', 'é')}\r\n  2"
    assert answer_in(f"{seen}{answer}<|im_end|>\n", prompt) == answer
    assert answer_in(f"{seen}{seen}{answer}</s>", prompt).endswith(answer)
    assert answer_in(seen, prompt) == ""


def test_a_letter_more_or_less_is_another_prompt() -> None:
    for prompt, query in [
        ("Why?", "why? so"),
        ("Why not?", "Why? so"),
        ("caf\u00e9", "cafe so"),
        ("a b", "acb"),
    ]:
        with pytest.raises(DataError, match="does not hold its prompt"):
            answer_in(query, prompt)


# --- verl ---


def test_verl_sync_and_async() -> None:
    adapter = VerlReward(ReferenceReward(NumberJudge(bias=0.5)))
    call = {
        "data_source": "any",
        "solution_str": "3",
        "ground_truth": "1",
        "extra_info": {"prompt": asked("q"), "index": 7},
        "reward_router_address": None,
        "reward_model_tokenizer": None,
    }
    got = adapter.compute_score(**call)
    assert (got["score"], got["failed"]) == (2.0, 0.0) and got["position_gap"] > 0
    assert inspect.iscoroutinefunction(adapter.compute_score_async)
    assert asyncio.run(adapter.compute_score_async(**call)) == got


def test_verl_has_no_word_for_none() -> None:
    adapter = VerlReward(ReferenceReward(NumberJudge(), failure_limit=1), neutral=-0.5)
    rows: dict[str, Any] = {"data_sources": ["d"] * 2, "ground_truths": ["1"] * 2}
    rows["extra_infos"] = [{"prompt": "q"}] * 2
    failed, scored = adapter.compute_scores(solution_strs=["bad", "3"], **rows)
    assert (failed["score"], failed["failed"]) == (-0.5, 1.0)
    assert (scored["score"], scored["failed"]) == (2.0, 0.0)
    with pytest.raises(ScoringError, match="over the limit"):
        adapter.compute_scores(solution_strs=["bad", "bad"], **rows)


def as_verl_puts_together(infos: list[dict[str, float]]) -> dict[str, list[float]]:
    """What verl's reward loop does with the answers of a batch: the names of the first one, of all."""
    keys = list(infos[0].keys())
    return {key: np.array([info[key] for info in infos]).tolist() for key in keys}


@pytest.mark.parametrize("answers", [["bad", "3"], ["3", "bad"], ["bad", "bad"], ["3", "3"]])
def test_verl_finds_the_same_names_in_every_answer(answers: list[str]) -> None:
    """Asked one by one, in threads and as batches of one: a failure has all names that a score has."""
    one_by_one = VerlReward(ReferenceReward(NumberJudge(bias=0.5)))
    calls = [("d", answer, "1", {"prompt": "q"}) for answer in answers]

    async def together() -> list[dict[str, float]]:
        return await asyncio.gather(*(one_by_one.compute_score_async(*call) for call in calls))

    ways = [[one_by_one.compute_score(*call) for call in calls], asyncio.run(together())]
    ways.append(one_by_one.compute_scores(["d"] * 2, answers, ["1"] * 2, [{"prompt": "q"}] * 2))
    for infos in ways:
        table = as_verl_puts_together(infos)
        assert list(table) == ["score", "failed", "position_gap"]
        assert table["score"] == [0.0 if answer == "bad" else 2.0 for answer in answers]
        assert table["failed"] == [float(answer == "bad") for answer in answers]


@pytest.mark.parametrize("info", [None, {}, {"prompt": ""}])
def test_verl_needs_the_prompt(info: Any) -> None:
    with pytest.raises(DataError, match=r"extra_info\.prompt"):
        VerlReward(ReferenceReward(NumberJudge())).compute_score("d", "1", "0", info)
