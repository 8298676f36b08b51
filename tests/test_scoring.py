"""Judge, likelihood and scalar models against slow computations that share no code with them.

The slow side pads on the right, keeps every logit, and asks the Hugging Face model plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from gram import Answer, Message, Pair, Preference, PreferenceModel, ScalarModel, Verdicts
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.errors import ConfigError, ScoringError
from gram.modeling.loading import LoadedModel
from gram.rendering import Encoded, JudgeTemplate, Renderer
from gram.scoring.judge import JudgeModel, LabelLogprobs
from gram.scoring.local import LocalBackend
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel
from gram.types import FloatArray, RewardModel, Usage, as_chat
from small_models import ARCHITECTURES, causal, classifier

TOLERANCE = 1e-5
BUDGETS = (1, 300, 1_000, 10**9)  # one row at a time ... everything at once


def right_padded(model, rows: Sequence[Sequence[int]], filler: int = 3) -> torch.Tensor:
    """(n, T, V) log-probabilities in float64 after each token, padded on the right, in one batch."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask, use_cache=False).logits.double().log_softmax(dim=-1)


def slow_likelihood(model, items: Sequence[Encoded]) -> tuple[FloatArray, FloatArray]:
    """Sum of log p(token given all before it) over the answer and its end token, token by token."""
    logprobs = right_padded(model, [item.ids for item in items])
    sums, counts = [], []
    for row, item in enumerate(items):
        start, stop = item.spans["a"][0], item.spans["a"][1] + 1
        assert stop <= len(item.ids)
        sums.append(sum(float(logprobs[row, place - 1, item.ids[place]]) for place in range(start, stop)))
        counts.append(stop - start)
    return np.array(sums), np.array(counts, dtype=float)


def slow_scores(model, items: Sequence[Encoded]) -> FloatArray:
    """The head on the last hidden state, right-padded."""
    width = max(len(item.ids) for item in items)
    ids = torch.tensor([item.ids + [3] * (width - len(item.ids)) for item in items])
    mask = torch.tensor([[1] * len(item.ids) + [0] * (width - len(item.ids)) for item in items])
    with torch.inference_mode():
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)[0]
        last = torch.stack([hidden[row, len(item.ids) - 1] for row, item in enumerate(items)])
        return model.score(last)[:, 0].double().numpy()


@pytest.fixture(scope="module")
def pairs(preferences: list[Preference]) -> list[Pair]:
    return [item.pair for item in preferences[:14]]  # two conversations and two system prompts among them


@pytest.fixture(scope="module")
def make(preset: LoadedModel, renderer: Renderer) -> Callable[..., JudgeModel]:
    """A judge on a small model of some architecture, with the preset's tokenizer."""

    def judge(architecture: str = "llama", budget: int = 1_000, **options) -> JudgeModel:
        runner = Runner(causal(architecture, len(preset.tokenizer)), token_budget=budget)
        return JudgeModel(LocalBackend(renderer, runner), renderer.template, **options)

    return judge


def close(left: FloatArray, right: FloatArray) -> None:
    np.testing.assert_allclose(left, right, atol=TOLERANCE, rtol=TOLERANCE)


# Judge


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_judge_is_a_softmax_over_the_vocabulary(
    architecture: str, make, preset: LoadedModel, renderer: Renderer, pairs: list[Pair]
) -> None:
    """log_odds = log p(A) - log p(B), mass = p(A) + p(B), after the last token of each prompt; the second
    column asks with the answers exchanged, and there the first label speaks for b.
    """
    verdicts = make(architecture).compare(pairs)
    model = causal(architecture, len(preset.tokenizer))
    a, b = renderer.label_ids
    for column, sign, shown in ((0, 1, pairs), (1, -1, [pair.swapped() for pair in pairs])):
        rows = [item.ids for item in renderer.judge(shown)]
        logprobs = right_padded(model, rows)
        last = logprobs[range(len(rows)), [len(row) - 1 for row in rows]].numpy()
        close(verdicts.log_odds[:, column], sign * (last[:, a] - last[:, b]))
        close(verdicts.mass[:, column], np.exp(last[:, a]) + np.exp(last[:, b]))
    assert verdicts.log_odds.std() > 0.1
    assert ((verdicts.mass > 0) & (verdicts.mass < 1)).all()


