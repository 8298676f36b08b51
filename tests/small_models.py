"""Small models of several architectures, drawn at random and sharpened so that their scores differ."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import TYPE_CHECKING, Any

from conftest import sharpened

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from gram.engine.base import TokenRow

ARCHITECTURES = ("llama", "qwen2", "gpt2", "gemma", "mistral", "bloom")
SHARING = ("llama", "mha", "qwen2", "qwen3", "mistral", "gemma", "gemma3", "phi3", "qwen3_moe", "gpt2")
"""What the trie serves: key heads of their own or shared, biases, windows, norms of queries, experts."""


def small_shape(vocab_size: int) -> dict[str, Any]:
    """Two layers of 32, two key heads for four query heads."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def config_of(architecture: str, vocab_size: int) -> PretrainedConfig:
    """Two layers; mistral attends to 16 tokens back only, and gemma3 and gemma4 to 20 in their first layer;
    gemma3_pictures is a gemma3 beside a tower of 3 layers; gemma4 has wider heads in its second; bloom has no
    positions but relative ones; ``mha`` is a llama with a key head per query head, and biases.
    """
    import transformers as hf

    shape = small_shape(vocab_size)
    ends: dict[str, Any] = {"vocab_size": vocab_size, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    many: dict[str, Any] = {**shape, "num_key_value_heads": 4}
    match architecture:
        case "llama":
            return hf.LlamaConfig(**shape, tie_word_embeddings=True)
        case "qwen2":
            return hf.Qwen2Config(**shape, tie_word_embeddings=False)
        case "gemma":
            return hf.GemmaConfig(**shape, head_dim=16)
        case "mistral":
            return hf.MistralConfig(**shape, sliding_window=16)
        case "mha":
            return hf.LlamaConfig(**many, attention_bias=True, mlp_bias=True)
        case "qwen3":
            return hf.Qwen3Config(**shape, head_dim=16, tie_word_embeddings=True)
        case "gemma3":
            layers = ["sliding_attention", "full_attention"]
            return hf.Gemma3TextConfig(**shape, head_dim=16, sliding_window=20, layer_types=layers)
        case "gemma4":
            layers = ["sliding_attention", "full_attention"]
            own: dict[str, Any] = {"global_head_dim": 16, "hidden_size_per_layer_input": 8}
            own["vocab_size_per_layer_input"] = vocab_size
            return hf.Gemma4TextConfig(**shape, **own, head_dim=8, sliding_window=20, layer_types=layers)
        case "gemma3_pictures":
            ids: dict[str, Any] = {"image_token_index": 5, "boi_token_index": 6, "eoi_token_index": 7}
            sees = {"num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
            pictures: dict[str, Any] = {**sees, "hidden_size": 16, "intermediate_size": 32}
            text = config_of("gemma3", vocab_size).to_dict()
            return hf.Gemma3Config(text_config=text, vision_config=pictures, mm_tokens_per_image=4, **ids)
        case "phi3":
            return hf.Phi3Config(**shape)
        case "qwen3_moe":
            experts: dict[str, Any] = {
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
            }
            return hf.Qwen3MoeConfig(**shape, **experts)
        case "gpt2":
            return hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=1024, **ends)
        case "bloom":
            return hf.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **ends)
    raise ValueError(architecture)


@cache
def causal(architecture: str, vocab_size: int, seed: int = 0) -> Any:
    """A language model, in evaluation mode; shared, so read-only."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return sharpened(AutoModelForCausalLM.from_config(config_of(architecture, vocab_size)).eval(), 3.0)


@cache
def classifier(architecture: str, vocab_size: int, seed: int = 0) -> Any:
    """A sequence classifier with one output, in evaluation mode; shared, so read-only."""
    import torch
    from transformers import AutoModelForSequenceClassification

    config = config_of(architecture, vocab_size)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return sharpened(AutoModelForSequenceClassification.from_config(config).eval(), 3.0)


def fresh(architecture: str, vocab_size: int, *, head: str = "lm", attention: str = "eager") -> Any:
    """A copy of its own of ``causal`` (``head="lm"``) or ``classifier`` (``"score"``), to be changed."""
    model = copy.deepcopy((causal if head == "lm" else classifier)(architecture, vocab_size))
    model.set_attn_implementation(attention)
    return model


def family(vocab_size: int, seed: int = 0) -> list[TokenRow]:
    """Rows that share much, little and nothing, with scored spans of all kinds.

    A prompt with two answers, one that goes on where another ends, one that leaves it after a shared start
    of an answer, one that leaves it early; the prompt itself; one row twice; strangers of 1, 3 and 50 tokens.
    """
    from gram.engine.base import TokenRow

    draw = random.Random(seed)

    def some(count: int) -> list[int]:  # never token 0, which classifiers take for padding
        return [draw.randrange(2, vocab_size) for _ in range(count)]

    prompt, start, stranger = some(40), some(20), some(50)
    answer, other = prompt + start + some(5), prompt + start + some(12)
    return [
        TokenRow(answer, ((40, 65),)),
        TokenRow(other, ((40, 72),)),
        TokenRow(stranger, ((0, 50),)),  # all but its first token
        TokenRow(answer + some(30), ((20, 30), (60, 95))),
        TokenRow(prompt, ()),
        TokenRow(prompt[:21] + some(18), ((21, 21),)),  # an empty span
        TokenRow(some(3), ((2, 3),)),
        TokenRow(answer, ((64, 65),)),
        TokenRow(some(1), ((0, 1),)),  # nothing before it: not scored
        TokenRow(prompt + some(17), ((39, 50),)),
    ]


def mostly_right(folder: object, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The labeled pairs, turned where need be: the judge in ``folder`` is right on three of four."""
    import gram

    pairs = [gram.Pair(row["prompt"], a=row["chosen"], b=row["rejected"]) for row in rows]
    prefers_a = gram.load(str(folder)).compare(pairs).p_a > 0.5
    turned = [bool(a) == (k % 4 == 0) for k, a in enumerate(prefers_a)]
    return [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]} if turn else row
        for row, turn in zip(rows, turned, strict=True)
    ]
