"""bf16 through the fused layers: as near to fp32 as transformers' own bf16 is, forward and backward.

The reference is transformers in fp32 on the very same (bf16) weights, and the yardstick transformers in bf16:
what the fused layers compute may be off by as much as that, and half as much again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from gram.engine import fused, layer
from gram.engine.base import TokenRow
from gram.engine.choose import choose_engine
from gram.engine.layer import ROWS, blocks
from gram.engine.plain import Plain
from gram.engine.stand_in import take_away
from gram.engine.tree import Tree
from gram.modeling.trainable import LoraSettings, add_lora

SLACK = 1.5
KNOWN = ("llama", "qwen2", "qwen3", "mistral")
UNKNOWN = ("gemma", "phi3", "granite", "olmo2")
ROW = [(7 * place + 3) % 200 for place in range(90)]
ROWS_OF_PAIR = [TokenRow([*ROW, 5, 6, 7]), TokenRow([*ROW[:60], 9, 8, *ROW[60:80]]), TokenRow(ROW[:33])]


def model_of(kind: str, layers: int = 3) -> Any:
    """Weights that bf16 holds exactly, norms that matter, and three layers of two heads per key head."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=256,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.09,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        use_cache=False,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data.uniform_(0.5, 1.5)
        weight.data = weight.data.bfloat16().float()
    return model


def fused_layers(model: Any) -> int:
    return sum("forward" in module.__dict__ for module in model.model.layers)


def distance(one: Tensor, two: Tensor) -> float:
    return float((one.detach().float() - two.detach().float()).norm() / two.detach().float().norm())


def logits(model: Any, engine: Any) -> Tensor:
    with torch.no_grad():
        return engine.next_logits(model, engine.lay_out(ROWS_OF_PAIR), range(64))


@pytest.mark.parametrize("engine", [Tree(), Plain()], ids=["tree", "plain"])
@pytest.mark.parametrize("kind", KNOWN)
def test_known_families_say_what_they_say_in_fp32(kind: str, engine: Any) -> None:
    exact = model_of(kind)
    stock, ours = (copy.deepcopy(exact).bfloat16() for _ in range(2))
    for model in (exact, stock, ours):
        choose_engine(model, engine.name)
    take_away(stock.modules())
    assert fused_layers(ours) == 3
    reference = logits(exact, engine)
    theirs, mine = (distance(logits(model, engine), reference) for model in (stock, ours))
    assert 0 < mine < SLACK * theirs


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_reads_otherwise_stays_as_it_is(kind: str) -> None:
    """None of them may pass for Llama.

    Gemma's norm adds one to its weight, Phi 3 has one product for gate and up, Granite scales its residual,
    and OLMo 2 has its norms behind.
    """
    model = model_of(kind)
    before = logits(model.bfloat16(), Plain())
    choose_engine(model, "plain")
    assert fused_layers(model) == 0
    assert torch.equal(logits(model, Plain()), before)


def test_fp32_is_transformers_own_bit_for_bit() -> None:
    model = model_of("llama")
    before = logits(model, Plain())
    choose_engine(model, "plain", bf16=True)
    assert fused_layers(model) == 3
    assert torch.equal(logits(model, Plain()), before)


@pytest.mark.parametrize("change", ["in place", "fused optimizer"])
def test_a_changed_weight_is_seen(change: str) -> None:
    """Weights are kept in oneDNN's order too: a stale copy would go on saying the old thing."""
    model = model_of("llama").bfloat16()
    choose_engine(model)
    before = logits(model, Tree())
    weight = model.model.layers[1].mlp.up_proj.weight
    with torch.no_grad():
        if change == "in place":
            weight.mul_(2)
        else:
            weight.grad = torch.ones_like(weight)
            torch.optim.AdamW([weight], lr=0.1, fused=True).step()
    after = logits(model, Tree())
    fresh = copy.deepcopy(model)
    assert not torch.equal(before, after)
    assert torch.equal(logits(fresh, Tree()), after)


def gradients(model: Any, engine: Any, *, autocast: bool) -> dict[str, Tensor]:
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = engine.next_logits(model, engine.lay_out(ROWS_OF_PAIR), range(64)).square().mean()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def trained(kind: str, how: str) -> tuple[Any, Any, Any]:
    """fp32 as the reference, transformers under autocast, and ours: the same weights three times."""
    models: list[Any] = []
    for number in range(3):
        model = model_of(kind)
        choose_engine(model, training=True, bf16=number == 2)
        assert fused_layers(model) == (3 if number == 2 else 0)
        if how == "lora":
            torch.manual_seed(1)
            low = number == 2  # ours holds frozen weights in bf16
            model = add_lora(model.bfloat16() if low else model, LoraSettings(rank=4), score_head=False)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.data.normal_(0, 0.1)
        models.append(model)
    return models[0], models[1], models[2]


@pytest.mark.parametrize("how", ["all", "lora"])
@pytest.mark.parametrize("kind", KNOWN)
def test_gradients_are_those_of_fp32(kind: str, how: str) -> None:
    exact, stock, ours = trained(kind, how)
    reference = gradients(exact, Tree(), autocast=False)
    theirs = gradients(stock, Tree(), autocast=True)
    mine = gradients(ours, Tree(), autocast=True)
    assert set(mine) == set(reference)
    assert all(gradient.dtype == torch.float32 for gradient in mine.values())

    def whole(parts: dict[str, Tensor]) -> Tensor:
        return torch.cat([parts[name].flatten().float() for name in sorted(parts)])

    assert distance(whole(mine), whole(reference)) < SLACK * distance(whole(theirs), whole(reference))
    worst = max(distance(mine[name], reference[name]) for name in reference)
    assert worst < 2 * max(distance(theirs[name], reference[name]) for name in reference)


