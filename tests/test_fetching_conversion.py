"""A GGUF file becomes the folder that it says: weights to the last bit, tokenizer, template, no marks.

The file is written here with the package ``gguf``, from weights that are known; what the folder has to hold
is computed from these, and from that package's own arithmetic, not from what transformers read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gram.fetching.convert import convert, versions
from gram.modeling.loading import load_model

gguf: Any = pytest.importorskip("gguf", reason="needs the package gguf (extra 'local')")

HIDDEN, HEADS, KEYS, INNER = 64, 4, 2, 96
CHAT = "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>{% endfor %}"
LETTERS = "abcdefghijklmnopqrstuvwxyz .?"


def weights() -> dict[str, np.ndarray]:
    """One layer of a Llama by the names of transformers, fp32."""
    draw = np.random.default_rng(0)
    size = HIDDEN // HEADS * KEYS
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (len(words()), HIDDEN),
        "model.norm.weight": (HIDDEN,),
        f"{layer}input_layernorm.weight": (HIDDEN,),
        f"{layer}post_attention_layernorm.weight": (HIDDEN,),
        f"{layer}self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        f"{layer}self_attn.k_proj.weight": (size, HIDDEN),
        f"{layer}self_attn.v_proj.weight": (size, HIDDEN),
        f"{layer}self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        f"{layer}mlp.gate_proj.weight": (INNER, HIDDEN),
        f"{layer}mlp.up_proj.weight": (INNER, HIDDEN),
        f"{layer}mlp.down_proj.weight": (HIDDEN, INNER),
    }
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def words() -> list[str]:
    return ["<unk>", "<s>", "</s>", *(letter.replace(" ", "Ġ") for letter in LETTERS), "th", "the"]


NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
QUANTISED = ("gate_proj", "down_proj")
"""In four bits, as most of SmolLM2's file."""


def in_gguf(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    kind = next(kind for kind in NAMES if f".{kind}." in name)
    return f"blk.0.{NAMES[kind]}.weight"


def interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys in llama.cpp's order: the two halves of a head's rotary pairs side by side."""
    rows, width = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write the file; returns the fp32 weights that it stands for, by the names of transformers."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("toy")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(words()))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words())
    writer.add_token_types([3, 3, 3, *[1] * (len(words()) - 3)])
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT)
    stands_for = {}
    kind = gguf.GGMLQuantizationType.Q4_1
    for name, value in weights().items():
        stored = value
        if "q_proj" in name:
            stored = interleaved(value, HEADS)
        elif "k_proj" in name:
            stored = interleaved(value, KEYS)
        if any(part in name for part in QUANTISED):
            packed = gguf.quants.quantize(stored, kind)
            writer.add_tensor(in_gguf(name), packed, raw_dtype=kind)
            value = gguf.quants.dequantize(packed, kind)
            assert 0 < np.abs(value - weights()[name]).max() < 0.5, "it was rounded to four bits"
        else:
            writer.add_tensor(in_gguf(name), stored)
        stands_for[name] = value
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stands_for


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], Path]:
    """The weights that the file stands for, and the folder."""
    place = tmp_path_factory.mktemp("gguf")
    stands_for = write_gguf(place / "toy.gguf")
    (place / "folder").mkdir()
    convert(place / "toy.gguf", place / "folder")
    return stands_for, place / "folder"


def test_the_weights_are_those_of_the_file_rounded_once(trial: tuple[dict[str, np.ndarray], Path]) -> None:
    stands_for, folder = trial
    found = load_file(folder / "model.safetensors")
    assert found.keys() == stands_for.keys(), "the output layer is the embedding, and is not stored twice"
    for name, value in stands_for.items():
        assert found[name].dtype == torch.bfloat16
        torch.testing.assert_close(found[name], torch.from_numpy(value).to(torch.bfloat16), rtol=0, atol=0)


def test_the_folder_is_an_ordinary_one(trial: tuple[dict[str, np.ndarray], Path]) -> None:
    _, folder = trial
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"
    assert config["architectures"] == ["LlamaForCausalLM"] and config["tie_word_embeddings"] is True
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        (folder / "config.json").stat().st_mode & 0o777
    }
    loaded = load_model(folder, "lm", dtype=torch.bfloat16)
    assert loaded.tokenizer.tokenize("the tea") == ["the", "Ġ", "t", "e", "a"]
    assert loaded.tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == (
        "<s>user: hi</s>"
    )


def test_the_bytes_are_the_same_every_time(trial: tuple[dict[str, np.ndarray], Path], tmp_path: Path) -> None:
    """Written again, from a file in another folder; the header has names, shapes and the format, no more."""
    _, folder = trial
    write_gguf(tmp_path / "other.gguf")
    (tmp_path / "again").mkdir()
    torch.manual_seed(7)
    convert(tmp_path / "other.gguf", tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    content = (folder / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header.pop("__metadata__") == {"format": "pt"}
    assert sorted(header) == sorted(weights())


def test_a_file_that_is_no_gguf_is_told(tmp_path: Path) -> None:
    from gram.errors import FetchError

    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(FetchError, match=r"bad\.gguf: transformers cannot read this GGUF file"):
        convert(tmp_path / "bad.gguf", tmp_path)


def test_versions_are_told() -> None:
    assert set(versions()) == {"gguf", "transformers"}
    assert all(number[0].isdigit() for number in versions().values())
