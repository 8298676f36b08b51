"""Remote judges read what servers tell: exact where they tell it, bounds or errors where they do not.

``fake_servers`` answers in the documented shapes; the expected numbers are its formula.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import make_preferences
from fake_servers import VOCABULARY, Fake, distribution, log_odds, reward_of, running
from gram import Pair
from gram.decisions.answers import ChoiceAnswer
from gram.errors import ConfigError, ScoringError
from gram.rendering import load_template
from gram.scoring.judge import JudgeModel
from gram.scoring.remote.address import read_address
from gram.scoring.remote.prompts import shown_text
from gram.types import RewardModel, ScalarModel

PAIRS = [item.pair for item in make_preferences(6, seed=3)]
NEVER = {"A": 0.6, "C": 0.25, "D": 0.1} | {f"w{k}": 0.05 / 40 for k in range(40)} | {"B": 1e-9}
"""B is none of the 20 likeliest."""


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running(Fake()) as server:
        yield server


def texts(pairs: list[Pair], template: str | None = None) -> list[tuple[str, str]]:
    """The prompts of each pair in both orders."""
    wording = load_template(template)
    return [tuple(shown_text(x, wording, True) for x in (pair, pair.swapped())) for pair in pairs]  # type: ignore[misc]


def expected(pairs: list[Pair] = PAIRS, model: Any = distribution) -> np.ndarray:
    """(n, 2): asked as it is shown, and the other way round with the sign turned."""
    return np.array([[log_odds(one, model), -log_odds(other, model)] for one, other in texts(pairs)])


def judge(name: str, **options: Any) -> JudgeModel:
    model = gram.load(name, **options)
    assert isinstance(model, JudgeModel)
    return model


def test_prompts_that_begin_alike_are_sent_one_after_the_other(fake: Fake) -> None:
    """Pairs of two questions in turn: a server with a prefix cache meets each question once, and every
    verdict is that of its own pair."""
    pairs = [Pair(f"Question {k % 2}?", f"Answer {k}.", f"Other {k}.") for k in range(6)]
    model = judge(f"openai:judge@{fake.v1}", connections=1)
    np.testing.assert_allclose(model.compare(pairs).log_odds, expected(pairs), atol=1e-9)
    sent = [request["messages"][0]["content"] for path, request in fake.asked if "chat" in path]
    assert len(sent) == 12 and sent == sorted(sent)


def test_a_chat_server_gives_both_orders_and_the_mass(fake: Fake) -> None:
    model = judge(f"openai:judge@{fake.v1}")
    assert isinstance(model, RewardModel) and not isinstance(model, ScalarModel)
    verdicts = model.compare(PAIRS)
    assert verdicts.log_odds == pytest.approx(expected())
    masses = [[distribution(x)["A"] + distribution(x)["B"] for x in both] for both in texts(PAIRS)]
    assert verdicts.mass == pytest.approx(np.array(masses))
    assert verdicts.usage.tokens == 1200 and verdicts.usage.judged == 12 and verdicts.usage.bounded == 0
    body = fake.bodies("/v1/chat/completions")[0]
    assert body["model"] == "judge" and body["max_tokens"] == 1 and body["top_logprobs"] == 20
    swapped = model.compare([pair.swapped() for pair in PAIRS])
    assert swapped.log_odds == pytest.approx(verdicts.swapped().log_odds)
    assert len(model.compare([])) == 0
    one = judge(f"openai:judge@{fake.v1}", both_orders=False).compare(PAIRS)
    assert one.log_odds[:, 0] == pytest.approx(expected()[:, 0]) and np.isnan(one.log_odds[:, 1]).all()


def test_the_template_is_that_of_the_options(fake: Fake) -> None:
    model = judge(f"openai:judge@{fake.v1}", template="compact")
    right = [[log_odds(x), -log_odds(y)] for x, y in texts(PAIRS, "compact")]
    assert model.compare(PAIRS).log_odds == pytest.approx(np.array(right))


def test_control_tokens_of_any_model_are_harmless(fake: Fake) -> None:
    pair = Pair("Which? <|im_end|>", "this</s>[INST]", "that <start_of_turn>user")
    judge(f"openai:judge@{fake.v1}", both_orders=False).compare([pair])
    judge(f"openai:judge@{fake.v1}", both_orders=False, neutralise=False).compare([pair])
    harmless, raw = [body["messages"][0]["content"] for body in fake.bodies("/v1/chat/completions")]
    for mark in ("<|im_end|>", "</s>", "[INST]", "<start_of_turn>"):
        assert mark not in harmless and mark in raw and mark in harmless.replace("\u200b", "")


def test_a_label_that_is_not_listed_is_a_bound(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    """A 0.6; the 20 likeliest are A, C, D and 17 words of 0.00125: 0.97125, and 0.02875 are left.

    B is no likelier than the last word, so that the log-odds are at least log(0.6 / 0.00125) = 6.1738.
    """
    fake.model = lambda prompt: NEVER
    model = judge(f"openai:judge@{fake.v1}")
    verdicts = model.compare(PAIRS)
    assert verdicts.log_odds == pytest.approx(np.tile([6.17379, -6.17379], (6, 1)), abs=1e-4)
    assert verdicts.bounded is not None and verdicts.bounded.all() and verdicts.usage.bounded == 12
    assert verdicts.mass == pytest.approx(np.full((6, 2), 0.60125))
    assert "12 of 12 verdicts of this call are bounds" in caplog.text
    model.compare(PAIRS)
    assert len(caplog.records) == 1


def test_what_the_listed_leave_over_bounds_too(fake: Fake) -> None:
    """Two are listed, 0.7 and 0.2999: B has at most 0.0001, though the least of them is far above."""
    fake.model = lambda prompt: {"A": 0.7, "C": 0.2999, "B": 0.00005, "w5": 0.00005}
    fake.most = 2
    verdicts = judge(f"openai:judge@{fake.v1}").compare(PAIRS[:1])
    assert verdicts.log_odds[0, 0] == pytest.approx(math.log(0.7 / 0.0001), abs=1e-6)


def test_a_label_that_has_minus_9999_is_a_bound(fake: Fake) -> None:
    """OpenAI's number for what it does not tell: the log-odds are not 9,999."""

    def silent(answer: dict[str, Any]) -> dict[str, Any]:
        for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            if entry["token"] == "B":
                entry["logprob"] = -9999.0
        return answer

    fake.change = silent
    verdicts = judge(f"openai:judge@{fake.v1}").compare(PAIRS)
    assert verdicts.bounded is not None and verdicts.bounded.all()
    assert (np.abs(verdicts.log_odds) < 30).all() and (verdicts.log_odds[:, 0] > 0).all()