def test_frozen_parts_get_no_gradient_and_pass_it_on() -> None:
    """Only the first layer's queries are trained: all behind them is frozen, and passes on what it gets."""
    exact, ours = model_of("llama"), model_of("llama")
    for model in (exact, ours):
        choose_engine(model, training=True, bf16=model is ours)
        model.requires_grad_(False)
        model.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    [(name, mine)] = gradients(ours, Tree(), autocast=True).items()
    assert distance(mine, gradients(exact, Tree(), autocast=False)[name]) < 0.06  # wrong would be near 1


@pytest.fixture
def with_adapter() -> Iterator[Any]:
    torch.manual_seed(1)
    model = add_lora(model_of("llama").bfloat16(), LoraSettings(rank=4), score_head=False)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.3)
    yield model.eval()


def test_an_adapter_counts_while_it_is_on(with_adapter: Any) -> None:
    """On, off, and merged: what peft says each time."""
    base = with_adapter.get_base_model()
    choose_engine(base)
    take_away(base.modules())
    stock = logits(with_adapter, Tree())
    with with_adapter.disable_adapter():
        stock_off = logits(with_adapter, Tree())
    choose_engine(base)
    assert fused_layers(base) == 3
    mine = logits(with_adapter, Tree())
    with with_adapter.disable_adapter():
        mine_off = logits(with_adapter, Tree())
    assert distance(mine, stock) < 0.1
    assert distance(mine_off, stock_off) < 0.1
    assert distance(stock, stock_off) > 0.3
    with_adapter.merge_adapter()
    assert distance(logits(with_adapter, Tree()), stock) < 0.1


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_dropout": 0.5}], ids=["dora", "dropout"])
def test_other_adapters_are_left_to_peft(settings: dict[str, Any]) -> None:
    """DoRA scales the whole product, dropout draws: peft computes both itself."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **settings)
    model: Any = get_peft_model(model_of("llama").bfloat16(), config).train()
    base = model.get_base_model()
    choose_engine(base, "plain")
    seen: list[str] = []
    base.model.layers[0].self_attn.register_forward_hook(lambda *_: seen.append("transformers"))
    logits(model, Plain())
    assert seen == ["transformers"]


def test_a_hook_on_a_product_is_called() -> None:
    """Offloading and tracing hang hooks on single layers: these must not be passed by."""
    model = model_of("llama").bfloat16()
    choose_engine(model, "plain")
    seen = []
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: seen.append(1))
    logits(model, Plain())
    assert seen


def test_blocks_are_even() -> None:
    """600 rows are 2 blocks of 300, and not one of 512 and a small rest, which is slow to multiply."""
    sizes = [rows.stop - rows.start for rows in blocks(600)]
    assert sizes == [300, 300]
    assert [rows.stop - rows.start for rows in blocks(ROWS)] == [ROWS]
    covered = [place for rows in blocks(1537) for place in range(rows.start, rows.stop)]
    assert covered == list(range(1537))


def test_choosing_an_engine_fuses_bf16_and_proves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 stays as it is, bf16 is fused, and layers that say something else are taken off again."""
    exact, low = model_of("llama"), model_of("llama").bfloat16()
    choose_engine(exact)
    assert fused_layers(exact) == 0
    choose_engine(exact, training=True, bf16=True)
    assert fused_layers(exact) == 3
    choose_engine(low)
    assert fused_layers(low) == 3
    original = layer.after
    monkeypatch.setattr(fused, "after", lambda attended, x, after: original(attended, x, after) * 1.2)
    with pytest.warns(UserWarning, match="without fused layers"):
        choose_engine(low)
    assert fused_layers(low) == 0


def test_checkpointing_computes_again_what_layers_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same gradients, each layer computed twice, and nothing kept past autograd, which lets go of it.

    A tensor kept as an attribute of the graph would stay there under checkpointing: no gradient shows that.
    """
    found: list[dict[str, Any]] = []
    calls: list[int] = []
    original = layer.after

    def counted(attended: Tensor, x: Tensor, after: layer.After) -> Tensor:
        calls.append(1)
        return original(attended, x, after)

    monkeypatch.setattr(fused, "after", counted)
    for checkpointing in (False, True):
        model = model_of("llama")
        choose_engine(model, training=True, bf16=True)
        calls.clear()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = Tree().next_logits(model, Tree().lay_out(ROWS_OF_PAIR), range(64)).square().mean()
        nodes = graph_of(loss)
        assert checkpointing or sum("_After" in type(node).__name__ for node in nodes) == 3
        for node in nodes:
            values = [v for v in vars_of(node).values() if isinstance(v, Tensor | list)]
            assert not values, f"{type(node).__name__} keeps tensors that checkpointing does not know"
        loss.backward()
        assert len(calls) == (6 if checkpointing else 3)
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def graph_of(loss: Tensor) -> list[Any]:
    """All nodes behind ``loss``."""
    seen: dict[int, Any] = {}
    todo: list[Any] = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and id(node) not in seen:
            seen[id(node)] = node
            todo += [behind for behind, _ in node.next_functions]
    return list(seen.values())


def vars_of(node: Any) -> dict[str, Any]:
    """What a node of ours holds beside saved tensors; torch's own nodes hold nothing that Python sees."""
    return getattr(node, "__dict__", {})
