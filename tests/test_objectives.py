"""The laws of the objectives: what a batch adds up to is what a slow, plain computation gives, row by row.

The slow side runs one sequence at a time, without padding, over the logits of every position and the whole
vocabulary, and writes the formulas out by hand.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from conftest import MAX_LENGTH, sharpened
from gram import Answer, Message, Pair, Preference, ResponsePair, Text
from gram.engine.plain import Plain, scored_columns
from gram.errors import ConfigError
from gram.modeling.loading import LoadedModel, add_score_head
from gram.modeling.presets import Preset, build_model
from gram.objectives.language import Language
from gram.objectives.likelihood import Likelihood
from gram.objectives.objective import Objective, Sample, correct_sum
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import JudgeTemplate, Renderer

pytestmark = pytest.mark.law(4)

MICRO = Preset(hidden=32, layers=2, heads=2, mlp=64, vocab_size=400, context=1024)
EPS = 0.1
MakeObjective = Callable[[Renderer], Objective[Any]]

FINETUNING: dict[str, MakeObjective] = {
    "judge": lambda renderer: Judge(renderer, label_smoothing=EPS),
    "judge, unsmoothed": lambda renderer: Judge(renderer, label_smoothing=0.0),
    "likelihood": lambda renderer: Likelihood(renderer, label_smoothing=EPS, beta=0.3),
    "likelihood, mean": lambda renderer: Likelihood(renderer, label_smoothing=EPS, length_power=1.0),
    "likelihood, in the judge prompt": lambda renderer: Likelihood(
        renderer, label_smoothing=EPS, length_power=0.5, context="judge"
    ),
    "likelihood, cross-entropy": lambda renderer: Likelihood(
        renderer, label_smoothing=EPS, length_power=1.0, form="cross_entropy"
    ),
    "scalar": lambda renderer: Scalar(renderer),
    "scalar, margin, centred": lambda renderer: Scalar(renderer, margin=True, centring=0.01),
    "scalar, text": lambda renderer: Scalar(renderer, text_regulariser=0.3),
    "scalar, text, dpo": lambda renderer: Scalar(
        renderer, text_regulariser=0.3, text_form="dpo", margin=True, centring=0.01
    ),
}
each_finetuning = pytest.mark.parametrize("make", FINETUNING.values(), ids=FINETUNING.keys())


def micro(preset: LoadedModel, seed: int) -> Any:
    """A fresh two-layer language model with the preset's tokenizer."""
    return build_model(MICRO, cast(Any, preset.tokenizer), seed)


@pytest.fixture(scope="module")
def lm(preset: LoadedModel) -> nn.Module:
    return sharpened(micro(preset, seed=3), 3.0).eval()


@pytest.fixture(scope="module")
def scorer(preset: LoadedModel) -> nn.Module:
    body = LoadedModel(micro(preset, seed=3), preset.tokenizer, None)
    return sharpened(add_score_head(body, seed=4).model, 3.0).eval()


@pytest.fixture
def models(lm: nn.Module, scorer: nn.Module) -> dict[str, nn.Module]:
    """By the head that an objective needs."""
    return {"lm": lm, "score": scorer}


@pytest.fixture(scope="module")
def unlabeled(preferences: list[Preference]) -> list[ResponsePair | Answer | Text]:
    found: list[ResponsePair | Answer | Text] = []
    for place, item in enumerate(preferences[:9]):
        pair = item.pair
        found.append(
            ResponsePair(pair.prompt, pair.a, pair.b)
            if place % 3 == 0
            else Answer(pair.prompt, pair.a)
            if place % 3 == 1
            else Text(pair.a + pair.b)
        )
    return found


# --- The slow side ---


def log_softmax_by_hand(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(dim=-1, keepdim=True).log()


def slow_logprob(model: nn.Module, ids: Sequence[int], span: tuple[int, int]) -> Tensor:
    """log p of the tokens in ``span``, each given all before it."""
    logprobs = log_softmax_by_hand(model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0])
    terms = [logprobs[place - 1, ids[place]] for place in range(max(span[0], 1), span[1])]
    return torch.stack(terms).sum()