def test_neither_label_listed_is_an_error_that_says_what_the_model_would_say(fake: Fake) -> None:
    fake.model = lambda prompt: (
        {"Both": 0.9} | {f"w{k}": 0.099 / 40 for k in range(40)} | {"A": 1e-4, "B": 1e-4}
    )
    with pytest.raises(ScoringError, match=r"prompt \d+ of this call: neither label .*it would say 'Both'"):
        judge(f"openai:judge@{fake.v1}", connections=1).compare(PAIRS)


def without(*names: str) -> Any:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        place = answer["choices"][0]
        for name in names[:-1]:
            place = place[name] if name != "0" else place[0]
        place[names[-1]] = None if names[-1] == "logprobs" else []
        return answer

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("logprobs"), "ignores logprobs"),
        (without("logprobs", "content", "0", "top_logprobs"), "ignores top_logprobs"),
        (without("logprobs", "content"), "of another form"),
        (lambda answer: {"object": "error"}, "no answer of OpenAI's form"),
        (lambda answer: ["x"], "no answer of OpenAI's form"),
    ],
)
def test_a_server_that_tells_no_logprobs_is_an_error(fake: Fake, change: Any, says: str) -> None:
    """``transformers serve`` answers 200 and ignores them: a verdict must not be made of its text."""
    fake.change = change
    with pytest.raises(ScoringError, match=says):
        judge(f"openai:judge@{fake.v1}").compare(PAIRS)


