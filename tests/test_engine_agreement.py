"""The trie against the padded batch and against one row at a time: the same numbers, the same gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gram.engine.attention import NAME
from gram.engine.base import Batch, Engine, TokenRow
from gram.engine.choose import choose_engine
from gram.engine.plain import Plain
from gram.engine.tree import Tree
from gram.modeling.trainable import LoraSettings, add_lora, freeze
from small_models import SHARING, family, fresh

pytestmark = pytest.mark.law(3)

VOCAB = 60
TOLERANCE = 1e-5
TOKENS = (7, 3, 41)
each_architecture = pytest.mark.parametrize("architecture", SHARING)

QUESTIONS: dict[str, Callable[[Engine, nn.Module, Batch], Tensor]] = {
    "next_logits": lambda engine, model, batch: engine.next_logits(model, batch, TOKENS),
    "next_logprobs": lambda engine, model, batch: engine.next_logprobs(model, batch, TOKENS),
    "token_logprobs": lambda engine, model, batch: per_row(*engine.token_logprobs(model, batch)),
    "language_loss": lambda engine, model, batch: engine.language_loss(model, batch),
    "scores": lambda engine, model, batch: engine.scores(model, batch),
}
each_question = pytest.mark.parametrize("question", QUESTIONS)


def per_row(logprobs: Tensor, scored: Tensor) -> Tensor:
    """(n, T) with each row's scored tokens first, so that both layouts can be compared; zeros behind them."""
    width = int(scored.sum(dim=1).max()) if len(scored) else 0
    both = zip(logprobs, scored, strict=True)
    return torch.stack([nn.functional.pad(row[mask], (0, width - int(mask.sum()))) for row, mask in both])


def head_of(question: str) -> str:
    return "score" if question == "scores" else "lm"


def both(architecture: str, head: str = "lm") -> tuple[Any, Any]:
    """One model twice: with the attention of the trie, and with the architecture's own."""
    ours, theirs = fresh(architecture, VOCAB, head=head), fresh(architecture, VOCAB, head=head)
    assert choose_engine(ours).name == "tree"
    assert ours.config._attn_implementation == NAME != theirs.config._attn_implementation
    return ours, theirs


def ask(question: str, engine: Engine, model: nn.Module, rows: list[TokenRow]) -> Tensor:
    return QUESTIONS[question](engine, model, engine.lay_out(rows))


def alone(question: str, model: Any, row: TokenRow) -> Tensor:
    """The answer for one row, the model called as plainly as can be; scored tokens only."""
    ids = torch.tensor([list(row.ids)])
    if question == "scores":
        return model.score(model.base_model(ids)[0][0, -1])[0]
    logits = model(ids).logits[0]
    if question == "next_logits":
        return logits[-1, list(TOKENS)]
    logprobs = logits.log_softmax(dim=-1)
    if question == "next_logprobs":
        return logprobs[-1, list(TOKENS)]
    places = torch.from_numpy(row.scored)
    return logprobs[places - 1, ids[0, places]]


def scalar(values: Tensor) -> Tensor:
    """One number in which every value counts with a weight of its own."""
    weights = torch.linspace(-1.0, 2.0, values.numel()).view_as(values)
    return (values * weights).sum() / max(values.numel(), 1) ** 0.5


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


def assert_same_gradients(ours: nn.Module, theirs: nn.Module, tolerance: float = TOLERANCE) -> None:
    """Per parameter, the norm of the difference over the norm, or over 2% of the largest one."""
    mine, wanted = gradients(ours), gradients(theirs)
    assert mine.keys() == wanted.keys() and wanted
    most = max(value.norm().item() for value in wanted.values())
    assert most > 1e-3
    for name, value in wanted.items():
        difference = (mine[name] - value).norm().item()
        assert difference <= tolerance * max(value.norm().item(), 0.02 * most), name


def step(question: str, ours: nn.Module, theirs: nn.Module, rows: list[TokenRow], **tolerance: float) -> None:
    """Both ways forward and backward: values and gradients agree."""
    values = [ask(question, engine, model, rows) for engine, model in ((Tree(), ours), (Plain(), theirs))]
    close(values[0], values[1], tolerance.get("tolerance", TOLERANCE))
    for value in values:
        scalar(value).backward()
    assert_same_gradients(ours, theirs, **tolerance)