def slow_score(model: Any, ids: Sequence[int]) -> Tensor:
    """The head's output at the last token."""
    hidden = model.base_model(input_ids=torch.tensor([list(ids)]), use_cache=False).last_hidden_state
    return model.score(hidden[0, -1])[0]


class Speaking(nn.Module):
    """The language model in a classifier whose head is tied: hidden states times the input embedding."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self._scorer: Any = scorer

    def forward(self, **inputs: Any) -> Any:
        body = self._scorer.base_model
        logits = body(**inputs).last_hidden_state @ body.get_input_embeddings().weight.T
        return type("Output", (), {"logits": logits})


def soft(d: Tensor, q: float, eps: float) -> Tensor:
    """-log sigmoid(d) + (1 - t) d, the regularised ranking loss, with t the smoothed label."""
    t = q * (1 - eps) + (1 - q) * eps
    return torch.log1p(torch.exp(-d)) + (1 - t) * d


def slow_judge(model: nn.Module, renderer: Renderer, item: Preference, eps: float) -> Tensor:
    first, second = renderer.label_ids
    total = torch.zeros(())
    for shown in (item, item.swapped()):
        [prompt] = renderer.judge([shown.pair])
        z = model(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
        total = total + 0.5 * soft(z[first] - z[second], shown.p_a, eps)
    return total


def slow_answer(
    model: nn.Module, renderer: Renderer, item: Preference, side: str, power: float, context: Any
) -> Tensor:
    [answer] = renderer.answers([item.pair.prompt], [getattr(item.pair, side)], context)
    start, stop = answer.scored("a")
    return slow_logprob(model, answer.ids, (start, stop)) / (stop - max(start, 1)) ** power


def slow_bradley_terry(
    model: nn.Module, renderer: Renderer, item: Preference, margin: float, centring: float
) -> Tensor:
    a, b = (
        slow_score(model, renderer.answers([item.pair.prompt], [answer])[0].ids)
        for answer in (item.pair.a, item.pair.b)
    )
    loss = item.p_a * torch.log1p(torch.exp(margin - (a - b)))
    loss = loss + (1 - item.p_a) * torch.log1p(torch.exp(margin - (b - a)))
    return loss + centring * (a + b) ** 2


def slow_loss(name: str, model: nn.Module, renderer: Renderer, item: Preference) -> Tensor:
    match name:
        case "judge":
            return slow_judge(model, renderer, item, EPS)
        case "judge, unsmoothed":
            return slow_judge(model, renderer, item, 0.0)
        case "likelihood":
            a, b = (slow_answer(model, renderer, item, side, 0.0, "chat") for side in "ab")
            return soft(0.3 * (a - b), item.p_a, EPS)
        case "likelihood, mean":
            a, b = (slow_answer(model, renderer, item, side, 1.0, "chat") for side in "ab")
            return soft(a - b, item.p_a, EPS)
        case "likelihood, in the judge prompt":
            a, b = (slow_answer(model, renderer, item, side, 0.5, "judge") for side in "ab")
            return soft(a - b, item.p_a, EPS)
        case "likelihood, cross-entropy":
            a, b = (slow_answer(model, renderer, item, side, 1.0, "chat") for side in "ab")
            t = item.p_a * (1 - EPS) + (1 - item.p_a) * EPS
            return -(t * a + (1 - t) * b)
        case "scalar":
            return slow_bradley_terry(model, renderer, item, 0.0, 0.0)
        case "scalar, margin, centred":
            return slow_bradley_terry(model, renderer, item, item.margin, 0.01)
        case "scalar, text":
            a, b = (slow_answer(Speaking(model), renderer, item, side, 1.0, "chat") for side in "ab")
            text = -(item.p_a * a + (1 - item.p_a) * b)
            return 0.7 * slow_bradley_terry(model, renderer, item, 0.0, 0.0) + 0.3 * text
        case "scalar, text, dpo":
            a, b = (slow_answer(Speaking(model), renderer, item, side, 0.0, "chat") for side in "ab")
            text = soft(0.1 * (a - b), item.p_a, 0.0)
            return 0.7 * slow_bradley_terry(model, renderer, item, item.margin, 0.01) + 0.3 * text
    raise AssertionError(name)


def value_and_grads(loss: Tensor, model: nn.Module) -> tuple[float, list[Tensor]]:
    return loss.item(), list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))  # type: ignore[arg-type]


def assert_same(found: tuple[float, list[Tensor]], wanted: tuple[float, list[Tensor]]) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    assert any(grad.abs().max() > 1e-3 for grad in wanted[1]), "a test without gradients shows nothing"
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        scale = max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5 * scale)


def total(objective: Objective[Any], model: nn.Module, samples: Sequence[Sample]) -> Tensor:
    return objective.loss_sum(model, objective.collate(samples)).loss


# --- The central law ---


@pytest.mark.parametrize("name", FINETUNING)
def test_loss_and_gradients_are_those_of_the_slow_way(
    name: str, models: dict[str, nn.Module], renderer: Renderer, preferences: list[Preference]
) -> None:
    """Ten pairs of 1 to 100 tokens, labels 1, 0, 0.5, 0.9 and 0.2, margins 0, 1 and 2, in one batch."""
    objective = FINETUNING[name](renderer)
    model = models[objective.head]
    items = preferences[:10]
    batch = objective.collate(objective.encode(items))
    assert batch["attention_mask"].min() == 0, "no padding, no test"
    assert objective.count(batch).item() == len(items)
    slow = torch.stack([slow_loss(name, model, renderer, item) for item in items]).sum()
    assert_same(
        value_and_grads(objective.loss_sum(model, batch).loss, model),
        value_and_grads(slow, model),
    )


def test_language_loss_and_gradients_are_those_of_the_slow_way(
    lm: nn.Module, renderer: Renderer, unlabeled: list[ResponsePair | Answer | Text]
) -> None:
    objective = Language(renderer)
    batch = objective.collate(objective.encode(unlabeled))
    terms, tokens = [], 0
    for item in unlabeled:
        match item:
            case ResponsePair(prompt, first, second):
                [shown] = renderer.judge([Pair(prompt, first, second)])
                spans = [shown.scored("a"), shown.scored("b")]
            case Answer(prompt, response):
                [shown] = renderer.answers([prompt], [response])
                spans = [shown.scored("a")]
            case Text(text):
                [shown] = renderer.texts([text])
                spans = [(1, len(shown.ids))]
        terms += [-slow_logprob(lm, shown.ids, span) for span in spans]
        tokens += sum(stop - start for start, stop in spans)
    assert objective.count(batch).item() == tokens
    assert_same(
        value_and_grads(objective.loss_sum(lm, batch).loss, lm), value_and_grads(torch.stack(terms).sum(), lm)
    )


@each_finetuning
def test_a_sum_is_a_sum(
    make: MakeObjective, models: dict[str, nn.Module], renderer: Renderer, preferences: list[Preference]
) -> None:
    """One batch, or one example at a time: the same loss, metrics and count."""
    objective = make(renderer)
    samples = objective.encode(preferences[:12])
    with torch.no_grad():
        whole = objective.loss_sum(models[objective.head], objective.collate(samples))
        parts = [objective.loss_sum(models[objective.head], objective.collate([one])) for one in samples]
    assert sum(part.loss.item() for part in parts) == pytest.approx(whole.loss.item(), rel=1e-5)
    for name, value in whole.metrics.items():
        assert sum(part.metrics[name].item() for part in parts) == pytest.approx(
            value.item(), rel=1e-5, abs=1e-6
        )


@each_finetuning
def test_swapping_answers_and_label_changes_nothing(
    make: MakeObjective, models: dict[str, nn.Module], renderer: Renderer, preferences: list[Preference]
) -> None:
    objective = make(renderer)
    model = models[objective.head]
    with torch.no_grad():
        given = objective.loss_sum(model, objective.collate(objective.encode(preferences)))
        turned = objective.loss_sum(
            model, objective.collate(objective.encode([item.swapped() for item in preferences]))
        )
        label_only = total(
            objective, model, objective.encode([Preference(p.pair, 1 - p.p_a) for p in preferences])
        )
    assert turned.loss.item() == pytest.approx(given.loss.item(), rel=1e-6)
    assert turned.metrics["accuracy"].item() == given.metrics["accuracy"].item()
    assert label_only.item() != pytest.approx(given.loss.item(), rel=1e-4), "the label must matter"


# --- language: what is scored ---


def scored_text(sample: Sample, renderer: Renderer) -> list[str]:
    [row] = sample.rows
    return [renderer.tokenizer.decode(row.ids[start:stop]) for start, stop in row.spans]  # type: ignore[misc]


def test_language_scores_answers_and_the_token_that_ends_them(renderer: Renderer) -> None:
    """In the chat format an answer ends with <|end|>, in the judge template with a line break."""
    chat = (
        Message("system", "be brief ."),
        Message("user", "hello ?"),
        Message("assistant", "yes ?"),
        Message("user", "who ?"),
    )
    [answer] = Language(renderer).encode([Answer(chat, "I am the river .")])
    [pair] = Language(renderer).encode([ResponsePair(chat, "the old tower", "a quiet, small garden .")])
    assert scored_text(answer, renderer) == ["I am the river .<|end|>"]
    assert scored_text(pair, renderer) == ["the old tower\n", "a quiet, small garden .\n"]


def test_language_scores_all_of_a_text_but_its_first_token(renderer: Renderer) -> None:
    [sample] = Language(renderer).encode([Text("the garden is green .")])
    ids = renderer.tokenizer("the garden is green .<|end|>")["input_ids"]
    assert sample.rows[0].ids == ids
    assert list(sample.rows[0].scored) == list(range(1, len(ids)))


def test_a_long_text_becomes_windows(renderer: Renderer) -> None:
    short = Renderer(renderer.tokenizer, renderer.template, 16)
    text = "the market of the river is old and heavy . " * 8
    samples = Language(short).encode([Text(text)])
    assert len(samples) > 2
    ids = [token for sample in samples for token in sample.rows[0].ids]
    assert ids == renderer.tokenizer(text + "<|end|>")["input_ids"]
    assert all(list(row.scored) == list(range(1, len(row.ids))) for s in samples for row in s.rows)


def test_the_scored_mask_is_off_on_prompts_and_padding(
    renderer: Renderer, preferences: list[Preference]
) -> None:
    """The only logits with a gradient are those just before a token of an answer, or its end."""
    objective = Language(renderer)
    pairs = [item.pair for item in preferences[:6]]
    samples = objective.encode([ResponsePair(pair.prompt, pair.a, pair.b) for pair in pairs])
    batch = objective.collate(samples)
    rows, width = batch["input_ids"].shape
    logits = torch.zeros(rows, width, 400, requires_grad=True)
    objective.loss_sum(Parrot(logits), batch).loss.backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(dim=2) > 0
    for row, (sample, encoded) in enumerate(zip(samples, renderer.judge(pairs), strict=True)):
        shift = width - len(sample.rows[0].ids)
        wanted = {shift + i - 1 for slot in "ab" for i in range(*encoded.scored(slot))}
        assert set(touched[row].nonzero().flatten().tolist()) == wanted


class Parrot(nn.Module):
    """Answers with fixed logits, the last ``logits_to_keep`` of them, as a Hugging Face model would."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self._logits = logits

    def forward(self, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, use_cache: bool) -> Any:
        assert not use_cache
        return type("Output", (), {"logits": self._logits[:, -logits_to_keep:]})


