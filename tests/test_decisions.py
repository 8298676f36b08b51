"""Typed questions against one forward pass of transformers for each question and order, softmax by hand.

The slow side writes the prompts out itself and shares no code with the fast one but the tokenizer.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch

import gram
from gram.asking import Asking, Running
from gram.decisions import Choice, ChoiceAnswer, Noul, NoulAnswer, Request, Score, ScoreAnswer
from gram.errors import DataError, ScoringError
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import Manifest
from gram.rendering import Renderer, load_template
from gram.rendering.questions import ShownQuestion
from gram.scoring.judge import JudgeModel
from gram.scoring.loading import wrap
from small_models import causal
from small_tokenizers import naive_judge, tokenizer_of

STYLE = "chatml"
STATE = "The parcel came late , and the box was open . I want my money back !"
QUESTIONS = {
    "refund": Noul("Is a refund requested ?"),
    "angry": Noul("Is it angry ?", true="Strong words .", false={"not": ["that"]}),
    "tone": Choice("The tone ?", {"calm": "A polite message", "angry": None, "happy": {"like": 1}}),
    "pair": Choice(["Which", "one ?"], ["blue", "red"]),
    "urgency": Score("How urgent ?", ["It can wait", "This week", "Today", "Now"]),
}


def make(
    style: str = STYLE,
    architecture: str = "llama",
    *,
    max_length: int = 1024,
    manifest: Manifest | None = None,
    **running: Any,
) -> JudgeModel:
    tokenizer = tokenizer_of(style)
    loaded = LoadedModel(causal(architecture, len(tokenizer)), tokenizer, manifest)
    model = wrap(loaded, Asking("judge", max_length=max_length), Running(**running))
    assert isinstance(model, JudgeModel)
    return model


def written(state: str, question: Noul | Choice | Score, order: tuple[int, ...]) -> str:
    """The prompt, written out a second time. In this small vocabulary Yes and No are several tokens."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else str(value).replace("'", '"')

    letters = "ABCDEFGH"[: len(order)]
    lines = []
    for letter, option in zip(letters, order, strict=True):
        if isinstance(question, Noul):
            meaning = (question.true, question.false)[option]
            lines.append(f"{letter}: {text(meaning) if meaning else ('true', 'false')[option]}")
        elif isinstance(question, Choice):
            name, meaning = list(question.criteria.items())[option]
            lines.append(f"{letter}. {name}: {text(meaning)}" if meaning else f"{letter}. {name}")
        else:
            lines.append(f"{letter}. {text(question.criteria[option])}")
    answers = "\n".join(lines)
    cue = f"[Best answer, A {'or' if len(order) == 2 else 'to'} {letters[-1]}]"
    return f"[Text]\n{state}\n\n[Question]\n{text(question.instructions)}\n\n[Answers]\n{answers}\n\n{cue}\n"


def reading(
    style: str, architecture: str, state: str, question: Noul | Choice | Score, order: tuple[int, ...]
) -> np.ndarray:
    """(k,) float64 log-probabilities of the letters behind the prompt, from one forward pass."""
    tokenizer = tokenizer_of(style)
    ids = naive_judge(style, written(state, question, order))
    labels = [tokenizer.convert_tokens_to_ids(letter) for letter in "ABCDEFGH"[: len(order)]]
    with torch.inference_mode():
        logits = causal(architecture, len(tokenizer))(torch.tensor([ids])).logits[0, -1]
    return logits.double().log_softmax(-1)[labels].numpy()


def averaged(readings: list[tuple[tuple[int, ...], np.ndarray]]) -> np.ndarray:
    """Probabilities of the options: the mean of log-shares over orders, normalised."""
    total = np.zeros(len(readings[0][0]))
    for order, values in readings:
        shares = np.exp(values) / np.exp(values).sum()
        for place, option in enumerate(order):
            total[option] += np.log(shares[place])
    product = np.exp(total / len(readings))
    return product / product.sum()


def probabilities(answer: Any) -> list[float]:
    match answer:
        case NoulAnswer():
            return [answer.noul, 1 - answer.noul]
        case ChoiceAnswer():
            return list(answer.probabilities.values())
        case ScoreAnswer():
            return list(answer.probabilities)
    raise AssertionError(answer)


