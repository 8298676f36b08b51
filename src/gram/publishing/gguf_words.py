"""A byte-level tokenizer in a GGUF file: words, merges, special tokens, and how text is split before merging.

llama.cpp knows ways of splitting by name only, and under a wrong name it reads other tokens without a word. A
tokenizer is therefore recognised by its own rule, or refused. Knows tokenizers; knows no weights.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gram.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    _LETTERS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _LETTERS + r"\p{N}" + _REST: "qwen2",
}
"""Rules of published tokenizers, by the name that llama.cpp has for each."""
_COMPOSED = "decomposed characters: the tokenizer composes them first (NFC), and llama.cpp reads other tokens"


def splitting(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """llama.cpp's name of how ``tokenizer`` splits a text: gpt-2, smollm, llama-bpe or qwen2.

    Raises:
        CheckpointError: it is no byte-level BPE, splits in a way that has none of these names, or changes the
            text in a way that llama.cpp does not.
    """
    content = _content(tokenizer, name)
    _refuse_changes(content, tokenizer, name)
    parts = content["pre_tokenizer"] or {}
    parts = parts["pretokenizers"] if parts.get("type") == "Sequence" else [parts]
    found = _named(parts)
    if found is None or any(part.get("add_prefix_space") for part in parts):
        raise CheckpointError(
            f"{name}: its tokenizer splits text in a way that llama.cpp has no name for among gpt-2, smollm, "
            "llama-bpe and qwen2; llama.cpp would read other tokens"
        )
    if bool(content["model"].get("ignore_merges")) != (found == "llama-bpe"):
        raise CheckpointError(
            f"{name}: its tokenizer has ignore_merges={content['model'].get('ignore_merges')}, which "
            f"llama.cpp's {found} has not"
        )
    return found


def lost_words(tokenizer: PreTrainedTokenizerBase, name: str) -> list[str]:
    """Texts that llama.cpp reads as other tokens than ``tokenizer``, in words; mostly none.

    Raises:
        CheckpointError: it is no byte-level BPE.
    """
    return [_COMPOSED] if _normalizers(_content(tokenizer, name)) else []


def add_words(writer: Any, tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> str:
    """Write the tokenizer with a word for each of the embedding's ``rows``; returns ``splitting``.

    Raises:
        CheckpointError: as ``splitting``; more words than embeddings.
    """
    import gguf

    found, content = splitting(tokenizer, name), _content(tokenizer, name)
    words = {token: word for word, token in tokenizer.get_vocab().items()}
    if max(words) >= rows:
        raise CheckpointError(
            f"{name}: its tokenizer has {max(words) + 1} tokens, the model {rows} embeddings"
        )
    kinds = gguf.TokenType
    texts, types = [], []
    added = tokenizer.added_tokens_decoder
    for token in range(rows):
        if token in added:
            texts.append(added[token].content)
            types.append(kinds.CONTROL if added[token].special else kinds.USER_DEFINED)
        else:
            texts.append(words.get(token, f"[PAD{token}]"))
            types.append(kinds.NORMAL if token in words else kinds.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(found)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    merges = content["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    ids: Any = tokenizer("x")["input_ids"]
    for token, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if token is not None:
            add(token)
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
    return found


def _content(tokenizer: PreTrainedTokenizerBase, name: str) -> dict[str, Any]:
    """The tokenizer as ``tokenizer.json`` has it."""
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    if content["model"]["type"] != "BPE" or content["model"].get("byte_fallback"):
        raise CheckpointError(
            f"{name}: its tokenizer is no byte-level BPE; llama.cpp's own convert_hf_to_gguf.py knows others"
        )
    return content


def _normalizers(content: dict[str, Any]) -> list[str]:
    """What the tokenizer does to a text before it splits it, by name."""
    found = content["normalizer"]
    parts = found["normalizers"] if found and found["type"] == "Sequence" else [found] if found else []
    return [part["type"] for part in parts]


def _refuse_changes(content: dict[str, Any], tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse what the file cannot say, and llama.cpp would therefore leave out without a word."""
    if other := sorted(set(_normalizers(content)) - {"NFC"}):
        raise CheckpointError(
            f"{name}: its tokenizer changes the text first ({', '.join(other)}), which llama.cpp does not; "
            "it would read other tokens"
        )
    marks = ("lstrip", "rstrip", "single_word")
    if odd := [token["content"] for token in content["added_tokens"] if any(token[mark] for mark in marks)]:
        raise CheckpointError(
            f"{name}: its token {odd[0]} takes the space around it, or counts as a whole word only, which "
            "llama.cpp does not know"
        )
    bare: Any = tokenizer("x", add_special_tokens=False)["input_ids"]
    ids: Any = tokenizer("x")["input_ids"]
    ends = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
    if [token for token in ids if token not in ends] != [token for token in bare if token not in ends]:
        raise CheckpointError(
            f"{name}: its tokenizer puts other tokens around a text than bos and eos, which the file could "
            "not say"
        )


def _named(parts: list[dict[str, Any]]) -> str | None:
    match parts:
        case [{"type": "ByteLevel", "use_regex": True}]:
            return "gpt-2"
        case [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}]:
            return "smollm"
        case [
            {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False},
        ]:
            return _SPLITS.get(rule)
    return None