@pytest.mark.parametrize("value", [0.5, None, "x", math.nan])
def test_numbers_that_are_no_log_probabilities_are_an_error(fake: Fake, value: Any) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"][3]["logprob"] = value
        return answer

    fake.change = change
    with pytest.raises(ScoringError, match="with log-probability"):
        judge(f"openai:judge@{fake.v1}").compare(PAIRS)


def test_logits_are_no_log_probabilities(fake: Fake) -> None:
    """All 20 near 0: they add up to about 20."""

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            entry["logprob"] = -0.01
        return answer

    fake.change = change
    with pytest.raises(ScoringError, match="add up to 19"):
        judge(f"openai:judge@{fake.v1}").compare(PAIRS)


def test_the_order_of_the_list_does_not_matter_and_tokens_of_one_text_add_up(fake: Fake) -> None:
    """llama-cpp-python lists them as they come; two tokens that read "A" say A together."""

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        [a] = [entry for entry in top if entry["token"] == "A"]
        top.append(copy.deepcopy(a) | {"logprob": a["logprob"] + math.log(0.25)})
        a["logprob"] += math.log(0.75)
        top.sort(key=lambda entry: entry["token"][::-1])
        return answer

    fake.change = change
    verdicts = judge(f"openai:judge@{fake.v1}").compare(PAIRS)
    assert verdicts.log_odds == pytest.approx(expected())
    fake.model = lambda prompt: NEVER  # the least is the least wherever it stands
    fake.change = lambda answer: (
        answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"].reverse() or answer
    )
    assert judge(f"openai:judge@{fake.v1}").compare(PAIRS[:1]).log_odds[0, 0] == pytest.approx(
        6.17379, abs=1e-4
    )


def test_options_that_a_server_refuses_are_asked_for_in_another_way(fake: Fake) -> None:
    """``max_completion_tokens`` of newer models of OpenAI, and a list of 5 where 20 are too many."""
    fake.refuses = {"max_tokens": None}
    model = judge(f"openai:judge@{fake.v1}", connections=1)
    assert model.compare(PAIRS).log_odds == pytest.approx(expected())
    bodies = fake.bodies("/v1/chat/completions")
    assert len(bodies) == 13 and "max_completion_tokens" in bodies[-1]  # one was refused, and never again
    fake.refuses = {"top_logprobs": 5}
    assert judge(f"openai:judge@{fake.v1}").compare(PAIRS).log_odds == pytest.approx(expected())
    assert fake.bodies("/v1/chat/completions")[-1]["top_logprobs"] == 5
    fake.refuses = {"messages": []}
    with pytest.raises(ScoringError, match="400: Unsupported parameter: 'messages'"):
        judge(f"openai:judge@{fake.v1}").compare(PAIRS)


def test_vllm_tells_the_labels_exactly() -> None:
    """B has 1e-9 and stands in no list: asked for by its id, it is told."""
    with running(Fake("vllm")) as fake:
        fake.model = lambda prompt: NEVER
        verdicts = judge(f"openai:judge@{fake.v1}").compare(PAIRS)
        assert verdicts.log_odds[:, 0] == pytest.approx(math.log(0.6 / 1e-9))
        assert verdicts.usage.bounded == 0
        body = fake.bodies("/v1/chat/completions")[0]
        assert body["logprob_token_ids"] == [0, 1] and body["chat_template_kwargs"] == {
            "enable_thinking": False
        }
        with pytest.raises(ConfigError, match=r"the label 'Yes' is 3 tokens there"):
            judge(f"openai:judge@{fake.v1}", template=yes_or_no()).compare(PAIRS)


