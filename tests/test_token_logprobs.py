"""Answers read token by token: the numbers of transformers, whose sum is the likelihood; and their texts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gram
from gram.errors import ConfigError
from gram.rendering import JudgeTemplate
from gram.scoring.judge import JudgeModel
from gram.scoring.tokens import _texts
from gram.tokens import TokenReader

load: Any = gram.load  # of kinds that differ in what they can do
PROMPT, ANSWER = "What is 2 + 2?", "2 + 2 is 4, says the clerk."


@pytest.mark.parametrize("engine", ["tree", "plain"])
def test_values_are_those_of_transformers(likelihood_folder: Path, engine: Any) -> None:
    """log softmax of the logits one place ahead of each token, from a plain forward pass of transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = load(likelihood_folder, engine=engine)
    tokens = model.token_logprobs(PROMPT, ANSWER)
    [answer] = model._renderer.answers([PROMPT], [ANSWER])
    start, stop = answer.scored("a")
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(likelihood_folder)(torch.tensor([answer.ids])).logits[0]
    expected = [float(logits[k - 1].log_softmax(-1)[answer.ids[k]]) for k in range(start, stop)]
    assert len(expected) == len(tokens.texts) > 5
    assert tokens.values == pytest.approx(expected, abs=1e-5)


def test_they_sum_to_the_score(likelihood_folder: Path) -> None:
    model = load(likelihood_folder)
    tokens = model.token_logprobs(PROMPT, ANSWER)
    assert sum(tokens.values) == pytest.approx(float(model.score([PROMPT], [ANSWER])[0]), abs=1e-4)
    assert tokens.cut == 0


def test_texts_put_together_are_the_answer_and_its_end(likelihood_folder: Path) -> None:
    model = load(likelihood_folder)
    for answer in (ANSWER, "Zwölf für 3 € – naïve 猫!", "", " spaces  ahead and\nlines "):
        tokens = model.token_logprobs(PROMPT, answer)
        written = "".join(tokens.texts)
        *_, end = tokens.texts
        assert written.removesuffix(end) == answer and end
        assert len(tokens.texts) == len(tokens.values)


def test_half_a_character_stands_with_the_token_that_completes_it() -> None:
    """Tokens of one byte each: "a€" is a, and three bytes of which the last shows the character."""
    data = "a€".encode()
    tokenizer: Any = SimpleNamespace(
        decode=lambda ids, clean_up_tokenization_spaces: bytes(ids).decode(errors="replace")
    )
    assert list(_texts(tokenizer, list(data))) == ["a", "", "", "€"]
    assert list(_texts(tokenizer, list(data[:2]))) == ["a", "\ufffd"]


def test_a_judge_reads_the_answer_without_its_judge_prompt(judge_folder: Path) -> None:
    """The tokens of a judge are those of the same weights as a likelihood model, in the chat format."""
    judge = load(judge_folder)
    earlier = judge.usage
    tokens = judge.token_logprobs(PROMPT, ANSWER)
    assert judge.usage.tokens > earlier.tokens
    assert tokens == load(judge_folder, kind="likelihood").token_logprobs(PROMPT, ANSWER)


def test_what_is_cut_is_counted(likelihood_folder: Path) -> None:
    tokens = load(likelihood_folder, max_length=24).token_logprobs(PROMPT, "one two three " * 40)
    assert tokens.cut > 0 and len(tokens.values) < 24


def test_who_can_tell(scalar_folder: Path) -> None:
    class Labels:
        def label_logprobs(self, pairs: Any, template: Any) -> Any: ...

        def tokens_cut(self, pairs: Any) -> None: ...

    assert not isinstance(load(scalar_folder), TokenReader)
    judge = JudgeModel(Labels(), JudgeTemplate("short", "{prompt} {a} {b} ", ("A", "B")))
    with pytest.raises(ConfigError, match="tells nothing of their tokens"):
        judge.token_logprobs(PROMPT, ANSWER)


def test_a_number_that_is_none_is_refused(likelihood_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(likelihood_folder)
    nan = np.array([np.nan])
    monkeypatch.setattr(type(model._runner), "token_logprobs", lambda *_: nan)
    with pytest.raises(gram.GramError, match="no finite log-probability"):
        model.token_logprobs(PROMPT, ANSWER)