# --- preference ---


def test_preference_by_hand(renderer: Renderer) -> None:
    """Label logits (2, 1) as shown and (0, 3) swapped, a is better, eps 0.1.

    The winner's margin is d = 1 as shown and, the labels having changed sides, d = 3 - 0 = 3 swapped:
    the loss is the mean of log(1 + exp(-1)) + 0.1 and log(1 + exp(-3)) + 0.3.
    P(a) = (sigmoid(1) + sigmoid(3)) / 2 > 0.5, which is right. The margin is the mean of 1 and 3.
    """
    objective = Judge(renderer, label_smoothing=0.1)
    batch = objective.collate(objective.encode([Preference(Pair("who ?", "me .", "not me ."), 1.0)]))
    first, second = renderer.label_ids
    logits = torch.full((2, batch["input_ids"].shape[1], 400), 7.0)
    logits[0, -1, first], logits[0, -1, second] = 2.0, 1.0
    logits[1, -1, first], logits[1, -1, second] = 0.0, 3.0
    sums = objective.loss_sum(Parrot(logits), batch)
    wanted = (math.log1p(math.exp(-1)) + 0.1 + math.log1p(math.exp(-3)) + 0.3) / 2
    assert sums.loss.item() == pytest.approx(wanted, rel=1e-6)
    assert sums.metrics["accuracy"].item() == 1.0
    assert sums.metrics["margin"].item() == pytest.approx(2.0)