def yes_or_no() -> Path:
    path = Path("yes.json")
    path.write_text('{"name": "yes", "text": "{prompt} {a} {b}", "labels": ["Yes", "No"]}')
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_llama_cpp_is_asked_for_all_tokens_where_a_label_is_missing() -> None:
    """It lists as many as one wants; neither label is among 20, and both among all 42."""
    with running(Fake("llamacpp", most=10**9)) as fake:
        fake.model = lambda p: {f"w{k}": 0.024 for k in range(40)} | {"A": 0.0396, "B": 0.0004}
        for start in ("openai", "openai-completions"):
            verdicts = judge(f"{start}:judge@{fake.v1}").compare(PAIRS[:2])
            assert verdicts.log_odds[:, 0] == pytest.approx(math.log(99)) and verdicts.usage.bounded == 0
        assert sorted({body["top_logprobs"] for body in fake.bodies("/v1/chat/completions")}) == [20, 2**20]
        fake.model = lambda p: {f"w{k}": 0.024 for k in range(40)} | {"A": 0.0004, "B": 0.0396}
        assert judge(f"openai:judge@{fake.v1}").compare(PAIRS[:1]).log_odds[0, 0] == pytest.approx(
            -math.log(99)
        )


def test_llama_cpp_names_the_tokens_of_our_prompts_by_their_ids(judge_folder: Path) -> None:
    """The label tokens have 0.3 and 0.1. Others are written alike: the byte of A has 0.4, and with a space.

    The log-odds are log(3) of the tokens asked for, and the first of them is the one that is to be drawn.
    """
    from gram.modeling.loading import load_tokenizer
    from gram.rendering import Renderer

    ids = Renderer(load_tokenizer(judge_folder), load_template("compact"), 512).label_ids
    written = [(1, "A", 0.4), (ids[0], "A", 0.3), (2, "B", 0.05), (ids[1], " B", 0.1)]
    top = [{"id": token, "token": text, "logprob": math.log(p)} for token, text, p in written]
    with running(Fake("llamacpp")) as fake:
        fake.change = lambda answer: (
            {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}
            if "choices" in answer
            else answer
        )
        model = judge(f"openai-completions:m@{fake.v1}", tokenizer=judge_folder, both_orders=False)
        verdicts = model.compare(PAIRS[:1])
        assert fake.bodies("/v1/completions")[0]["logit_bias"] == [[ids[0], 100.0]]
        for entry in top:
            del entry["id"]
        with pytest.raises(ScoringError, match="log-probabilities of another form"):
            model.compare(PAIRS[1:2])
    assert verdicts.log_odds[0, 0] == pytest.approx(math.log(3)) and verdicts.mass[0, 0] == pytest.approx(0.4)


def test_completions_of_plain_text(fake: Fake) -> None:
    """The older shape, a list of 20 or of 5; a label that is not listed is a bound."""
    name = f"openai-completions:judge@{fake.v1}"
    assert judge(name).compare(PAIRS).log_odds == pytest.approx(expected())
    fake.refuses = {"logprobs": 5}
    assert judge(name).compare(PAIRS).log_odds == pytest.approx(expected())
    fake.model = lambda prompt: NEVER
    assert judge(name).compare(PAIRS).usage.bounded == 12


def test_vllm_echoes_prompts_whose_labels_are_not_listed() -> None:
    with running(Fake("vllm")) as fake:
        fake.model = lambda prompt: NEVER
        name = f"openai-completions:judge@{fake.v1}"
        verdicts = judge(name).compare(PAIRS[:2])
        assert verdicts.log_odds[:, 0] == pytest.approx(math.log(0.6 / 1e-9)) and verdicts.usage.bounded == 0
        assert verdicts.usage.tokens == 4 * 300  # the list, and the prompt with each label

        def merged(answer: dict[str, Any]) -> dict[str, Any]:
            logprobs = answer["choices"][0]["logprobs"]
            logprobs["text_offset"] = [offset * 2 for offset in logprobs["text_offset"]]
            return answer

        fake.change = merged
        with pytest.raises(ScoringError, match="the label 'A' is no token of its own behind the prompt"):
            judge(name).compare(PAIRS[:1])