@pytest.mark.law(3)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_verdicts_do_not_depend_on_the_batch(architecture: str, budget: int, make, pairs: list[Pair]) -> None:
    """Nor on the order of the pairs: one by one, in a few batches, all at once, reversed."""
    model = make(architecture, budget)
    whole = make(architecture, 2_000).compare(pairs)
    found = model.compare(pairs)
    close(found.log_odds, whole.log_odds)
    close(found.mass, whole.mass)
    backwards = model.compare(pairs[::-1])
    close(backwards.log_odds[::-1], whole.log_odds)


def test_one_pair_at_a_time(make, pairs: list[Pair]) -> None:
    whole = make().compare(pairs)
    single = [make().compare([pair]) for pair in pairs]
    close(np.concatenate([verdict.log_odds for verdict in single]), whole.log_odds)


@pytest.mark.law(2)
def test_swapped_pairs_get_swapped_verdicts(make, pairs: list[Pair]) -> None:
    """Exchanging the answers exchanges the columns and turns their sign, and P(a) becomes 1 - P(a)."""
    model = make()
    verdicts = model.compare(pairs)
    swapped = model.compare([pair.swapped() for pair in pairs])
    close(swapped.log_odds, verdicts.swapped().log_odds)
    close(swapped.mass, verdicts.swapped().mass)
    close(swapped.p_a, 1 - verdicts.p_a)
    assert np.abs(verdicts.position_gap).max() > 0.01  # the model does have a position bias


class Fixed:
    """A backend that answers with given numbers: (n, 2) log-probabilities, in the order asked."""

    def __init__(self, logprobs: list[list[float]]) -> None:
        self.logprobs = np.array(logprobs)
        self.asked: list[Pair] = []

    def label_logprobs(self, pairs: Sequence[Pair], template: JudgeTemplate) -> LabelLogprobs:
        self.asked = list(pairs)
        return LabelLogprobs(self.logprobs[: len(pairs)], Usage(tokens=3 * len(pairs)))

    def tokens_cut(self, pairs: Sequence[Pair]) -> None:
        return None


TEMPLATE = JudgeTemplate("t", "{prompt}{a}{b}", ("A", "B"))
PAIR = Pair("q", a="left", b="right")


@pytest.mark.law(2)
def test_p_a_averages_the_two_orders() -> None:
    """Shown first: p(A) = 0.6, p(B) = 0.2, so P(a) = 0.75. Shown second: p(A) = 0.1, p(B) = 0.4, and A now
    means b, so P(a) = 0.8. Together P(a) = 0.775, gap -0.05, masses 0.8 and 0.5.
    """
    backend = Fixed(np.log([[0.6, 0.2], [0.1, 0.4]]).tolist())
    verdicts = JudgeModel(backend, TEMPLATE).compare([PAIR])
    assert backend.asked == [PAIR, PAIR.swapped()]
    close(verdicts.log_odds, np.log([[3.0, 4.0]]))
    close(verdicts.mass, np.array([[0.8, 0.5]]))
    close(verdicts.p_a, np.array([0.775]))
    close(verdicts.position_gap, np.array([-0.05]))


def test_an_order_consistent_strong_win_is_sure() -> None:
    """0.99 for A when a is first and 0.99 for B when it is second: P(a) is 0.99, not one half."""
    backend = Fixed(np.log([[0.99, 0.01], [0.01, 0.99]]).tolist())
    close(JudgeModel(backend, TEMPLATE).compare([PAIR]).p_a, np.array([0.99]))