def test_preference_in_one_order_by_hand(renderer: Renderer) -> None:
    """The first row of the test above, at full weight: log(1 + exp(-1)) + 0.1, and P(a) = sigmoid(1)."""
    objective = Judge(renderer, label_smoothing=0.1, both_orders=False)
    [sample] = objective.encode([Preference(Pair("who ?", "me .", "not me ."), 1.0)])
    assert [row.ids for row in sample.rows] == [renderer.judge([Pair("who ?", "me .", "not me .")])[0].ids]
    batch = objective.collate([sample])
    logits = torch.full((1, batch["input_ids"].shape[1], 400), 7.0)
    logits[0, -1, renderer.label_ids[0]], logits[0, -1, renderer.label_ids[1]] = 2.0, 1.0
    sums = objective.loss_sum(Parrot(logits), batch)
    assert sums.loss.item() == pytest.approx(math.log1p(math.exp(-1)) + 0.1, rel=1e-6)
    assert sums.metrics["accuracy"].item() == objective.count(batch).item() == 1


def test_a_judge_that_looks_at_the_place_alone_is_half_right(renderer: Renderer) -> None:
    """It says "the first" with the same odds in both orders, so both orders together say nothing."""
    objective = Judge(renderer, label_smoothing=0.1)
    items = [Preference(Pair("who ?", "me .", "not me ."), p_a) for p_a in (1.0, 0.0, 1.0)]
    batch = objective.collate(objective.encode(items))
    logits = torch.zeros(6, batch["input_ids"].shape[1], 400)
    logits[:, :, renderer.label_ids[0]] = 5.0
    assert objective.loss_sum(Parrot(logits), batch).metrics["accuracy"].item() == 1.5


