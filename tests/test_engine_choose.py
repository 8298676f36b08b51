"""Which models the trie serves: what it cannot read rightly takes the plain path, and says so once."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import transformers as hf

from conftest import sharpened
from gram.engine.attention import NAME
from gram.engine.base import Engine, TokenRow
from gram.engine.choose import _example, choose_engine, obstacle
from gram.engine.neighbours import rotary_switch
from gram.engine.plain import Plain
from gram.engine.tree import Tree
from small_models import SHARING, causal, classifier, family, fresh, small_shape

VOCAB = 60
SHAPE = small_shape(VOCAB)
RECURRENT: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
DELTA = dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8) | dict.fromkeys(
    ("linear_num_key_heads", "linear_num_value_heads"), 2
)
LONGROPE = {"rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 90}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}


def qwen3_next() -> Any:
    layers = ["linear_attention", "full_attention"]
    return hf.Qwen3NextConfig(**SHAPE, **DELTA, head_dim=16, num_experts=0, layer_types=layers)


def gemma2(**caps: float | None) -> Any:
    return hf.Gemma2Config(**SHAPE, head_dim=16, **caps)  # type: ignore[arg-type]


UNSERVED: dict[str, tuple[Any, str]] = {
    "soft-capped": (lambda: gemma2(final_logit_softcapping=None), "it caps its attention logits"),
    "capped at the end": (lambda: gemma2(attn_logit_softcapping=None), "it caps its output logits"),
    "sinks": (lambda: hf.GptOssConfig(**SHAPE, **EXPERTS, head_dim=16), "it has attention sinks"),
    "hybrid": (qwen3_next, "it keeps a recurrent state"),
    "recurrent": (lambda: hf.MambaConfig(**RECURRENT), "it keeps a recurrent state"),
    "falcon mamba": (lambda: hf.FalconMambaConfig(**RECURRENT), "it keeps a recurrent state"),
    "alibi": (
        lambda: hf.BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
        "it does not take positions",
    ),
    "dynamic": (lambda: hf.LlamaConfig(**SHAPE, rope_parameters=DYNAMIC), "its rotary embedding depends on"),
    "own attention": (
        lambda: hf.GPTJConfig(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
        "its attention cannot be replaced",
    ),
    # Known to no list: found out by the trial run.
    "scaled logits": (lambda: hf.GraniteConfig(**SHAPE, logits_scaling=8.0), "the numbers would differ"),
    "scaled too": (lambda: hf.CohereConfig(**SHAPE, logit_scale=0.0625), "the numbers would differ"),
}


def built(config: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return sharpened(hf.AutoModelForCausalLM.from_config(config).eval(), 3.0)


def chosen(model: Any, wanted: Any = "tree", *, training: bool = False) -> tuple[Engine, list[str]]:
    """The engine, and what was said about it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        engine = choose_engine(model, wanted, training=training)
    return engine, [str(item.message) for item in said if issubclass(item.category, UserWarning)]


def numbers(engine: Engine, model: Any, rows: list[TokenRow]) -> torch.Tensor:
    with torch.inference_mode():
        return engine.next_logprobs(model, engine.lay_out(rows), range(VOCAB))


@pytest.mark.parametrize("name", UNSERVED)
def test_what_cannot_be_served_is_read_plainly(name: str) -> None:
    """One warning with the model's name and the reason, and the numbers of an untouched model."""
    config, reason = UNSERVED[name]
    model = built(config())
    untouched = copy.deepcopy(model)
    before = model.config._attn_implementation
    engine, said = chosen(model)
    assert isinstance(engine, Plain)
    assert len(said) == 1 and reason in said[0] and said[0].startswith(type(model).__name__)
    assert model.config._attn_implementation == before != NAME
    rows = family(VOCAB)
    assert torch.equal(numbers(engine, model, rows), numbers(Plain(), untouched, rows))


@pytest.mark.parametrize("head", ["lm", "score"])
@pytest.mark.parametrize("architecture", SHARING)
def test_what_can_be_served_is(architecture: str, head: str) -> None:
    model = fresh(architecture, VOCAB, head=head)
    weights = copy.deepcopy(model.state_dict())
    engine, said = chosen(model.train())
    assert (engine.name, said) == ("tree", [])
    assert model.training and model.config._attn_implementation == NAME
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_served(dtype: torch.dtype) -> None:
    assert chosen(copy.deepcopy(causal("llama", VOCAB)).to(dtype))[0].name == "tree"


def test_a_score_near_zero_does_not_hide_that_the_rest_is_right() -> None:
    """A new head may be at right angles to what the trial's prompts leave: then a score is all rounding.
    Twelve such heads on twelve layers in bf16."""
    torch.manual_seed(0)
    shape: dict[str, Any] = SHAPE | {"num_hidden_layers": 12, "num_labels": 1}
    config = hf.LlamaConfig(**shape)
    model = hf.LlamaForSequenceClassification(config).bfloat16().eval()
    rows = [torch.tensor([row.ids]) for row in _example(model)]
    with torch.no_grad():
        hidden = torch.stack([model.model(input_ids=ids).last_hidden_state[0, -1].float() for ids in rows])
        across = torch.linalg.qr(hidden.T)[0]  # (H, 2)
        for _ in range(12):
            head = torch.randn(hidden.shape[1])
            model.score.weight.copy_((head - across @ (across.T @ head))[None])
            engine, said = chosen(model)
            assert (engine.name, said) == ("tree", [])


def test_plain_on_request_leaves_the_model_alone() -> None:
    model = fresh("llama", VOCAB, attention="sdpa")
    engine, said = chosen(model, "plain")
    assert (engine.name, said, model.config._attn_implementation) == ("plain", [], "sdpa")


