"""Every family of models is read as its own forward pass reads it, whatever else is in the batch, or refused.

The models are drawn small from transformers' own configurations. What they should say is computed without
this package: one forward pass per row, no padding, no mask, no positions. The chat templates take turns.
"""

from __future__ import annotations

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

import gram
from conftest import sharpened
from gram.errors import ConfigError
from gram.scoring.scalar import LikelihoodModel
from gram.types import Pair
from test_foreign_scalar import ANSWERS, FORMATS, PROMPTS, tokenizer_for

# Names that configurations give to the same few sizes; each configuration gets those that it has.
SIZES: dict[str, Any] = {
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "dim": 32, "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 64, "ffn_dim": 64, "d_inner": 64, "d_ff": 64, "hidden_dim": 64, "head_dim": 8,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "num_key_value_heads": 2, "d_kv": 8,
    "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "encoder_layers": 1, "encoder_ffn_dim": 64,
    "encoder_attention_heads": 4, "max_position_embeddings": 512, "n_positions": 512, "rotary_dim": 8,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_shared_experts": 1, "n_group": 1,
    "topk_group": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
    "v_head_dim": 8, "state_size": 4, "lru_width": 32, "attention_window_size": 16, "mamba_n_heads": 8,
    "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "expand": 2, "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
WINDOW = {
    "sliding_window": 16,
    "use_sliding_window": True,
    "max_window_layers": 0,
}  # shorter than the prompts
PICKS = {  # an indexer picks 16 tokens, fewer than the prompts have
    "num_key_value_heads": 4, "index_topk": 16, "index_head_dim": 8, "index_n_heads": 2,
    "first_k_dense_replace": 1,
}  # fmt: skip
OWN_SIZES: dict[str, dict[str, Any]] = {
    "deepseek_v3": {"num_key_value_heads": 4},
    "deepseek_v32": PICKS, "glm_moe_dsa": PICKS, "axk2": PICKS, "hy_v4": PICKS,
    "deepseek_v4": {
        "num_key_value_heads": 1, "index_head_dim": 8, "index_n_heads": 2, "o_groups": 2,
        "o_lora_rank": 8, "sliding_window": 16,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
        "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"],
    },
    "gemma3n_text": {  # the sizes of layers are lists
        "intermediate_size": [64, 96], "num_kv_shared_layers": 0, "laurel_rank": 4,
        "vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 8,
        "layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gemma4_text": {  # heads of two widths
        "global_head_dim": 16, "vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}  # fmt: skip


def names(text: str) -> list[str]:
    return text.split()


READ = names("""
    llama mistral ministral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 gpt2 gpt_bigcode gpt_neox gptj opt
    bloom mpt olmo olmo2 olmo3 stablelm starcoder2 smollm3 glm4 nemotron persimmon gpt_oss
    mixtral qwen2_moe qwen3_moe phimoe jetmoe minimax deepseek_v3
""")  # as language models and as classifiers
LANGUAGE = names("""
    cohere cohere2 granite granitemoe ernie4_5 apertus codegen ctrl xglm biogpt
    mamba jamba qwen3_next llama4_text vaultgemma gemma3n_text gemma4_text
    deepseek_v32 glm_moe_dsa axk2 hy_v4 deepseek_v4
""")
BOTH_DIRECTIONS = names("bert roberta xlm-roberta electra ernie roformer rembert xlm bert-generation")
NEIGHBOURS = names("bart mbart pegasus marian blenderbot recurrent_gemma rwkv")
ENCODERS = names("""
    bert roberta xlm-roberta modernbert deberta deberta-v2 electra distilbert albert longformer nomic_bert
    canine t5 bart ctrl
""")


def kind_of(number: int) -> str:
    return list(FORMATS)[number % len(FORMATS)]


@cache
def tokenizer(style: str) -> Any:
    return tokenizer_for(style, "own")


def small(family: str, style: str, head: str, **more: Any) -> Any:
    """A sharpened model of the family, with random weights."""
    base: Any = hf.AutoConfig.for_model(family)
    words = tokenizer(style)
    ids = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    own = OWN_SIZES.get(family, {})
    wanted = SIZES | ids | {"bos_token_id": None} | own | more
    computed = {name for name, value in vars(type(base)).items() if isinstance(value, property)}
    known = {*dir(base), *type(base).attribute_map, *own} - computed
    shape = {name: value for name, value in wanted.items() if name in known}
    if "qk_rope_head_dim" in shape:  # the part of a head that is turned
        shape["head_dim"] = shape["qk_rope_head_dim"]
    config = type(base)(**shape)
    if head == "score":
        config.num_labels = 1
    auto = hf.AutoModelForCausalLM if head == "lm" else hf.AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return sharpened(auto.from_config(config).eval(), 3.0)


def saved(folder: Path, model: Any, style: str) -> Path:
    model.save_pretrained(folder)
    tokenizer(style).save_pretrained(folder)
    return folder


def loaded(folder: Path, kind: Any, engine: Any = "tree") -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a family is read without sharing prefixes is no matter here
        return gram.load(folder, kind, device="cpu", engine=engine, neutralise=False)


def own_scores(model: Any, words: Any) -> list[float]:
    """What the classifier says of each conversation alone."""
    scores = []
    for ids in conversations(words):
        with torch.no_grad():
            scores.append(model(torch.tensor([ids]), use_cache=False).logits[0, 0].item())
    return scores


def conversations(words: Any) -> list[list[int]]:
    return [
        words.apply_chat_template(
            [*prompt, {"role": "assistant", "content": answer}], tokenize=True, return_dict=False
        )
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]


def own_likelihoods(model: Any, scorer: LikelihoodModel) -> list[float]:
    """Summed log-probabilities of each answer's tokens, from one forward pass over the row alone."""
    sums = []
    for row in scorer._renderer.answers(PROMPTS, ANSWERS):
        first, last = row.scored("a")
        with torch.no_grad():
            logits = model(torch.tensor([row.ids]), use_cache=False).logits[0].double()
        logprobs = logits.log_softmax(-1)
        sums.append(sum(logprobs[k - 1, row.ids[k]].item() for k in range(max(first, 1), last)))
    return sums


def check_scores(scorer: Any, wanted: list[float]) -> None:
    """Together, in the other order, and alone: to 1e-5 of the size of the scores."""
    near = max(1.0, float(np.abs(wanted).max())) * 1e-5
    assert np.ptp(wanted) > 1e-3, "the model does not look at what it reads"
    assert scorer.score(PROMPTS, ANSWERS) == pytest.approx(wanted, abs=near)
    assert scorer.score(PROMPTS[::-1], ANSWERS[::-1]) == pytest.approx(wanted[::-1], abs=near)
    alone = [scorer.score([x], [y])[0] for x, y in zip(PROMPTS, ANSWERS, strict=True)]
    assert alone == pytest.approx(wanted, abs=near)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """Without transformers' advice on kernels and caches that these families could use."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("number", "family"), enumerate([*READ, *LANGUAGE]))
def test_language_models(number: int, family: str, tmp_path: Path) -> None:
    style = kind_of(number)
    model = small(family, style, "lm")
    folder = saved(tmp_path, model, style)
    scorer = loaded(folder, "likelihood", ("tree", "plain")[number % 2])
    check_scores(scorer, own_likelihoods(model, scorer))
    judge = loaded(folder, "judge", ("plain", "tree")[number % 2])
    pairs = [Pair(x, a=y, b=z) for x, y, z in zip(PROMPTS, ANSWERS, ANSWERS[1:], strict=False)]
    together, alone = judge.compare(pairs), [judge.compare([pair]).log_odds[0] for pair in pairs]
    assert together.log_odds == pytest.approx(np.array(alone), abs=1e-3)  # differences of large numbers


@pytest.mark.parametrize(("number", "family"), enumerate(READ))
def test_classifiers(number: int, family: str, tmp_path: Path) -> None:
    """Transformers gives the same in batches that it pads, on either side: the number is the right one."""
    style = kind_of(number)
    model = small(family, style, "score")
    folder = saved(tmp_path, model, style)
    wanted = own_scores(model, tokenizer(style))
    near = max(1.0, float(np.abs(wanted).max())) * 1e-5
    for side in ("left", "right"):
        if side == "left" and family in ("opt", "gpt2", "gpt_bigcode", "minimax"):
            continue  # they count padding as positions, or as a state, when nobody tells them
        words = tokenizer(style)
        batch = words.pad({"input_ids": conversations(words)}, padding_side=side, return_tensors="pt")
        with torch.no_grad():
            padded = model(**batch, use_cache=False).logits[:, 0]
        assert padded.numpy() == pytest.approx(wanted, abs=near), side
    check_scores(loaded(folder, "scalar", ("plain", "tree")[number % 2]), wanted)


@pytest.mark.parametrize(
    "family", ["mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "starcoder2", "gpt_oss"]
)
def test_windows_shorter_than_the_prompts(family: str, tmp_path: Path) -> None:
    model = small(family, "chatml", "lm", **WINDOW)
    assert model.config.sliding_window == 16
    scorer = loaded(saved(tmp_path, model, "chatml"), "likelihood")
    check_scores(scorer, own_likelihoods(model, scorer))


@pytest.mark.parametrize("alibi", [True, False])
def test_falcon_with_and_without_alibi(alibi: bool, tmp_path: Path) -> None:
    model = small("falcon", "chatml", "lm", alibi=alibi)
    scorer = loaded(saved(tmp_path, model, "chatml"), "likelihood")
    check_scores(scorer, own_likelihoods(model, scorer))


def refused(family: str, head: str, kind: Any, reason: str, folder: Path, **more: Any) -> None:
    saved(folder, small(family, "chatml", head, **more), "chatml")
    with pytest.raises(gram.GramError, match=reason):
        loaded(folder, kind)


@pytest.mark.parametrize("family", BOTH_DIRECTIONS)
def test_an_encoder_is_no_language_model(family: str, tmp_path: Path) -> None:
    """Transformers loads it as one, with a warning; every token would be predicted from itself."""
    refused(family, "lm", "likelihood", "reads in both directions", tmp_path)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_positions_of_a_models_own_are_refused(family: str, tmp_path: Path) -> None:
    """Made causal, they would do, but count positions from behind the id of their padding."""
    refused(family, "lm", "judge", "in a way of its own", tmp_path, is_decoder=True)


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_an_encoder_made_causal_is_read(family: str, tmp_path: Path) -> None:
    model = small(family, "chatml", "lm", is_decoder=True)
    scorer = loaded(saved(tmp_path, model, "chatml"), "likelihood")
    check_scores(scorer, own_likelihoods(model, scorer))


@pytest.mark.parametrize("family", NEIGHBOURS)
def test_what_looks_at_its_neighbours_is_refused(family: str, tmp_path: Path) -> None:
    refused(family, "lm", "judge", "changes beside a longer one", tmp_path)


@pytest.mark.parametrize("family", ENCODERS)
def test_a_classifier_of_another_kind_is_refused(family: str, tmp_path: Path) -> None:
    refused(family, "score", "scalar", "no scalar head on a decoder", tmp_path)


def test_a_models_own_failure_is_said_in_one_line(tmp_path: Path) -> None:
    """X-MOD wants to be told a language before it reads anything."""
    refused(
        "xmod", "lm", "judge", "own code cannot read a prompt of .* tokens: ValueError: Input l", tmp_path
    )


def test_rows_that_would_change_each_other_are_not_trained() -> None:
    """An indexer that picks 16 tokens: of rows of at most 16 it picks all, longer ones are refused."""
    from gram.engine.neighbours import refuse_unlike_rows, sees_padding_beyond

    picks, blocks = small("deepseek_v32", "chatml", "lm"), small("deepseek_v4", "chatml", "lm")
    assert (sees_padding_beyond(picks), sees_padding_beyond(blocks)) == (16, 0)
    assert sees_padding_beyond(small("llama", "chatml", "lm")) is None
    refuse_unlike_rows(picks, 16)
    with pytest.raises(ConfigError, match=r"max_length 17: .*beyond 16 tokens: at most so many"):
        refuse_unlike_rows(picks, 17)
    with pytest.raises(ConfigError, match="it is not trained"):
        refuse_unlike_rows(blocks, 8)