def close(mine: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


# Numbers


@each_question
@each_architecture
def test_three_ways_to_one_number(architecture: str, question: str) -> None:
    rows = family(VOCAB)
    ours, theirs = both(architecture, head_of(question))
    with torch.inference_mode():
        mine, padded = ask(question, Tree(), ours, rows), ask(question, Plain(), theirs, rows)
        single = [alone(question, theirs, row) for row in rows]
    assert mine.dtype == torch.float32
    close(mine, padded)
    if question == "language_loss":
        close(mine, -torch.cat(single).sum())
    elif question == "token_logprobs":
        for row, wanted in zip(mine, single, strict=True):
            close(row[: len(wanted)], wanted)
            assert not row[len(wanted) :].any()
    else:
        close(mine, torch.stack(single))
    if mine.dim():
        assert mine.std(dim=0).mean() > 0.05  # the rows differ: the test could fail
    if question in ("next_logits", "next_logprobs", "scores"):
        close(mine[0], mine[7], 1e-6)  # the row given twice


@each_question
def test_the_order_of_rows_is_kept(question: str) -> None:
    rows = family(VOCAB)
    ours, _ = both("llama", head_of(question))
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    with torch.inference_mode():
        straight = ask(question, Tree(), ours, rows)
        shuffled = ask(question, Tree(), ours, [rows[place] for place in order])
    close(shuffled, straight[order] if straight.dim() else straight)


@each_question
def test_one_row_is_a_batch(question: str) -> None:
    ours, theirs = both("mistral", head_of(question))
    for row in family(VOCAB):
        with torch.inference_mode():
            close(ask(question, Tree(), ours, [row]), ask(question, Plain(), theirs, [row]))


def test_the_layout_by_hand() -> None:
    """A shared run of 20 tokens (all 1), then 2 3 and 4: packed 0-19, 20-21, 22. The scored tokens are 1 at
    position 19, and 2 and 3; and 4: predicted from places 18, 19 and 20; and 19.
    """
    batch = Tree().lay_out([TokenRow([1] * 20 + [2, 3], ((19, 22),)), TokenRow([1] * 20 + [4], ((20, 21),))])
    assert batch["input_ids"].tolist() == [[1] * 20 + [2, 3, 4]]
    assert batch["position_ids"].tolist() == [[*range(20), 20, 21, 20]]
    assert batch["last"].tolist() == [21, 22]
    assert batch["read"].tolist() == [18, 19, 20, 19]
    assert batch["targets"].tolist() == [1, 2, 3, 4]
    assert batch["scored"].tolist() == [[True, True, True], [True, False, False]]


def test_shared_prefixes_are_read_once() -> None:
    rows = family(VOCAB)
    batch = Tree().lay_out(rows)
    assert batch["input_ids"].shape[1] < 0.55 * sum(len(row.ids) for row in rows)


@pytest.mark.parametrize("engine", [Tree(), Plain()])
def test_no_scored_token_at_all(engine: Engine) -> None:
    """Nothing to predict costs nothing, and has a gradient of zero."""
    model = fresh("llama", VOCAB, attention=NAME)
    rows = [TokenRow(row.ids) for row in family(VOCAB)[:3]]
    logprobs, scored = engine.token_logprobs(model, engine.lay_out(rows))
    assert logprobs.shape == scored.shape == (3, 0)
    loss = engine.language_loss(model, engine.lay_out(rows))
    assert loss.item() == 0.0
    loss.backward()
    assert all(not gradient.any() for gradient in gradients(model).values())


# Gradients


@each_question
@each_architecture
def test_gradients_of_every_parameter(architecture: str, question: str) -> None:
    ours, theirs = both(architecture, head_of(question))
    step(question, ours, theirs, family(VOCAB))
    assert gradients(ours).keys() == {name for name, _ in ours.named_parameters()}
    assert not any(gradient.is_sparse for gradient in gradients(ours).values())


@each_question
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_gradient_checkpointing(architecture: str, question: str) -> None:
    ours, theirs = both(architecture, head_of(question))
    ours.train().gradient_checkpointing_enable({"use_reentrant": False})
    calls = []
    ours.base_model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    step(question, ours, theirs, family(VOCAB))
    assert len(calls) == 2  # once more in the backward pass


@each_question
def test_adapters(question: str) -> None:
    """With weights that are no longer those of a fresh adapter, which adds zero."""
    ours, theirs = both("qwen2", head_of(question))
    adapted = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        model = add_lora(model, LoraSettings(rank=2), score_head=question == "scores").eval()
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_" in name:
                    value.normal_(std=0.03)
                elif value.requires_grad:  # the score head, trained as a whole
                    value.mul_(1.5)
        adapted.append(model)
    step(question, adapted[0], adapted[1], family(VOCAB))
    trained = gradients(adapted[0])
    assert trained and all("lora_" in name or "modules_to_save" in name for name in trained)


@each_question
@pytest.mark.parametrize("layers", [0, 1])
def test_a_frozen_body(layers: int, question: str) -> None:
    ours, theirs = both("llama", head_of(question))
    for model in (ours, theirs):
        freeze(model, layers)
    step(question, ours, theirs, family(VOCAB))
    assert ("model.layers.1.mlp.up_proj.weight" in gradients(ours)) == bool(layers)
    assert "model.layers.0.mlp.up_proj.weight" not in gradients(ours)


@each_question
def test_bf16(question: str) -> None:
    """Under autocast both ways are near fp32, and neither is more so by far; the results are fp32."""
    rows = family(VOCAB)
    ours, theirs = both("llama", head_of(question))
    exact = copy.deepcopy(theirs)
    with torch.autocast("cpu", torch.bfloat16):
        mine, padded = ask(question, Tree(), ours, rows), ask(question, Plain(), theirs, rows)
    wanted = ask(question, Plain(), exact, rows)
    assert mine.dtype == padded.dtype == torch.float32
    errors = [(value - wanted).norm().item() / wanted.norm().item() for value in (mine, padded)]
    assert 0 < errors[0] < max(2 * errors[1], 0.02) and errors[0] < 0.1
    for value in (mine, wanted):
        scalar(value).backward()
    found, right = gradients(ours), gradients(exact)
    flat = [torch.cat([side[name].flatten() for name in right]) for side in (found, right)]
    assert nn.functional.cosine_similarity(flat[0], flat[1], dim=0) > 0.98


def test_half_precision_weights_are_read_in_fp32_at_the_end() -> None:
    """A few logits of a bf16 model come from its hidden states without another rounding."""
    model = fresh("llama", VOCAB, attention=NAME).bfloat16()
    engine = Tree()
    batch = engine.lay_out(family(VOCAB))
    states = []
    model.base_model.norm.register_forward_hook(lambda *found: states.append(found[2]))
    with torch.inference_mode():
        found = engine.next_logits(model, batch, TOKENS)
        hidden = states[0][0, batch["last"]].double()
        wanted = hidden @ model.lm_head.weight[list(TOKENS)].double().T
    assert found.dtype == torch.float32
    close(found, wanted.float(), 1e-6)