@pytest.mark.law(2)
def test_a_single_order_leaves_the_other_unasked(make, pairs: list[Pair]) -> None:
    """Half the questions, NaN where nothing was asked, and P(a) from the order that was."""
    backend = Fixed(np.log([[0.6, 0.2]]).tolist())
    verdicts = JudgeModel(backend, TEMPLATE, both_orders=False).compare([PAIR])
    assert backend.asked == [PAIR]
    close(verdicts.log_odds[:, 0], np.log([3.0]))
    assert np.isnan(verdicts.log_odds[:, 1]).all() and np.isnan(verdicts.mass[:, 1]).all()
    close(verdicts.p_a, np.array([0.75]))
    assert np.isnan(verdicts.position_gap).all()

    single, both = make(both_orders=False).compare(pairs), make().compare(pairs)
    close(single.log_odds[:, 0], both.log_odds[:, 0])
    assert np.isnan(single.log_odds[:, 1]).all()
    assert np.isfinite(single.p_a).all()


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_judge_without_a_finite_answer_is_an_error(bad: float) -> None:
    """The pair is named by its place in the call, in whichever order it was asked."""
    good = [-1.0, -2.0]
    backend = Fixed([good, good, good, [bad, -1.0]])
    with pytest.raises(ScoringError, match="pair 1 of this call"):
        JudgeModel(backend, TEMPLATE).compare([PAIR, PAIR])


# Likelihood


def answers_of(pairs: Sequence[Pair]) -> tuple[list, list[str]]:
    return [pair.prompt for pair in pairs], [pair.a for pair in pairs]


