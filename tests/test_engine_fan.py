"""Segments that see several rows: against dense attention by transformers, in numbers and gradients.

The definition: a looking token sees the head, both branches, what stands between and behind them, and its
own segment up to itself; a token of a branch sees the head and its branch; one between or behind sees the
head and what was between and behind before it. Everything is read right behind the head, and stands for the
looking tokens where it stands in the whole row.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from gram.engine.base import TokenRow
from gram.engine.choose import choose_engine
from gram.engine.choose_fan import choose_fan
from gram.engine.segments import Part, Segment, forked
from gram.engine.tree import Tree
from gram.errors import CheckpointError
from small_models import family, fresh

VOCAB = 60
FAMILIES = (
    "llama",
    "mha",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gemma3",
    "phi3",
    "qwen3_moe",
    "partial",
    "yarn",
)
LABELS = [5, 11]


def model_of(name: str) -> Any:
    """Of ``small_models``; ``partial`` turns half of each head (Phi3), ``yarn`` scales its angles (Llama)."""
    if name not in ("partial", "yarn"):
        return fresh(name, VOCAB)
    model = fresh("phi3" if name == "partial" else "llama", VOCAB)
    config = copy.deepcopy(model.config)
    if name == "partial":
        config.rope_parameters = {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
        }
    else:
        config.rope_parameters = {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    changed = type(model)(config).eval()
    changed.load_state_dict(model.state_dict())
    changed.set_attn_implementation("eager")
    return changed


def some(draw: random.Random, count: int) -> list[int]:
    return [draw.randrange(2, VOCAB) for _ in range(count)]


def pairs_of(answers: int = 3, looking: int = 2, seed: int = 0) -> list[TokenRow]:
    """All ordered pairs of answers of 9 to 30 tokens to one prompt of 25."""
    draw = random.Random(seed)
    prompt, joint, cue = some(draw, 25), some(draw, 4), some(draw, 5)
    texts = [some(draw, 9 + 7 * k) for k in range(answers)]
    rows = []
    for i, a in enumerate(texts):
        for j, b in enumerate(texts):
            if i != j:
                first, second = 25 + len(a), 25 + len(a) + 4
                ids = [*prompt, *a, *joint, *b, *cue]
                rows.append(forked(TokenRow(ids), ((25, first), (second, second + len(b))), looking))
    return rows


def values(engine: Any, model: Any, rows: list[TokenRow]) -> Tensor:
    return engine.next_logits(model, engine.lay_out(rows), LABELS)


class Dense:
    """One segment through a model with dense attention: all tokens of its parts, and it, in one sequence.

    Args:
        model: its copy is asked to put all tokens at position 0, where rotary embeddings turn nothing, and
            attention turns queries and keys itself: keys for a looking token to where they stand for it.
    """

    def __init__(self, model: Any) -> None:
        self.model = copy.deepcopy(model)
        AttentionInterface.register("test_dense", self.attend)
        AttentionMaskInterface.register("test_dense", sdpa_mask)
        self.model.set_attn_implementation("test_dense")

    def read(self, segment: Segment) -> Tensor:
        ids = [token for part in segment.parts for token in part.row[part.start :]]
        numbers = [number for number, part in enumerate(segment.parts) for _ in range(part.size)]
        read_at = [place for part in segment.parts for place in range(part.start, len(part.row))]
        stands_at = [part.place + place for part in segment.parts for place in range(part.size)]
        looking = range(segment.start, segment.start + len(segment.ids))
        known = len(ids)
        ids += segment.ids
        count = len(ids)
        self.read_at = torch.tensor([*read_at, *looking])
        self.stands_at = torch.tensor([*stands_at, *looking])
        sees = torch.zeros(count, count, dtype=torch.bool)
        for q in range(known):
            for k in range(q + 1):  # of its own part up to itself, and the parts that its row begins with
                one, other = segment.parts[numbers[q]], segment.parts[numbers[k]]
                above = len(other.row) <= one.start and one.row[: len(other.row)] == other.row
                sees[q, k] = numbers[q] == numbers[k] or above
        for q in range(known, count):
            sees[q, : q + 1] = True
        self.sees, self.known = sees, known
        zeros = torch.zeros(1, count, dtype=torch.long)
        output = self.model(
            input_ids=torch.tensor([ids]),
            position_ids=zeros,
            attention_mask=torch.zeros(1, 1, 1, 1),
            use_cache=False,
        )
        return output.logits[0, -1, LABELS].float()

    def attend(
        self, module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, **rest: Any
    ) -> tuple[Tensor, None]:
        k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
        turn = self.turned
        q = turn(module, q, self.read_at)
        as_read = q @ turn(module, k, self.read_at).transpose(2, 3) * scaling
        as_seen = q @ turn(module, k, self.stands_at).transpose(2, 3) * scaling
        scores = torch.cat([as_read[:, :, : self.known], as_seen[:, :, self.known :]], dim=2)
        far = torch.cat(
            [
                self.read_at[: self.known, None] - self.read_at,
                self.read_at[self.known :, None] - self.stands_at,
            ]
        )
        window = rest.get("sliding_window")
        sees = self.sees if window is None else self.sees & (far < window)
        weights = scores.masked_fill(~sees, -torch.inf).softmax(dim=-1)
        return (weights @ v).transpose(1, 2), None

    def turned(self, module: Any, x: Tensor, positions: Tensor) -> Tensor:
        body = self.model.base_model
        kinds = (module.layer_type,) if type(module).__name__.startswith("Gemma3") else ()
        cos, sin = body.rotary_emb(x, positions[None], *kinds)
        # At position 0 the model has scaled queries and keys by the length of the tables already.
        zero, _ = body.rotary_emb(x, torch.zeros(1, 1, dtype=torch.long), *kinds)
        apply = sys.modules[type(module).__module__].apply_rotary_pos_emb  # type: ignore[attr-defined]
        return apply(x, x, cos / zero, sin / zero)[0]


def segments(rows: list[TokenRow]) -> list[Segment]:
    found = [row for row in rows if isinstance(row, Segment)]
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_all_pairs_are_those_of_dense_attention(name: str) -> None:
    """Six pairs in one pass; the spread of what they say is far above the tolerance."""
    model, rows = model_of(name), pairs_of()
    dense = Dense(model)
    with torch.inference_mode():
        wanted = torch.stack([dense.read(segment) for segment in segments(rows)])
        found = values(choose_fan(model), model, rows)
    assert float(wanted.std(dim=0).max()) > 5e-3
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma3", "phi3"])
def test_gradients_are_those_of_dense_attention(name: str) -> None:
    model, rows = model_of(name), pairs_of()
    dense = Dense(model)
    torch.stack([dense.read(segment) for segment in segments(rows)]).sin().sum().backward()
    values(choose_fan(model, training=True), model, rows).sin().sum().backward()
    wanted = dict(dense.model.named_parameters())
    for weight_name, weight in model.named_parameters():
        other = wanted[weight_name].grad
        assert (weight.grad is None) == (other is None)
        if weight.grad is not None and other is not None:
            torch.testing.assert_close(weight.grad, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def parts_at_their_places(shift: int) -> Segment:
    """A segment of 3 tokens behind two branches of one head, both read and seen right behind it, or later."""
    draw = random.Random(1)
    head, a, b, own = some(draw, 10), some(draw, 8), some(draw, 6), some(draw, 3)
    row_a, row_b = tuple(head + a), tuple(head + b)
    parts = (Part(tuple(head), 0, shift), Part(row_a, 10, 10 + shift), Part(row_b, 10, 10 + shift))
    return Segment(own, parts=parts, start=20 + shift)


@pytest.mark.parametrize("shift", [0, 300])
@pytest.mark.parametrize("name", ["llama", "qwen3", "phi3", "gemma3"])
def test_parts_in_their_places_by_transformers_alone(name: str, shift: int) -> None:
    """Transformers' own attention, with a mask and positions: no part is moved, or all are by equally much.

    Distances are then the same, so that the numbers are; an error in turning would show in those shifted.
    """
    model, segment = model_of(name), parts_at_their_places(shift)
    ids = [*segment.parts[1].row, *segment.parts[2].row[10:], *segment.ids]  # head, a, b, own
    positions = [*range(18), *range(10, 16), *range(20, 23)]
    sees = torch.ones(27, 27, dtype=torch.bool).tril()
    sees[18:24, 10:18] = False  # b does not see a
    at = torch.tensor(positions)

    def mask(window: int | None) -> Tensor:
        seen = sees if window is None else sees & (at[:, None] - at < window)
        return torch.zeros(27, 27).masked_fill(~seen, torch.finfo().min)[None, None]

    masks: Any = mask(None)
    if name == "gemma3":
        masks = {"full_attention": mask(None), "sliding_attention": mask(20)}
    with torch.inference_mode():
        wanted = model(
            input_ids=torch.tensor([ids]), position_ids=at[None], attention_mask=masks, use_cache=False
        ).logits[0, -1, LABELS]
        found = values(choose_fan(model), model, [segment])[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4 if shift else 1e-5, atol=1e-4 if shift else 1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gemma4"])
def test_a_pair_says_the_same_alone_and_among_others(name: str) -> None:
    """Also two prompts in one pass, equal answers, and segments of several lengths."""
    model = model_of(name)
    fan = choose_fan(model)  # which proves that what it reads is the whole row
    rows = [*pairs_of(seed=1), *pairs_of(2, looking=4, seed=2), pairs_of(seed=1)[0]]
    draw = random.Random(3)
    prompt, answer = some(draw, 12), some(draw, 6)
    twins = TokenRow([*prompt, *answer, 7, *answer, 8, 9])
    rows.append(forked(twins, ((12, 18), (19, 25)), looking=1))
    with torch.inference_mode():
        together = values(fan, model, rows)
        alone = torch.cat([values(fan, model, [row]) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_ordinary_rows_are_read_as_by_the_tree() -> None:
    model, rows = model_of("llama"), family(VOCAB)
    with torch.inference_mode():
        wanted = values(Tree(), model, rows) if choose_engine(model).name == "tree" else None
        found = values(choose_fan(model), model, rows)
    assert wanted is not None
    torch.testing.assert_close(found, wanted)


def counted(model: nn.Module) -> list[int]:
    """Filled with the number of tokens of every forward pass."""
    sizes: list[int] = []
    body: Any = model.base_model
    body.register_forward_pre_hook(
        lambda _, values, keywords: sizes.append(keywords["input_ids"].numel()), with_kwargs=True
    )
    return sizes


def ask(engine: Any, model: Any, rows: Sequence[TokenRow], budget: int = 10_000) -> Tensor:
    out = torch.empty(len(rows), 2)
    with torch.inference_mode():
        for places in engine.cut(rows, budget):
            batch = engine.lay_out([rows[place] for place in places])
            out[places] = engine.next_logprobs(model, batch, LABELS)
    return out


def test_what_was_read_is_not_read_again() -> None:
    """Prompt 25, answers 9, 16 and 23, joint 4 and lead 3, two looking tokens for each of six pairs.

    One pass: 25 + 9 + 16 + 23 + 4 + 3 + 12 = 92. The same again: the looking tokens alone. A new answer of
    30: with the prompt again, 55 and 12 for its six pairs.
    """
    model = model_of("llama")
    fan, sizes = choose_fan(model, keep=True), counted(model)
    rows, more = pairs_of(3), pairs_of(4)
    first = ask(fan, model, rows)
    again = ask(fan, model, rows)
    newcomers = [row for row in segments(more) if 55 in [len(part.row) for part in row.parts]]
    assert len(newcomers) == 6
    new = ask(fan, model, newcomers)
    assert sizes == [92, 12, 67]
    torch.testing.assert_close(again, first, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(new, ask(choose_fan(model), model, newcomers), rtol=1e-5, atol=1e-5)


def test_a_small_budget_reads_every_answer_once() -> None:
    """Packs of at most 70 tokens; with answers kept all tokens are 92 and the prompt once more per pack."""
    model, rows = model_of("llama"), pairs_of(3)
    fan, sizes = choose_fan(model, keep=True), counted(model)
    whole = ask(choose_fan(model), model, rows)
    sizes.clear()
    found = ask(fan, model, rows, budget=70)
    assert len(sizes) > 1 and max(sizes) <= 70
    assert sum(sizes) <= 92 + 25 * (len(sizes) - 1)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["in place", "another tensor", "AdamW", "SGD"])
def test_changed_weights_void_what_was_kept(change: str) -> None:
    """Also by a fused optimizer, which writes past torch's own count of changes."""
    model, rows = model_of("llama"), pairs_of(2)
    fan = choose_fan(model, keep=True)
    before = ask(fan, model, rows)
    weight = model.model.layers[0].mlp.down_proj.weight
    with torch.no_grad():
        if change == "in place":
            weight.mul_(1.5)
        elif change == "another tensor":
            weight.data = weight.data * 1.5
        else:
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
            getattr(torch.optim, change)([weight], lr=0.1, fused=True).step()
    after = ask(fan, model, rows)
    assert float((after - before).abs().max()) > 1e-3
    torch.testing.assert_close(after, ask(choose_fan(model), model, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_bf16_is_near_fp32(training: bool) -> None:
    """Within a few steps of bf16 (2^-8) of the size of the numbers, and not equal to them."""
    model, rows = model_of("llama"), pairs_of()
    with torch.no_grad():
        exact = values(choose_fan(model, training=training), model, rows)
    low = model_of("llama").bfloat16()
    fan = choose_fan(low, training=training)
    found = values(fan, low, rows)
    if training:
        found.sum().backward()
    difference = float((found.detach() - exact).norm() / exact.norm())
    assert 0 < difference < 0.05


UNSERVED: dict[str, tuple[Callable[[], Any], str]] = {
    "learned positions": (lambda: fresh("gpt2", VOCAB), "it has no rotary keys"),
    "alibi": (lambda: fresh("bloom", VOCAB), "it does not take positions"),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_models_without_rotary_keys_are_refused(name: str) -> None:
    build, reason = UNSERVED[name]
    with pytest.raises(CheckpointError, match=f"cannot be read in the fan layout: {reason}.*layout sequence"):
        choose_fan(build())


def test_a_wrong_turn_is_found_at_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    from gram.engine.rotary import Rotary

    monkeypatch.setattr(Rotary, "turned_back", lambda self, module, queries, shifts: queries)
    with pytest.raises(CheckpointError, match="the numbers would differ where a part stands elsewhere"):
        choose_fan(model_of("llama"))
