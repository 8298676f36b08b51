"""Small models of several architectures, drawn at random and sharpened so that their scores differ."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from conftest import sharpened

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ARCHITECTURES = ("llama", "qwen2", "gpt2", "gemma", "mistral", "bloom")


def config_of(architecture: str, vocab_size: int) -> PretrainedConfig:
    """Two layers; mistral attends to 16 tokens back only, bloom has no positions but relative ones."""
    import transformers as hf

    shape: dict[str, Any] = {
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
    ends: dict[str, Any] = {"vocab_size": vocab_size, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    match architecture:
        case "llama":
            return hf.LlamaConfig(**shape, tie_word_embeddings=True)
        case "qwen2":
            return hf.Qwen2Config(**shape, tie_word_embeddings=False)
        case "gemma":
            return hf.GemmaConfig(**shape, head_dim=16)
        case "mistral":
            return hf.MistralConfig(**shape, sliding_window=16)
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