def same(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    assert list(found) == list(expected)
    for name in found:
        np.testing.assert_allclose(
            probabilities(found[name]), probabilities(expected[name]), atol=tolerance, err_msg=name
        )
        assert abs(found[name].mass - expected[name].mass) < tolerance


ORDERS = {2: [(0, 1), (1, 0)], 3: [(0, 1, 2), (2, 1, 0)], 4: [(0, 1, 2, 3), (3, 2, 1, 0)]}


@pytest.mark.parametrize(
    ("style", "architecture"),
    [("chatml", "llama"), ("chatml", "gpt2"), ("headers", "qwen2"), ("base", "llama"), ("thinking", "bloom")],
)
def test_answers_are_those_of_one_forward_pass_each(style: str, architecture: str) -> None:
    answers = gram.decide(make(style, architecture), STATE, QUESTIONS)
    spreads = []
    for name, question in QUESTIONS.items():
        k = len(question.options)
        orders = ORDERS[k][:1] if isinstance(question, Noul) else ORDERS[k]
        readings = [(order, reading(style, architecture, STATE, question, order)) for order in orders]
        expected = averaged(readings)
        np.testing.assert_allclose(probabilities(answers[name]), expected, atol=1e-5, err_msg=name)
        assert answers[name].mass == pytest.approx(
            np.mean([np.exp(values).sum() for _, values in readings]), abs=1e-5
        )
        match answers[name]:
            case ChoiceAnswer(choice=choice, spread=spread, orders=2):
                assert choice == question.options[int(expected.argmax())]
                spreads.append(spread)
            case ScoreAnswer(score=score, spread=spread, orders=2):
                assert score == pytest.approx(float(expected @ np.arange(k)), abs=1e-5)
                spreads.append(spread)
    assert len(spreads) == 3 and max(spreads) > 0.05  # this model does look at places


def test_the_spread_is_the_largest_difference_of_one_option_between_orders() -> None:
    question = QUESTIONS["tone"]
    shares = []
    for order in ORDERS[3]:
        values = np.exp(reading(STYLE, "llama", STATE, question, order))
        shares.append((values / values.sum())[np.argsort(order)])
    answer = gram.decide(make(), STATE, {"q": question})["q"]
    assert isinstance(answer, ChoiceAnswer)
    assert answer.spread == pytest.approx(float(np.abs(shares[0] - shares[1]).max()), abs=1e-5)
    single = gram.decide(make(), STATE, {"q": question}, orders=1)["q"]
    assert isinstance(single, ChoiceAnswer) and single.spread is None and single.orders == 1
    np.testing.assert_allclose(probabilities(single), shares[0], atol=1e-5)


@pytest.mark.parametrize("orders", [2, 4, 6])
@pytest.mark.parametrize("name", ["tone", "pair", "urgency"])
def test_options_listed_backwards_get_the_same_answer(name: str, orders: int) -> None:
    question = QUESTIONS[name]
    if isinstance(question, Choice):
        backwards: Any = Choice(question.instructions, dict([*question.criteria.items()][::-1]))
    else:
        assert isinstance(question, Score)
        backwards = Score(question.instructions, question.criteria[::-1])
    model = make()
    found = gram.decide(model, STATE, {"q": question}, orders=orders)["q"]
    turned = gram.decide(model, STATE, {"q": backwards}, orders=orders)["q"]
    np.testing.assert_allclose(probabilities(turned)[::-1], probabilities(found), atol=1e-6)
    one = [gram.decide(model, STATE, {"q": q}, orders=1)["q"] for q in (question, backwards)]
    assert np.abs(np.array(probabilities(one[1])[::-1]) - probabilities(one[0])).max() > 0.01


@pytest.mark.parametrize("engine", ["tree", "plain"])
@pytest.mark.parametrize("budget", [1, 200, 700, 10**9])
def test_alone_or_in_a_crowd(engine: Any, budget: int) -> None:
    """Each question by itself, all of a request, and several requests at once, in every batch."""
    states = [STATE, "x", [{"role": "user", "content": "Hi !"}], {"stars": 2}]
    alone = make(engine="plain", token_budget=1)
    model = make(engine=engine, token_budget=budget)
    requests = [Request(state, QUESTIONS, orders=4) for state in states]
    crowd = model.decide(requests)
    for request, found in zip(requests, crowd, strict=True):
        single = {
            name: alone.decide([Request(request.state, {name: question}, 4)])[0][name]
            for name, question in QUESTIONS.items()
        }
        same(found, single)
    assert len({answers["tone"].mass for answers in crowd}) == len(states)


def test_other_questions_change_nothing() -> None:
    """Added, renamed and in another order."""
    model = make()
    found = gram.decide(model, STATE, QUESTIONS)
    renamed = {f"{name} of mine": question for name, question in reversed(QUESTIONS.items())}
    again = gram.decide(model, STATE, renamed | {"more": Noul("And so ?")})
    same({name: again[f"{name} of mine"] for name in QUESTIONS}, found)


def test_the_state_is_read_once_for_all_questions_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the runner with every question and order, one trie: of 9 prompts of one long state, the
    forward pass gets fewer tokens than two of them have.
    """
    model = make()
    seen = []
    network: Any = causal("llama", len(tokenizer_of(STYLE)))
    forward = type(network.model).forward

    def spied(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        seen.append(input_ids.shape[1])
        return forward(self, input_ids, **options)

    monkeypatch.setattr(type(network.model), "forward", spied)
    short = {name: Choice("?", [name, "no"]) for name in ("a", "b", "c", "d")} | {"e": Noul("?")}
    answers = gram.decide(model, " ".join([STATE] * 6), short)
    assert answers.usage.judged == 9 and len(seen) == 1
    assert seen[0] < 2 * answers.usage.tokens / 9 < answers.usage.tokens


@pytest.mark.parametrize("style", ["chatml", "headers", "base"])
def test_a_long_state_is_cut_and_questions_and_cue_survive(style: str) -> None:
    tokenizer = tokenizer_of(style)
    renderer = Renderer(tokenizer, load_template("default"), 320)
    asked = [
        ShownQuestion("a", "choice", "Which color ?", ["blue", "red"], ["A", "B"], [None, None]),
        ShownQuestion("b", "choice", "And which color ?", ["red", "blue"], ["A", "B"], [None, "x"]),
    ]
    state = "begin " + "the capital of France is Paris . " * 200 + "end"
    prompts = renderer.questions(state, asked)
    for prompt, question in zip(prompts, asked, strict=True):
        text = str(tokenizer.decode(prompt.ids))
        assert len(prompt.ids) <= 320 and prompt.cut["state"] > 1000 and prompt.tokens_cut > 1000
        for part in ("[Text]\nbegin the", " … ", "end\n\n[Question]\n", str(question.instructions), "B. "):
            assert part in text
        assert "[Best answer, A or B]" in text.split("[Answers]")[1]
    shown = [str(tokenizer.decode(prompt.ids)).split("[Question]")[0] for prompt in prompts]
    assert shown[0] == shown[1]  # cut in steps: questions of about one length are shown the same
    whole = renderer.questions("short", asked)
    assert all(not prompt.cut for prompt in whole)


def test_a_cut_state_counts_in_the_usage_and_keeps_the_laws() -> None:
    model = make(max_length=300)
    long = STATE * 40
    answers = gram.decide(model, long, QUESTIONS)
    assert answers.usage.truncated == answers.usage.judged == 8 and model.usage == answers.usage
    for name, question in QUESTIONS.items():
        same({name: gram.decide(make(max_length=300), long, {name: question})[name]}, {name: answers[name]})


def test_a_question_too_long_for_the_model_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"field 'questions.long': takes \d+ of the 200 tokens"):
        gram.decide(make(max_length=200), "x", {"ok": Noul("?"), "long": Noul("why " * 300)})


def test_as_many_options_as_there_are_labels_and_no_more() -> None:
    """In this vocabulary the labels of one token are the letters: 26, and not one pair of them."""
    model = make()
    most = {f"o{k}": None for k in range(26)}
    answer = gram.decide(model, "x", {"q": Choice("?", most)})["q"]
    assert isinstance(answer, ChoiceAnswer)
    assert sum(answer.probabilities.values()) == pytest.approx(1.0) and list(answer.probabilities) == [*most]
    with pytest.raises(DataError, match=r"field 'questions.q': has 27 options, and the model has 26 labels"):
        gram.decide(model, "x", {"q": Choice("?", most | {"more": None})})


def test_control_tokens_in_a_request_are_text() -> None:
    """In the state, the instructions and the options: as with a zero-width space inside."""
    word, harmless = "<|im_end|>", "<\u200b|im_end|>"
    model = make()
    found, expected = (
        gram.decide(model, f"a {w} b", {"q": Choice(f"c {w}", {f"d {w}": f"e {w}", "f": None})})["q"]
        for w in (word, harmless)
    )
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-6)


def test_temperatures_of_the_manifest() -> None:
    """At temperature 2 the log-odds of a noul are half of what they were; other types have their own."""
    tokenizer = tokenizer_of(STYLE)
    renderer = Renderer(tokenizer, load_template("default"), 1024)
    manifest = Manifest("judge", **renderer.settings, decisions={"temperature": {"noul": 2.0}})
    plain, cooled = (gram.decide(make(manifest=m), STATE, QUESTIONS) for m in (None, manifest))
    for name in ("refund", "angry"):
        (p, q), (warm, _) = probabilities(plain[name]), probabilities(cooled[name])
        assert warm == pytest.approx(np.sqrt(p) / (np.sqrt(p) + np.sqrt(q)), abs=1e-6)
        assert cooled[name].mass == pytest.approx(plain[name].mass, abs=1e-6)
    same({"tone": cooled["tone"]}, {"tone": plain["tone"]})


def test_a_low_mass_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = make()
    with caplog.at_level(logging.WARNING, "gram.decisions"):
        answers = [gram.decide(model, STATE, QUESTIONS) for _ in range(2)]
    assert answers[0].usage.label_mass is not None and answers[0].usage.label_mass < 0.1
    assert [record.message.split(" have")[0] for record in caplog.records] == [
        "the labels of the questions together"
    ]


def test_a_number_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gram.engine.runner.Runner.next_logprobs",
        lambda self, rows, tokens: np.full((len(rows), len(tokens)), np.nan),
    )
    with pytest.raises(ScoringError, match="no finite log-probability for question 'refund'"):
        gram.decide(make(), STATE, QUESTIONS)


def test_a_judge_that_was_trained_answers_too(judge_folder) -> None:
    """Through gram.load, the usage counted, and its temperature for pairs left out."""
    model = gram.load(judge_folder, device="cpu")
    assert isinstance(model, JudgeModel)
    found = gram.decide(model, STATE, QUESTIONS)
    assert model.usage == found.usage and found.usage.judged == 8
    model.temperature = 3.0
    same(gram.decide(model, STATE, QUESTIONS), found)
    assert model.decide([]) == []


def test_messages_are_shown_with_their_speakers() -> None:
    turns = [
        {"role": "system", "content": "Be kind ."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    model = make()

    def ask(state: Any) -> Any:
        return gram.decide(model, state, QUESTIONS)

    same(ask(turns), ask("System: Be kind .\n\nUser: Hi"))
    same(ask([{"role": "user", "content": "Hi"}]), ask("Hi"))
    same(ask({"a": ["é", 1]}), ask('{"a": ["é", 1]}'))


def test_all_orders_of_three_are_a_set_that_no_listing_changes() -> None:
    """With all six orders every permutation of the options gets the same answer."""
    question = QUESTIONS["tone"]
    assert isinstance(question, Choice)
    model = make()
    found = gram.decide(model, STATE, {"q": question}, orders=6)["q"]
    assert isinstance(found, ChoiceAnswer)
    for names in itertools.permutations(question.criteria):
        listed = Choice(question.instructions, {name: question.criteria[name] for name in names})
        again = gram.decide(model, STATE, {"q": listed}, orders=6)["q"]
        assert isinstance(again, ChoiceAnswer)
        assert dict(again.probabilities) == pytest.approx(dict(found.probabilities), abs=1e-6)
