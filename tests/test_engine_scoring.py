"""Scoring by trie: the verdicts and scores of the plain path, whatever the budget and the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
import torch

from gram import Pair, Preference
from gram.engine.base import Batch, TokenRow
from gram.engine.memory import token_budget_for
from gram.engine.runner import Runner
from gram.modeling.loading import LoadedModel
from gram.rendering import Renderer
from gram.scoring.judge import JudgeModel
from gram.scoring.local import LocalBackend
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel
from gram.types import FloatArray
from small_models import family, fresh

TOLERANCE = 1e-5
VOCAB = 60
Name: TypeAlias = Literal["tree", "plain"]
BUDGETS = (1, 60, 150, 400, 1_500, 10**9)  # one row at a time ... everything at once


@pytest.fixture(scope="module")
def candidates(preferences: list[Preference]) -> list[Pair]:
    """For three prompts every pair out of four answers, two of them equal, one empty and one very short."""
    pairs = []
    for number, item in enumerate(preferences[4:7]):
        answers = [item.pair.a, item.pair.b, preferences[number].pair.a, preferences[number].pair.a, "", "no"]
        pairs += [Pair(item.pair.prompt, a, b) for a in answers for b in answers if a is not b]
    return pairs[::3]


Read: TypeAlias = Callable[[Runner], list[FloatArray]]


@pytest.fixture(scope="module")
def reads(renderer: Renderer, candidates: list[Pair]) -> dict[str, tuple[str, Read]]:
    """Per kind of model the head it needs, and all it says about the candidates."""
    prompts, answers = [pair.prompt for pair in candidates], [pair.a for pair in candidates]

    def judge(runner: Runner) -> list[FloatArray]:
        verdicts = JudgeModel(LocalBackend(renderer, runner), renderer.template).compare(candidates)
        return [verdicts.log_odds, verdicts.mass]

    def likelihood(runner: Runner) -> list[FloatArray]:
        model = LikelihoodModel(renderer, runner, baseline="unconditional", length_power=0.5)
        return [model.score(prompts, answers), model.compare(candidates).log_odds]

    def scalar(runner: Runner) -> list[FloatArray]:
        model = ScalarHeadModel(renderer, runner)
        return [model.score(prompts, answers), model.compare(candidates).log_odds]

    return {"judge": ("lm", judge), "likelihood": ("lm", likelihood), "scalar": ("score", scalar)}


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("kind", ["judge", "likelihood", "scalar"])
def test_both_engines_agree_under_any_budget(
    kind: str, architecture: str, reads: dict[str, tuple[str, Read]], preset: LoadedModel
) -> None:
    head, read = reads[kind]
    vocab = len(preset.tokenizer)
    plain = Runner(fresh(architecture, vocab, head=head), engine="plain", token_budget=2_000)
    wanted = read(plain)
    assert plain.engine == "plain" and wanted[0].std() > 0.1
    model = fresh(architecture, vocab, head=head)
    for budget in BUDGETS:
        runner = Runner(model, token_budget=budget)
        assert runner.engine == "tree"
        for mine, theirs in zip(read(runner), wanted, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def test_candidates_of_one_prompt_share_it(
    renderer: Renderer, candidates: list[Pair], preset: LoadedModel
) -> None:
    """Far fewer tokens are read than there are in the prompts."""
    model = fresh("llama", len(preset.tokenizer))
    runner = Runner(model, token_budget=10**9)
    read: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _, __, options: read.append(options["input_ids"].numel()), with_kwargs=True
    )
    prompts = [TokenRow(prompt.ids) for prompt in renderer.judge(candidates)]
    runner.next_logprobs(prompts, renderer.label_ids)
    assert len(read) == 1 and read[0] < 0.6 * sum(len(prompt.ids) for prompt in prompts)


# Memory


def ending(rows: Sequence[TokenRow]) -> list[TokenRow]:
    """The rows with their last five tokens scored."""
    return [TokenRow(list(row.ids), ((max(0, len(row.ids) - 5), len(row.ids)),)) for row in rows]


class Small:
    """Makes a model run out of memory whenever one forward pass reads more than ``room`` tokens."""

    def __init__(self, model: Any, room: int) -> None:
        self.room, self.calls, self.failures = room, 0, 0
        model.base_model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, _: Any, __: Any, options: dict[str, Any]) -> None:
        self.calls += 1
        if options["input_ids"].numel() > self.room:
            self.failures += 1
            raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("engine", ["tree", "plain"])
@pytest.mark.parametrize("room", [110, 150])
def test_running_out_of_memory_halves_the_budget(engine: Name, room: int) -> None:
    """A budget of 1600 tokens, of which ``room`` fit: halved until it does, and no result is lost."""
    prompts = ending(family(VOCAB))
    roomy = Runner(fresh("llama", VOCAB), engine=engine, token_budget=1_600)
    wanted = roomy.next_logprobs(prompts, [5, 6]), roomy.span_logprobs(prompts)[0]
    assert roomy.token_budget == 1_600
    model = fresh("llama", VOCAB)
    runner = Runner(model, engine=engine, token_budget=1_600)
    small = Small(model, room)
    found = runner.next_logprobs(prompts, [5, 6])
    np.testing.assert_allclose(found, wanted[0], atol=TOLERANCE, rtol=TOLERANCE)
    assert small.failures >= 2 and runner.token_budget == 1_600 // 2**small.failures
    assert runner.token_budget <= 2 * room
    np.testing.assert_allclose(runner.span_logprobs(prompts)[0], wanted[1], atol=TOLERANCE, rtol=TOLERANCE)
    failures, budget = small.failures, runner.token_budget
    runner.next_logprobs(prompts, [5, 6])
    assert (small.failures, runner.token_budget) == (failures, budget)  # it has learned


@pytest.mark.parametrize("engine", ["tree", "plain"])
def test_a_row_that_does_not_fit_alone_is_an_error(engine: Name) -> None:
    """95 tokens where 94 fit."""
    model = fresh("llama", VOCAB)
    runner = Runner(model, engine=engine, token_budget=1_600)
    Small(model, 94)
    with pytest.raises(torch.OutOfMemoryError):
        runner.next_logprobs(ending(family(VOCAB)), [5, 6])


def test_rows_that_are_done_are_not_read_again() -> None:
    """Memory runs out once, in a later batch of several rows: what came before it stays as it is."""
    model = fresh("llama", VOCAB)
    runner = Runner(model, token_budget=120)
    rows = family(VOCAB)
    read: list[int] = []
    plain = runner._engine.lay_out
    failed: list[int] = []

    def lay_out(some: Sequence[TokenRow]) -> Batch:
        if read and len(some) > 1 and not failed:
            failed.append(len(some))
            raise torch.OutOfMemoryError("out of memory")
        read.extend(id(row.ids) for row in some)
        return plain(some)

    runner._engine.lay_out = lay_out  # type: ignore[method-assign]
    runner.next_logprobs(ending(rows), [5])
    assert failed and len(read) == len(set(read)) == len(rows)


def test_a_budget_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough for any one prompt of usual length; less where less memory is free; never unbounded."""
    import psutil

    model = fresh("llama", VOCAB)
    budgets = []
    for free in (1 << 20, 1 << 24, 1 << 40):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: type("M", (), {"available": free}))
        budgets.append(token_budget_for(model))
    assert 1_000 < budgets[0] < budgets[1] < budgets[2] < 100_000
    assert Runner(model).token_budget == budgets[2]
    assert Runner(model, token_budget=77).token_budget == 77


def test_no_rows_no_forward_pass() -> None:
    model = fresh("llama", VOCAB)
    runner = Runner(model)
    small = Small(model, 0)
    assert runner.next_logprobs([], [5, 6]).shape == (0, 2)
    assert runner.scores([]).shape == (0,)
    sums, lengths = runner.span_logprobs([])
    assert sums.shape == lengths.shape == (0,) and small.calls == 0