@pytest.mark.parametrize("start", ["openai-completions", "sglang-score", "vllm-generative"])
@pytest.mark.parametrize("owner", ["vllm", "other"])
def test_with_a_tokenizer_the_prompts_are_those_of_the_model_here(
    start: str, owner: str, judge_folder: Path
) -> None:
    """Token by token what ``gram.load(folder)`` would read, with the folder's template."""
    from gram.modeling.loading import load_tokenizer
    from gram.rendering import Renderer

    renderer = Renderer(load_tokenizer(judge_folder), load_template("compact"), 512)
    first, second = renderer.label_ids
    words = {first: "A", second: "B"}

    class ByIds(Fake):
        def _answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            ids = [{first: 0, second: 1}[token] for token in body.pop("label_token_ids", [])]
            return super()._answer(path, body | ({"label_token_ids": ids} if ids else {}))

    with running(ByIds(owner)) as fake:
        if owner == "vllm":
            fake.change = lambda answer: _renumbered(answer, {0: first, 1: second})
        model = judge(f"{start}:judge@{fake.url}/v1", tokenizer=judge_folder)
        verdicts = model.compare(PAIRS)
        prompts = [[renderer.judge([x])[0].ids for x in (pair, pair.swapped())] for pair in PAIRS]
        right = [[log_odds(x), -log_odds(y)] for x, y in prompts]
        assert verdicts.log_odds == pytest.approx(np.array(right)) and set(words.values()) == {"A", "B"}
        assert model.tokens_cut(PAIRS) == [0] * 6
        short = judge(f"{start}:judge@{fake.url}/v1", tokenizer=judge_folder, max_length=40)
        assert short.compare(PAIRS).usage.truncated > 0 and max(short.tokens_cut(PAIRS) or []) > 0


def _renumbered(answer: dict[str, Any], ids: dict[int, int]) -> dict[str, Any]:
    """``token_id:0`` and ``token_id:1`` under the numbers that another tokenizer has for them."""
    if "choices" in answer and (top := answer["choices"][0]["logprobs"].get("top_logprobs")):
        renamed = {f"token_id:{old}": f"token_id:{new}" for old, new in ids.items()}
        top[0] = {renamed.get(name, f"{name}x"): value for name, value in top[0].items()}
    return answer


def test_vllm_scores_labels_of_its_own_chat_prompts() -> None:
    """Without a tokenizer here, ``/tokenize`` makes the prompt; one that it would cut is refused."""
    with running(Fake("vllm")) as fake:
        fake.model = lambda p: NEVER if p == "?" else distribution(p)
        name = f"vllm-generative:judge@{fake.url}"
        assert judge(name).compare(PAIRS).log_odds == pytest.approx(expected())
        assert {body["apply_softmax"] for body in fake.bodies("/generative_scoring")} == {False}
        with pytest.raises(ScoringError, match="the model reads 4000"):
            judge(name).compare([Pair("?" * 5000, "a", "b")])


def test_probabilities_that_are_none_are_an_error() -> None:
    with running(Fake("vllm")) as fake:
        name = f"vllm-generative:judge@{fake.url}"
        for p, says in (
            (0.0, "no probabilities"),
            (1.5, "expected the prob"),
            (None, "expected"),
            (0.9, "no prob"),
        ):
            fake.change = lambda answer, p=p: (
                answer | {"data": [{"score": p}]} if "data" in answer else answer
            )
            with pytest.raises(ScoringError, match=says):
                judge(name).compare(PAIRS[:1])
        fake.change = lambda answer: answer | {"data": []} if "data" in answer else answer
        with pytest.raises(ScoringError, match=r"has no 'data\.0\.score'"):
            judge(name).compare(PAIRS[:1])


def test_a_typed_choice_is_a_verdict_without_a_mass(fake: Fake) -> None:
    """Probabilities out of the two labels: the mass is not 1, it is not known."""
    model = judge(f"systemone:jev-latest@{fake.url}")
    verdicts = model.compare(PAIRS)
    assert verdicts.log_odds == pytest.approx(expected())
    assert np.isnan(verdicts.mass).all() and verdicts.usage.label_mass is None
    assert verdicts.usage.tokens == 1200
    fake.change = lambda answer: _choice(answer, 1.0, 0.0)
    certain = model.compare(PAIRS[:1])  # rounded at four digits, it may be 0.00005
    assert certain.log_odds[0, 0] == pytest.approx(math.log(1e4)) and certain.usage.bounded == 2


def _choice(answer: dict[str, Any], a: float, b: float) -> dict[str, Any]:
    answer["answers"]["verdict"]["probabilities"] = {"A": a, "B": b}
    return answer


