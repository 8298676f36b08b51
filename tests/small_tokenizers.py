"""Tokenizers of the kinds found in the wild, trained here in a moment.

Byte-level and SentencePiece-like BPE, with chat templates that differ in what they add, trim and refuse. The
templates are our own, in known styles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Trims every content and writes the beginning-of-sequence token itself.
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Opens an answer with empty thoughts where thinking is switched off.
THINKING = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
# Trims user turns only, puts a space before an answer, and refuses system turns.
INST = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'].strip() }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant turns') }}{% endif %}{% endfor %}"
)

_TEXTS = [
    "What is the capital of France? The capital of France is Paris.",
    "[Request]\nname a color\n\n[Answer A]\nblue\n\n[Answer B]\nred\n\n[Better answer, A or B]\n",
    "User: hello there\n\nAssistant: hello\n\nSystem: be kind",
    "import os\n\n\nprint(os.name)  # two  spaces",  # so that two newlines are one token
]


def _finished(core: Tokenizer, *, bos: str | None, eos: str | None, template: str | None, words: list[str]):
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if bos:
        core.post_processor = TemplateProcessing(  # type: ignore[assignment]
            single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        additional_special_tokens=words,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def byte_level(
    words: list[str],
    *,
    bos: str | None = None,
    eos: str | None = None,
    template: str | None = None,
    newer: bool = True,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the special ``words``.

    Args:
        newer: newlines stick together, and to the punctuation before them (the Llama 3 and Qwen kind), so
            that tokens span the seams of a template; else the GPT-2 kind.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not newer)
    if newer:
        rule = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(rule), "isolated"), split])
    core.pre_tokenizer = split  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        show_progress=False,
        special_tokens=words,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(_TEXTS * 3, trainer)
    return _finished(core, bos=bos, eos=eos, template=template, words=words)


def sentencepiece(
    scheme: str, *, bos: str | None = "<s>", template: str | None = None, words: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """Metaspace BPE with byte fallback (the Llama 2 and Mistral kind).

    Args:
        scheme: where a space is put in front of the text: ``first``, ``always`` or ``never``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    specials = ["<unk>", "<s>", "</s>", *words]
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)  # type: ignore[assignment]
    core.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        show_progress=False,
        special_tokens=[*specials, *(f"<0x{byte:02X}>" for byte in range(256))],
    )
    lines = [line for text in _TEXTS for line in text.split("\n")]  # no token spans a newline
    core.train_from_iterator(lines * 3, trainer)
    return _finished(core, bos=bos, eos="</s>", template=template, words=specials)


_MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "chatml": lambda: byte_level(
        ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], eos="<|im_end|>", template=CHATML
    ),
    "headers": lambda: byte_level(
        ["<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        bos="<|begin|>",
        eos="<|eot_id|>",
        template=HEADERS,
    ),
    "thinking": lambda: byte_level(
        ["<|im_start|>", "<|im_end|>", "<think>", "</think>"], eos="<|im_end|>", template=THINKING
    ),
    "inst": lambda: sentencepiece("first", template=INST, words=("[INST]", "[/INST]")),
    "base": lambda: byte_level(["<|endoftext|>"], eos="<|endoftext|>", newer=False),
    "base without specials": lambda: byte_level([]),
    "base with bos": lambda: byte_level(["<|begin|>", "<|end|>"], bos="<|begin|>", eos="<|end|>"),
    "sentencepiece first": lambda: sentencepiece("first"),
    "sentencepiece always": lambda: sentencepiece("always"),
    "sentencepiece without bos": lambda: sentencepiece("never", bos=None),
}
STYLES = tuple(_MAKERS)


@cache
def tokenizer_of(style: str) -> PreTrainedTokenizerFast:
    """The tokenizer of that style, made once."""
    return _MAKERS[style]()


def naive_judge(style: str, content: str) -> list[int]:
    """What a caller without this package gets for one user turn, ready to be answered."""
    tokenizer = tokenizer_of(style)
    if not tokenizer.chat_template:
        return list(tokenizer(content)["input_ids"])  # type: ignore[arg-type]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]


def naive_answer(style: str, turns: list[dict[str, str]], answer: str) -> list[int]:
    """What a caller without this package gets for a finished conversation, up to its last token."""
    tokenizer = tokenizer_of(style)
    if not tokenizer.chat_template:
        text = "\n\n".join([*(turn["content"] for turn in turns), answer])
        return list(tokenizer(text + (tokenizer.eos_token or ""))["input_ids"])  # type: ignore[arg-type]
    text = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": answer}], tokenize=False)
    assert isinstance(text, str)
    return list(tokenizer(text.rstrip("\n"), add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