def test_the_rows_of_a_judge_are_both_orders(renderer: Renderer, preferences: list[Preference]) -> None:
    item = preferences[3]
    [sample] = Judge(renderer, label_smoothing=0.1).encode([item])
    assert [row.ids for row in sample.rows] == [
        renderer.judge([item.pair])[0].ids,
        renderer.judge([item.pair.swapped()])[0].ids,
    ]
    assert (sample.target, sample.cut, sample.collapsed) == (0.9, 0, False)
    assert sample.length == max(len(row.ids) for row in sample.rows)


def test_a_two_token_label_is_refused_at_once(renderer: Renderer) -> None:
    from gram.errors import TemplateError

    wordy = Renderer(
        renderer.tokenizer, JudgeTemplate("wordy", "{prompt} {a} {b} :", ("first", "second")), 64
    )
    with pytest.raises(TemplateError, match="label 'first' must be one token"):
        Judge(wordy, label_smoothing=0.1)


# --- likelihood ---


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_a_model_that_is_its_own_reference_knows_nothing(
    eps: float, lm: nn.Module, renderer: Renderer, preferences: list[Preference]
) -> None:
    """d = 0 for every pair, so each costs log 2 whatever the label and eps, and accuracy is one half."""
    objective = Likelihood(renderer, label_smoothing=eps, reference=copy.deepcopy(lm))
    with torch.no_grad():
        sums = objective.loss_sum(lm, objective.collate(objective.encode(preferences[:8])))
    assert sums.loss.item() == pytest.approx(8 * math.log(2), rel=1e-6)
    assert sums.metrics["accuracy"].item() == 4.0