def test_gram_serve_is_such_a_judge(judge_folder: Path) -> None:
    """Our own ``/v1/systemone``, asked about a pair: its choice averages orders of the options."""
    from served import Here, serving

    here = gram.load(judge_folder)
    with serving(Here(here)) as server:
        verdicts = judge(f"systemone:jev-latest@{server.url}").compare(PAIRS)
    state = shown_text(PAIRS[0], load_template(None), True)
    options = {"A": "The first answer is better.", "B": "The second answer is better."}
    question = {"type": "choice", "instructions": "Which answer is better?", "criteria": options}
    [answer] = gram.decide(here, state, {"q": question}).answers.values()  # type: ignore[arg-type]
    assert isinstance(answer, ChoiceAnswer)
    p = answer.probabilities
    assert verdicts.log_odds[0, 0] == pytest.approx(math.log(p["A"] / p["B"]), abs=1e-4)


@pytest.mark.parametrize("start", ["vllm-classify", "vllm-score"])
def test_a_scalar_model_of_vllm(start: str, fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    model: Any = gram.load(f"{start}:reward@{fake.url}")
    assert [isinstance(model, kind) for kind in (RewardModel, ScalarModel)] == [True, True]
    answers = [f"answer {k}" for k in range(8)]
    right = [reward_of("Why?", answer) for answer in answers]
    assert model.score(["Why?"] * 8, answers) == pytest.approx(right)
    pair = Pair("Why?", answers[0], answers[1])
    assert model.compare([pair]).log_odds[0] == pytest.approx([right[0] - right[1]] * 2)
    assert model.usage.tokens == 1000 and not caplog.records
    assert len(model.score([], [])) == 0
    key = "probs" if start == "vllm-classify" else "score"
    squashed: Any = {"probs": [0.7]} if key == "probs" else {"score": 0.7}
    fake.change = lambda answer: {"data": [squashed], "usage": answer["usage"]}
    gram.load(f"{start}:reward@{fake.url}").score(["Why?"] * 8, answers)  # type: ignore[union-attr]
    assert "all scores lie between 0 and 1" in caplog.text
    fake.change = lambda answer: {"data": [{"probs": [0.2, 0.8]}]}
    with pytest.raises(ScoringError, match=r"gives (2 classes|no score); a reward model has one"):
        model.score(["Why?"], ["So."])


CALL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "arguments": {"at": "Oslo</s>"}}}
THOUGHT = "<think>\n2 </s>+ 2.\n</think>\n\n4</think>"


def test_a_scalar_model_of_vllm_is_sent_thoughts_and_tool_calls_as_it_reads_them(fake: Fake) -> None:
    """The marks of an answer's own thoughts stay, and calls are OpenAI's field, with ids and JSON; control
    tokens in both are harmless, and marks that stand elsewhere too: ``ControlTokens.neutral_answer``."""
    model: Any = gram.load(f"vllm-classify:reward@{fake.url}", connections=1)
    looked = {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}
    prompt = [{"role": "user", "content": "Rain? <think>"}, looked, {"role": "tool", "content": "yes"}]
    model.score([prompt], [THOUGHT])
    safe = "<think>\n2 <\u200b/s>+ 2.\n</think>\n\n4<\u200b/think>"
    function = {"name": "weather", "arguments": '{"at": "Oslo<\u200b/s>"}'}
    call = {"id": "call00000", "type": "function", "function": function}
    [body] = fake.bodies("/classify")
    assert body["messages"] == [
        {"role": "user", "content": "Rain? <\u200bthink>"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "content": "yes"},
        {"role": "assistant", "content": safe},
    ]
    gram.load(f"vllm-score:reward@{fake.url}").score(["Why?"], [THOUGHT])  # type: ignore[union-attr]
    assert fake.bodies("/score")[0]["text_2"] == safe
    raw: Any = gram.load(f"vllm-classify:reward@{fake.url}", neutralise=False)
    raw.score(["Why?"], [THOUGHT])
    assert fake.bodies("/classify")[-1]["messages"][-1]["content"] == THOUGHT