@pytest.mark.parametrize("context", ["chat", "judge"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_likelihood_variants(
    architecture: str, context, preset: LoadedModel, renderer: Renderer, pairs: list[Pair]
) -> None:
    """Sum, mean, length power 1/2, mutual information and reference ratio, each from the slow sums."""
    size = len(preset.tokenizer)
    prompts, responses = answers_of(pairs)
    model, other = causal(architecture, size), causal(architecture, size, seed=7)
    sums, counts = slow_likelihood(model, renderer.answers(prompts, responses, context))
    bare, _ = slow_likelihood(model, renderer.answers([as_chat("")] * len(prompts), responses, context))
    theirs, _ = slow_likelihood(other, renderer.answers(prompts, responses, context))
    runner, reference = Runner(model, token_budget=700), Runner(other)
    expected = {
        (): sums,
        (("length_power", 1.0),): sums / counts,
        (("length_power", 0.5),): sums / np.sqrt(counts),
        (("baseline", "unconditional"),): sums - bare,
        (("baseline", "unconditional"), ("length_power", 1.0)): (sums - bare) / counts,
        (("reference", reference),): sums - theirs,
        (("reference", reference), ("length_power", 0.5)): (sums - theirs) / np.sqrt(counts),
    }
    for options, scores in expected.items():
        found = LikelihoodModel(renderer, runner, context=context, **dict(options)).score(prompts, responses)
        close(found, scores)
    assert (sums < 0).all() and sums.std() > 1


class Seen(Runner):
    """Keeps the rows that it was asked about, call by call."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls: list[list[TokenRow]] = []

    def span_logprobs(self, rows: Sequence[TokenRow]) -> tuple[FloatArray, FloatArray]:
        self.calls.append(list(rows))
        return super().span_logprobs(rows)


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize("context", ["chat", "judge"])
def test_what_is_subtracted_are_the_tokens_that_were_shown(
    context, power: float, preset: LoadedModel, renderer: Renderer
) -> None:
    """PMI of answers that are whole, cut, and cut because of a long prompt.

    Both sides hold the same tokens of the answer, so a model that knows neither gives both the same number of
    terms. Expected: the slow sum over the shown row, minus that over the same tokens behind the beginning of
    an answer to nothing, each over the same count.
    """
    short = Renderer(preset.tokenizer, renderer.template, 120)
    model = causal("llama", len(preset.tokenizer))
    prompts = [as_chat("what ?"), as_chat("what ?"), as_chat("what is the river ? " * 40)]
    responses = ["small .", "old and green . " * 40, "old and green . " * 40]
    runner = Seen(model)
    found = LikelihoodModel(
        short, runner, context=context, baseline="unconditional", length_power=power
    ).score(prompts, responses)

    answers, subtracted = runner.calls
    for answer, bare in zip(answers, subtracted, strict=True):
        [(start, stop)], [(first, last)] = answer.spans, bare.spans
        assert list(answer.ids[start:stop]) == list(bare.ids[first:last])
    shown = short.answers(prompts, responses, context)
    assert ["a" in item.cut for item in shown] == [False, True, True]
    begin, whole = short.answers([as_chat("")] * 2, ["small .", "old"], context)
    head = begin.ids[: begin.spans["a"][0]]
    assert head == whole.ids[: whole.spans["a"][0]]
    bare_rows = []
    for item in shown:
        start, stop = item.spans["a"]
        span = (len(head), len(head) + stop - start)
        bare_rows.append(Encoded(head + item.ids[start:], {"a": span}))
    assert bare_rows[0].ids == begin.ids  # an answer that is whole is asked as ever
    sums, counts = slow_likelihood(model, shown)
    without, same_counts = slow_likelihood(model, bare_rows)
    assert (counts == same_counts).all()
    close(found, (sums - without) / counts**power)


@pytest.mark.law(3)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_do_not_depend_on_the_batch(
    architecture: str, budget: int, preset: LoadedModel, renderer: Renderer, pairs: list[Pair]
) -> None:
    """Likelihood and scalar head, against the slow right-padded batch."""
    size = len(preset.tokenizer)
    prompts, responses = answers_of(pairs)
    items = renderer.answers(prompts, responses)
    language = Runner(causal(architecture, size), token_budget=budget)
    found = LikelihoodModel(renderer, language).score(prompts, responses)
    close(found, slow_likelihood(causal(architecture, size), items)[0])
    scorer = Runner(classifier(architecture, size), token_budget=budget)
    scores = ScalarHeadModel(renderer, scorer).score(prompts, responses)
    close(scores, slow_scores(classifier(architecture, size), items))
    assert scores.std() > 1e-3  # a hundred times the tolerance


def test_an_empty_answer_is_scored_by_its_end_token(preset: LoadedModel, renderer: Renderer) -> None:
    model = causal("llama", len(preset.tokenizer))
    [item] = renderer.answers([as_chat("q")], [""])
    start, stop = item.scored("a")
    assert stop - start == 1
    likelihood = LikelihoodModel(renderer, Runner(model), length_power=1.0)
    close(likelihood.score([as_chat("q")], [""]), slow_likelihood(model, [item])[0])


def test_comparing_by_scores(preset: LoadedModel, renderer: Renderer, pairs: list[Pair]) -> None:
    """Log-odds are beta times the difference of scores, the same in both orders; no words, so mass 1."""
    runner = Runner(causal("llama", len(preset.tokenizer)))
    model = LikelihoodModel(renderer, runner, beta=0.25, length_power=1.0)
    a = model.score([pair.prompt for pair in pairs], [pair.a for pair in pairs])
    b = model.score([pair.prompt for pair in pairs], [pair.b for pair in pairs])
    verdicts = model.compare(pairs)
    close(verdicts.log_odds, 0.25 * np.stack([a - b, a - b], axis=1))
    close(verdicts.p_a, 1 / (1 + np.exp(-0.25 * (a - b))))
    close(verdicts.position_gap, np.zeros(len(pairs)))
    assert (verdicts.mass == 1).all()
    close(model.compare([pair.swapped() for pair in pairs]).log_odds, verdicts.swapped().log_odds)


def test_wrong_options_and_inputs(preset: LoadedModel, renderer: Renderer) -> None:
    runner = Runner(causal("llama", len(preset.tokenizer)))
    with pytest.raises(ConfigError, match="baseline"):
        LikelihoodModel(renderer, runner, baseline="prior")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="context"):
        LikelihoodModel(renderer, runner, context="prompt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 prompts but 1 responses"):
        LikelihoodModel(renderer, runner).score([as_chat("q")] * 2, ["a"])


def test_a_score_that_is_not_finite_is_an_error(preset: LoadedModel, renderer: Renderer) -> None:
    class Broken(Runner):
        def scores(self, rows: Sequence[TokenRow]) -> FloatArray:
            return np.array([0.5, np.nan, 1.0])[: len(rows)]

    model = ScalarHeadModel(renderer, Broken(causal("llama", len(preset.tokenizer))))
    with pytest.raises(ScoringError, match="answer 1 of this call"):
        model.score([as_chat("q")] * 3, ["a", "b", "c"])


def test_nothing_asked_nothing_answered(make, preset: LoadedModel, renderer: Renderer) -> None:
    likelihood = LikelihoodModel(renderer, Runner(causal("llama", len(preset.tokenizer))))
    scalar = ScalarHeadModel(renderer, Runner(classifier("llama", len(preset.tokenizer))))
    for model in (make(), likelihood, scalar):
        verdicts = model.compare([])
        assert isinstance(verdicts, Verdicts) and len(verdicts) == 0
        assert verdicts.p_a.shape == (0,)
    assert likelihood.score([], []).shape == scalar.score([], []).shape == (0,)


def test_protocols_and_truncation_counts(preset: LoadedModel, renderer: Renderer) -> None:
    """A judge compares and cannot score; the others do both. What was shortened is counted."""
    short = Renderer(preset.tokenizer, renderer.template, 64)
    runner = Runner(causal("llama", len(preset.tokenizer)))
    judge = JudgeModel(LocalBackend(short, runner), short.template)
    likelihood = LikelihoodModel(short, runner)
    assert isinstance(judge, PreferenceModel) and not isinstance(judge, ScalarModel)
    assert isinstance(likelihood, PreferenceModel) and isinstance(likelihood, ScalarModel)
    pair = Pair("what is the bridge ?", a="old and green . " * 30, b="small .")
    assert judge.usage.truncated == 0
    verdicts = judge.compare([pair, Pair("what ?", a="old", b="small")])
    assert judge.usage == verdicts.usage
    assert judge.usage.truncated == 2  # one pair, in both orders; another model on the renderer counts apart
    assert likelihood.usage.truncated == 0
    assert np.isfinite(verdicts.log_odds).all()
    assert likelihood.compare([pair]).usage.truncated == likelihood.usage.truncated == 1  # answer a alone
    assert isinstance(judge, RewardModel) and isinstance(likelihood, RewardModel)
    assert (judge.template, likelihood.template) == (short.template, None)
    close(judge.compare([pair.swapped()]).log_odds, judge.compare([pair]).swapped().log_odds)


def test_conversations_reach_the_model(make, preset: LoadedModel, renderer: Renderer) -> None:
    """Every earlier turn and the system prompt change the verdict and the score: nothing is dropped."""
    question = Message("user", "what is the bridge of the river ?")
    chats = [
        (question,),
        (Message("system", "answer in one sentence ."), question),
        (Message("system", "be kind ."), question),
        (Message("user", "hello"), Message("assistant", "which one ?"), question),
        (Message("user", "hello"), Message("assistant", "what ?"), question),
    ]
    log_odds = make().compare([Pair(chat, a="old", b="green") for chat in chats]).log_odds
    runner = Runner(causal("llama", len(preset.tokenizer)))
    scores = LikelihoodModel(renderer, runner).score(chats, ["old"] * len(chats))
    assert len(np.unique(log_odds[:, 0].round(4))) == len(np.unique(scores.round(4))) == len(chats)
    plain = Answer(as_chat(question.content), "old")
    close(LikelihoodModel(renderer, runner).score([plain.prompt], [plain.response]), scores[:1])