def test_a_reference_is_subtracted_and_gets_no_gradient(
    lm: nn.Module, preset: LoadedModel, renderer: Renderer, preferences: list[Preference]
) -> None:
    """DPO (arXiv 2305.18290): d = beta * ((log p(a) - log p(b)) - (log r(a) - log r(b)))."""
    other = sharpened(micro(preset, seed=8), 3.0)
    objective = Likelihood(renderer, label_smoothing=EPS, beta=0.2, reference=other)
    items = preferences[:6]
    slow = torch.zeros(())
    for item in items:
        a, b = (slow_answer(lm, renderer, item, side, 0.0, "chat") for side in "ab")
        ra, rb = (slow_answer(other, renderer, item, side, 0.0, "chat").detach() for side in "ab")
        slow = slow + soft(0.2 * ((a - b) - (ra - rb)), item.p_a, EPS)
    fast = total(objective, lm, objective.encode(items))
    assert_same(value_and_grads(fast, lm), value_and_grads(slow, lm))
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_an_answer_at_the_very_beginning_is_scored_from_its_second_token(
    lm: nn.Module, preset: LoadedModel, preferences: list[Preference]
) -> None:
    """A template may begin with {a}, and a base model's format has nothing before it: no row, no crash."""
    plain = copy.deepcopy(preset.tokenizer)
    plain.chat_template = None
    renderer = Renderer(plain, JudgeTemplate("bare", "{a}\n{prompt}\n{b}\n:", ("A", "B")), MAX_LENGTH)
    objective = Likelihood(renderer, label_smoothing=EPS, context="judge")
    items = preferences[:5]
    samples = objective.encode(items)
    assert all(row.scored[0] == 1 for sample in samples for row in sample.rows)
    slow = torch.zeros(())
    for item in items:
        a, b = (slow_answer(lm, renderer, item, side, 0.0, "judge") for side in "ab")
        slow = slow + soft(a - b, item.p_a, EPS)
    assert total(objective, lm, samples).item() == pytest.approx(slow.item(), rel=1e-5)


# --- scalar ---


def test_the_margin_is_asked_for_only_on_request(
    scorer: nn.Module, renderer: Renderer, preferences: list[Preference]
) -> None:
    plain, asking = Scalar(renderer), Scalar(renderer, margin=True)
    samples = plain.encode(preferences[:9])
    without = [Sample(s.rows, s.target, 0.0, s.cut, s.collapsed) for s in samples]
    with torch.no_grad():
        assert total(plain, scorer, samples).item() == total(asking, scorer, without).item()
        assert total(asking, scorer, samples).item() > total(plain, scorer, samples).item() + 0.1


def test_a_text_regulariser_by_hand(renderer: Renderer) -> None:
    """Scores 2 and 1, log-probabilities (-1, -3) of answer a and (-4) of b, a better with 0.75, alpha 0.2.

    Bradley-Terry: 0.75 log(1 + e^-1) + 0.25 log(1 + e) = log(1 + e^-1) + 0.25. Text, sft: means -2 and -4,
    so 0.75 * 2 + 0.25 * 4 = 2.5. Text, dpo: sums -4 and -4, so log 2.
    """
    ranking = math.log1p(math.exp(-1)) + 0.25
    wanted = {"sft": 0.8 * ranking + 0.2 * 2.5, "dpo": 0.8 * ranking + 0.2 * math.log(2)}
    for form, value in wanted.items():
        objective = Scalar(renderer, text_regulariser=0.2, text_form=cast(Any, form), engine=Told())
        sums = objective.loss_sum(nn.Identity(), {"target": torch.tensor([0.75])})
        assert sums.loss.item() == pytest.approx(value, rel=1e-6)
        assert sums.metrics["accuracy"].item() == 1.0
        assert sums.metrics["text_loss"].item() == pytest.approx((value - 0.8 * ranking) / 0.2, rel=1e-5)