def test_models_that_scale_by_one_are_served() -> None:
    """It is the number that counts, not the name of an option."""
    assert chosen(built(hf.GraniteConfig(**SHAPE, logits_scaling=1.0)))[0].name == "tree"
    assert chosen(built(gemma2(attn_logit_softcapping=None, final_logit_softcapping=None)))[0].name == "tree"


def test_a_model_that_breaks_on_a_trie_is_read_plainly() -> None:
    model = fresh("llama", VOCAB)

    def refuse(_: Any, __: Any, options: dict[str, Any]) -> None:
        if options.get("tree_plan") is not None:
            raise KeyError("what is this plan ?")

    model.model.layers[1].register_forward_pre_hook(refuse, with_kwargs=True)
    engine, said = chosen(model)
    assert engine.name == "plain"
    assert "fails with KeyError" in said[0] and "what is this plan" in said[0]


def test_models_of_few_positions_are_tried_within_them() -> None:
    """A trial longer than a learned table of positions would fail for the wrong reason."""
    config = hf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=48, eos_token_id=1)
    assert chosen(built(config))[0].name == "tree"


@pytest.mark.parametrize("vocab", [60, 100, 250, 500, 668])
def test_the_trial_is_not_fooled_by_padding(vocab: int) -> None:
    """A classifier takes a last token with the id of padding for padding; the trial must not end in one."""
    assert chosen(copy.deepcopy(classifier("llama", vocab)))[0].name == "tree"


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_dropout_is_no_surprise_in_training(kind: str) -> None:
    """Whatever an architecture calls it: scoring has none, training takes the plain path and says why."""
    options: dict[str, Any] = {"attn_pdrop": 0.1} if kind == "gpt2" else {"attention_dropout": 0.1}
    config: Any = hf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, eos_token_id=1, **options)
    if kind == "llama":
        config = hf.LlamaConfig(**SHAPE, **options)
    model = built(config)
    engine, said = chosen(model)
    assert isinstance(engine, Tree) and not said
    assert not model.training
    engine, said = chosen(model, training=True)
    assert isinstance(engine, Plain) and "dropout" in said[0]
    engine.next_logits(model.train(), engine.lay_out(family(VOCAB)), [3])


# Windows of attention beyond the length of the trial. phimoe has its window in the mask alone, and doge makes
# a mask of its own from the keys it finds worth seeing.
WINDOWED: dict[str, Any] = {
    "mistral": lambda: hf.MistralConfig(**SHAPE, sliding_window=100),
    "phi3": lambda: hf.Phi3Config(**SHAPE, sliding_window=100),
    "phimoe": lambda: hf.PhimoeConfig(**SHAPE, **EXPERTS, sliding_window=100),
    "doge": lambda: hf.DogeConfig(**SHAPE, keep_window_size=100),
    "starcoder2": lambda: hf.Starcoder2Config(**SHAPE, sliding_window=100),
    "olmo3": lambda: hf.Olmo3Config(**SHAPE, sliding_window=100),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_longer_than_the_trial_is_not_forgotten(name: str) -> None:
    """Never wrong in silence: rows of 230 tokens that share 200, by whichever engine is chosen."""
    model = built(WINDOWED[name]())
    untouched = copy.deepcopy(model)
    engine, _ = chosen(model)
    ids = torch.randint(2, VOCAB, (300,), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [TokenRow(ids[:230]), TokenRow(ids[:200] + ids[250:])]
    difference = numbers(engine, model, rows).exp() - numbers(Plain(), untouched, rows).exp()
    assert difference.abs().max() < 1e-5


# Rotary embeddings of two kinds in one model


def longrope(short: float = 1.0, long: float = 4.0) -> Any:
    factors = {"short_factor": [short] * 4, "long_factor": [long] * 4}
    config = hf.Phi3Config(
        **SHAPE, original_max_position_embeddings=90, rope_parameters={**LONGROPE, **factors}
    )
    return built(config)


def test_where_the_rotary_embedding_switches() -> None:
    assert rotary_switch(longrope()) == 90
    assert rotary_switch(causal("phi3", VOCAB)) is None
    assert rotary_switch(causal("gemma3", VOCAB)) is None
    assert obstacle(longrope()) is None


@pytest.mark.parametrize("engine", ["tree", "plain"])
def test_a_long_row_does_not_change_the_scores_of_short_ones(engine: Any) -> None:
    """90 tokens are short, 91 are long; without a switch, all would be read as if they were long."""
    from gram.engine.runner import Runner

    ids = torch.randint(2, VOCAB, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = [TokenRow(row, ((len(row) - 4, len(row)),)) for row in (ids[:50], ids[:90], ids[:91], ids)]
    runner = Runner(longrope(), engine=engine, token_budget=10_000)
    assert runner.engine == engine
    together = runner.next_logprobs(prompts, range(VOCAB))
    alone = [runner.next_logprobs([prompt], range(VOCAB))[0] for prompt in prompts]
    assert together == pytest.approx(torch.tensor(alone).numpy(), abs=1e-5)
    sums, _ = runner.span_logprobs(prompts)
    assert sums == pytest.approx([runner.span_logprobs([p])[0][0] for p in prompts], abs=1e-5)
    always_long = Runner(longrope(short=4.0), engine=engine).next_logprobs(prompts, range(VOCAB))
    changed = abs(always_long - together).max(axis=1)
    assert changed[:2].min() > 0.01 and changed[2:].max() < 1e-5  # the kinds differ: the test could fail
