"""From-scratch models: a Llama-style shape, and a tokenizer trained on the texts at hand.

For demonstrations, tests and small real runs where no pretrained model can be had. Knows texts, not rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gram.errors import ConfigError

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_PREFIX = "preset:"
_END, _PAD = "<|end|>", "<|pad|>"
_ROLES = ("system", "user", "assistant", "tool")
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Preset:
    """A model shape: tied embeddings, and a vocabulary of at most ``vocab_size`` tokens.

    ``hidden`` is the width of the hidden states, ``mlp`` that of the feed-forward layers, and ``context`` the
    longest prompt in tokens.
    """

    hidden: int
    layers: int
    heads: int
    mlp: int
    vocab_size: int
    context: int


PRESETS = {
    "tiny": Preset(hidden=128, layers=3, heads=4, mlp=384, vocab_size=1024, context=1024),
    "mini": Preset(hidden=192, layers=4, heads=4, mlp=512, vocab_size=4096, context=2048),
    "light": Preset(hidden=256, layers=4, heads=4, mlp=688, vocab_size=6144, context=2048),
    "small": Preset(hidden=384, layers=6, heads=6, mlp=1024, vocab_size=8192, context=2048),
    "base": Preset(hidden=768, layers=12, heads=12, mlp=2048, vocab_size=16384, context=4096),
}


def is_preset(reference: str) -> bool:
    """Whether a model reference asks for a preset (``preset:NAME``)."""
    return reference.startswith(_PREFIX)


def find_preset(reference: str) -> Preset:
    """The shape named by ``preset:NAME``.

    Raises:
        ConfigError: no such preset.

    Example:
        >>> find_preset("preset:tiny").layers
        3
    """
    name = reference.removeprefix(_PREFIX)
    if name not in PRESETS:
        raise ConfigError(f"no preset '{name}'; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template; it can encode every text.

    Example:
        >>> tokenizer = train_tokenizer(["an answer", "another answer"], vocab_size=300)
        >>> tokenizer.decode(tokenizer("an unseen text")["input_ids"])
        'an unseen text'
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    roles = [f"<|{role}|>" for role in _ROLES]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[_PAD, _END, *roles],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=_PAD,
        eos_token=_END,
        additional_special_tokens=roles,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def preset_config(preset: Preset, vocab_size: int, *, end: int, pad: int) -> LlamaConfig:
    """The configuration of a preset's model; ``end`` and ``pad`` are ids of tokens."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=preset.hidden,
        intermediate_size=preset.mlp,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.heads,
        max_position_embeddings=preset.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )


def build_model(preset: Preset, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama-style causal language model with random weights drawn from ``seed``."""
    from transformers import LlamaForCausalLM

    ids = tokenizer.get_vocab()
    config = preset_config(preset, len(tokenizer), end=ids[_END], pad=ids[_PAD])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