class Told(Plain):
    """An engine that says what it was told."""

    def scores_and_logprobs(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        logprobs = torch.tensor([[-1.0, -3.0], [0.0, -4.0]])
        return torch.tensor([2.0, 1.0]), logprobs, torch.tensor([[True, True], [False, True]])


def test_without_a_text_regulariser_no_language_head_is_asked_for(
    scorer: nn.Module, renderer: Renderer, preferences: list[Preference]
) -> None:
    """And a tiny one changes the loss by a tiny amount."""
    plain, tiny = Scalar(renderer), Scalar(renderer, text_regulariser=1e-4)
    assert not any(row.spans for sample in plain.encode(preferences[:3]) for row in sample.rows)
    with torch.no_grad():
        one, two = (total(o, scorer, o.encode(preferences[:6])).item() for o in (plain, tiny))
    assert one != two and one == pytest.approx(two, rel=1e-2)


# --- Truncation ---


def test_cut_tokens_are_counted(renderer: Renderer) -> None:
    """40 words of one token each and a limit of 30: what is gone is what no longer stands in the ids."""
    short = Renderer(renderer.tokenizer, renderer.template, 30)
    [sample] = Language(short).encode([Answer((Message("user", "the"),), " the" * 40)])
    [the] = renderer.tokenizer(" the")["input_ids"]  # type: ignore[misc]
    assert len(sample.rows[0].ids) <= 30
    assert sample.cut == 40 - sample.rows[0].ids.count(the)


@pytest.mark.parametrize("name", ["judge", "likelihood", "scalar"])
def test_pairs_that_truncation_has_made_equal_are_flagged(name: str, renderer: Renderer) -> None:
    """A slot loses its middle: a difference there is gone, one at the end is kept."""
    short = Renderer(renderer.tokenizer, renderer.template, 48)
    front, back = "the old tower is green and " * 6, " and the river is quiet" * 6
    inside = Preference(Pair("which ?", front + "bread" + back, front + "music" + back), 1.0)
    behind = Preference(Pair("which ?", front + back + " bread", front + back + " music"), 1.0)
    brief = Preference(Pair("which ?", "bread", "music"), 1.0)
    samples = FINETUNING[name](short).encode([inside, behind, brief])
    assert [sample.collapsed for sample in samples] == [True, False, False]
    assert [sample.cut > 0 for sample in samples] == [True, True, False]


def test_equal_answers_that_were_not_cut_are_no_business_of_truncation(renderer: Renderer) -> None:
    [sample] = Judge(renderer, label_smoothing=0.1).encode(
        [Preference(Pair("which ?", "bread", "bread"), 0.5)]
    )
    assert not sample.collapsed


# --- Parts ---


def test_scored_columns() -> None:
    """The first scored column is 2 of 5: predicting columns 2 to 4 takes the logits of columns 1 to 4."""
    scored = torch.tensor([[False, False, False, True, False], [False, False, True, False, True]])
    assert scored_columns(scored) == 4
    assert scored_columns(torch.zeros(2, 5, dtype=torch.bool)) == 0


def test_correct_sum() -> None:
    """Right 1, wrong 0, a tie of the model 0.5, a tie in the label 0.5, right about a soft label 1."""
    said = torch.tensor([1.0, -2.0, 0.0, 3.0, -0.5])
    label = torch.tensor([1.0, 1.0, 0.0, 0.5, 0.2])
    assert correct_sum(said, label).item() == 1 + 0 + 0.5 + 0.5 + 1


def refused(renderer: Renderer) -> Iterator[Callable[[], object]]:
    for eps in (-0.1, 0.5, 1.0, math.nan):
        yield lambda eps=eps: Judge(renderer, label_smoothing=eps)
        yield lambda eps=eps: Likelihood(renderer, label_smoothing=eps)
    yield lambda: Likelihood(renderer, label_smoothing=0.1, beta=0.0)
    yield lambda: Likelihood(renderer, label_smoothing=0.1, form="cross_entropy", reference=nn.Linear(1, 1))
    yield lambda: Scalar(renderer, centring=-1.0)
    for alpha in (-0.1, 1.0, math.nan):
        yield lambda alpha=alpha: Scalar(renderer, text_regulariser=alpha)
    yield lambda: Scalar(renderer, text_regulariser=0.1, text_form=cast(Any, "rhyme"))


def test_senseless_options_are_refused(renderer: Renderer) -> None:
    for make in refused(renderer):
        with pytest.raises(ConfigError):
            make()
