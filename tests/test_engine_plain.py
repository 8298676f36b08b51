"""The padded layout against one row at a time: padding, batch composition and order change no number."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gram.engine.plain import last_logits, left_pad, length_batches, pooled_scores, token_logprobs
from gram.modeling.trainable import LoraSettings, add_lora
from small_models import ARCHITECTURES, causal, classifier

VOCAB = 60
TOLERANCE = 1e-5


def sequences(seed: int = 0, most: int = 40) -> list[list[int]]:
    """Rows of 1 to ``most`` tokens; no token 0 at their end, which classifiers would take for padding."""
    draw = random.Random(seed)
    lengths = [most, 1, 2, 17, 30, 5]
    return [[*(draw.randrange(VOCAB) for _ in range(n - 1)), draw.randrange(2, VOCAB)] for n in lengths]


def test_left_pad_by_hand() -> None:
    batch = left_pad([[5, 6, 7], [8], [0, 9]])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8], [0, 0, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 1]]
    assert all(value.dtype == torch.long for value in batch.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_logit(architecture: str) -> None:
    """Rows in one left-padded batch against each row alone, called as plainly as can be."""
    model = causal(architecture, VOCAB)
    rows = sequences()
    with torch.inference_mode():
        logits = last_logits(model, left_pad(rows), keep=len(rows[0]))
        seen = []
        for row, ids in enumerate(rows):
            alone = model(input_ids=torch.tensor([ids])).logits[0]
            torch.testing.assert_close(logits[row, -len(ids) :], alone, atol=TOLERANCE, rtol=TOLERANCE)
            seen.append(alone[-1])
    assert torch.stack(seen).std(dim=0).mean() > 0.05  # the rows differ: the test could fail


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_score(architecture: str) -> None:
    """A classifier's score is its head on the last hidden state of the row alone."""
    model = classifier(architecture, VOCAB)
    rows = sequences()
    with torch.inference_mode():
        scores = pooled_scores(model, left_pad(rows))
        alone = torch.stack(
            [model.score(model.base_model(torch.tensor([ids]))[0][0, -1])[0] for ids in rows]  # type: ignore[operator]
        )
    torch.testing.assert_close(scores, alone, atol=TOLERANCE, rtol=TOLERANCE)
    assert scores.std() > 0.05


def test_the_value_of_padding_never_matters() -> None:
    model = causal("llama", VOCAB)
    batch = left_pad(sequences())
    other = dict(batch, input_ids=batch["input_ids"].where(batch["attention_mask"] == 1, torch.tensor(33)))
    with torch.inference_mode():
        one, two = last_logits(model, batch, keep=1), last_logits(model, other, keep=1)
    assert torch.equal(one, two)


@pytest.mark.parametrize("keep", [1, 3, 40])
def test_keep_is_the_tail_of_all_logits(keep: int) -> None:
    model = causal("llama", VOCAB)
    batch = left_pad(sequences())
    with torch.inference_mode():
        every, some = last_logits(model, batch, keep=40), last_logits(model, batch, keep)
    assert some.shape == (6, keep, VOCAB)
    torch.testing.assert_close(some, every[:, -keep:], atol=1e-6, rtol=1e-6)


def test_adapters_and_wrappers_get_positions_too() -> None:
    """A model inside an adapter is asked as the bare one: a fresh adapter adds zero."""
    model = copy.deepcopy(causal("gpt2", VOCAB))  # absolute positions: forgetting them would show
    batch = left_pad(sequences())
    with torch.inference_mode():
        bare = last_logits(model, batch, keep=1)
        adapted = add_lora(model, LoraSettings(rank=2), score_head=False).eval()
        wrapped = torch.nn.Module()
        wrapped.module = adapted
        wrapped.forward = adapted.forward
        torch.testing.assert_close(last_logits(adapted, batch, keep=1), bare, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(last_logits(wrapped, batch, keep=1), bare, atol=1e-6, rtol=1e-6)


def test_token_logprobs_by_hand() -> None:
    """Logits (0, ln 3): probabilities 1/4 and 3/4. In half precision they are raised to fp32 first."""
    logits = torch.tensor([[0.0, np.log(3.0)], [0.0, np.log(3.0)]])
    found = token_logprobs(logits, torch.tensor([0, 1]))
    np.testing.assert_allclose(found.exp(), [0.25, 0.75], rtol=1e-6)
    assert token_logprobs(logits.bfloat16(), torch.tensor([0, 1])).dtype == torch.float32


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 300))
def test_length_batches(lengths: list[int], budget: int) -> None:
    """Every row once, longest first, within the budget but for single rows that exceed it alone."""
    batches = list(length_batches(lengths, budget))
    flat = [index for batch in batches for index in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[index] for index in flat] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= budget


def test_length_batches_by_hand() -> None:
    """Budget 12: 7 alone (two rows of 7 would be 14), then 4, 3, 3 as three rows of 4, then 1."""
    assert list(length_batches([3, 7, 4, 1, 3], 12)) == [[1], [2, 0, 4], [3]]
    assert list(length_batches([], 12)) == []
