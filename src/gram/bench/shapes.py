"""The models that are timed: random weights, real sizes of vocabulary. Knows no workload.

Speed does not depend on what was learned. The weights are drawn larger than usual, so that verdicts differ
from prompt to prompt and a wrong one would show.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from gram.bench.settings import Precision, ShapeName
from gram.modeling.presets import train_tokenizer
from gram.rendering import Renderer, load_template

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONTEXT = 4096

_KNOWN_WORDS = 8192


@dataclass(frozen=True)
class Shape:
    """A model's size. ``kv_heads`` below ``heads``: grouped queries. Embeddings are tied.

    Attributes:
        head_dim: width of a head; None: ``hidden`` over ``heads``.
    """

    kind: Literal["llama", "qwen2", "qwen3"]
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    head_dim: int | None = None

    def config(self) -> PretrainedConfig:
        from transformers import AutoConfig

        return AutoConfig.for_model(
            self.kind,
            head_dim=self.head_dim or self.hidden // self.heads,
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=self.hidden**-0.5,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
            num_labels=1,
        )


SHAPES: dict[ShapeName, Shape] = {
    "small": Shape("llama", layers=6, hidden=384, heads=6, kv_heads=6, mlp=1024, vocabulary=32_000),
    "wide": Shape("qwen2", layers=4, hidden=768, heads=12, kv_heads=4, mlp=3072, vocabulary=152_000),
    "real": Shape("llama", layers=30, hidden=576, heads=9, kv_heads=3, mlp=1536, vocabulary=49_152),
    "0.6b": Shape(
        "qwen3", layers=28, hidden=1024, heads=16, kv_heads=8, mlp=3072, vocabulary=151_936, head_dim=128
    ),
}
QUICK: dict[ShapeName, Shape] = {
    "small": Shape("llama", layers=2, hidden=64, heads=4, kv_heads=4, mlp=128, vocabulary=8192),
    "wide": Shape("qwen2", layers=2, hidden=64, heads=4, kv_heads=2, mlp=128, vocabulary=16_384),
    "real": Shape("llama", layers=3, hidden=72, heads=9, kv_heads=3, mlp=192, vocabulary=8192),
    "0.6b": Shape("qwen3", layers=2, hidden=64, heads=4, kv_heads=2, mlp=192, vocabulary=8192, head_dim=32),
}


def build(shape: Shape, *, dtype: torch.dtype, device: str, seed: int) -> PreTrainedModel:
    """A causal language model in evaluation mode."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(shape.config())
    return model.to(device=device, dtype=dtype).eval()


def twin(model: PreTrainedModel, *, classifier: bool = False) -> PreTrainedModel:
    """A second model with the very same parameters and stock attention, for the peers.

    A copy with parameters of its own is ``copy.deepcopy`` of it.

    Args:
        classifier: the same body under a scalar head, which is new.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto: Any = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    config = copy.deepcopy(model.config)
    other = auto.from_config(config, attn_implementation="sdpa", dtype=model.dtype).to(model.device).eval()
    other.base_model.load_state_dict(model.base_model.state_dict(keep_vars=True), assign=True)
    if not classifier:
        other.tie_weights()
    return other


def tokenizer_for(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that has learned these texts; it knows fewer words than the models embed."""
    template = load_template(None)
    return train_tokenizer([template.text] * 2 + list(texts), _KNOWN_WORDS)


def renderer_for(tokenizer: PreTrainedTokenizerFast) -> Renderer:
    """Judge prompts in the default template."""
    return Renderer(tokenizer, load_template(None), CONTEXT)