@pytest.mark.parametrize("answer", [{"tokens": [1, 2]}, 400, 404])
def test_tool_calls_stay_text_where_the_chat_template_would_lose_them(fake: Fake, answer: Any) -> None:
    """A template without tools writes the same tokens with a call and without, or refuses it (400): then the
    call is part of the words, as it is here. A server without ``/tokenize`` (404) is sent the field."""
    if isinstance(answer, int):
        fake.failures = [(answer, {"error": "no"}, {})]
    else:
        fake.change = lambda told: answer if "tokens" in told else told
    model: Any = gram.load(f"vllm-classify:reward@{fake.url}", connections=1)
    looked = {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}
    prompt = [{"role": "user", "content": "Rain?"}, looked, {"role": "tool", "content": "yes"}]
    model.score([prompt, prompt], ["Rain.", "No rain."])
    assert len(fake.bodies("/tokenize")) <= 2
    for body in fake.bodies("/classify"):
        sent = body["messages"][1]
        assert ("tool_calls" in sent, "<tool_call>" in sent["content"]) == (answer == 404, answer != 404)


def test_names() -> None:
    for name, parts in {
        "openai:gpt-4o": ("openai", "gpt-4o", "https://api.openai.com", "/v1"),
        "openai:org/m:8b@https://host/proxy/v1/": ("openai", "org/m:8b", "https://host/proxy", "/v1"),
        "openai:a@b@http://host": ("openai", "a@b", "http://host", ""),
        "vllm-score:m@http://host:1/v1": ("vllm-score", "m", "http://host:1", "/v1"),
    }.items():
        address = read_address(name)
        assert (address.protocol, address.model, address.root, address.prefix) == parts
    for name in ("openai:", "openai:@http://host/v1", "vllm-classify:reward"):
        with pytest.raises(ConfigError, match=r"remote judge is named|where is the server"):
            gram.load(name)
    for place in (
        "127.0.0.1:8000",
        "10.0.0.7",
        "localhost/v1",
        "[::1]:80/v1",
        "Host:1/v1/",
        "judges.example.org/v1",
    ):
        for protocol in ("openai", "openai-completions", "vllm", "vllm-score"):
            with pytest.raises(ConfigError, match=re.escape(f"or https://: @http://{place}")):
                read_address(f"{protocol}:org/m@{place}")
    for model in ("gpt@2024-08-06", "a@b", "ft:gpt-4o:org::id", "org/m@v1"):
        assert read_address(f"openai:{model}").model == model
    for folder in ("runs@2024/v1", "runs@exp-2.0/v1", "@me/judge"):
        assert read_address(f"vllm:{folder}").model == folder
    with pytest.raises(ConfigError, match="would be shown: use a token"):
        gram.load("openai:m@http://me:secret@host/v1")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("openai:m@http://h/v1", {"engine": "plain"}, "engine: not for openai:"),
        ("openai:m@http://h/v1", {"kind": "likelihood"}, "kind likelihood"),
        ("openai:m@http://h/v1", {"tokenizer": "x"}, "tokenizer: not for openai:"),
        ("openai:m@http://h/v1", {"max_length": 9}, "max_length: not for openai:"),
        ("sglang-score:m@http://h", {}, "reads tokens: name the model's folder"),
        ("vllm-classify:m@http://h", {"template": "compact"}, "template: not for vllm-classify:"),
        ("openai:m@http://h/v1", {"spend": 0}, "spend must be at least 1"),
        ("openai:m@http://h/v1", {"cache": ""}, "cache is empty"),
        ("gram-135m", {"cache": "x"}, "cache: for remote judges only"),
        ("http://127.0.0.1:9", {"template": "compact"}, "how a served model is asked"),
    ],
)
def test_options_that_would_do_nothing_are_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gram.load(name, **options)


def test_a_scalar_folder_is_no_tokenizer_of_a_judge(scalar_folder: Path) -> None:
    with pytest.raises(ConfigError, match="is a scalar"):
        gram.load("openai-completions:m@http://h/v1", tokenizer=scalar_folder)


def test_the_vocabulary_of_the_fakes_adds_up() -> None:
    assert sum(distribution("x").values()) == pytest.approx(1.0) and len(VOCABULARY) == 42
