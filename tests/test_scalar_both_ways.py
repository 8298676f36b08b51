"""Scalar checkpoints are ``AutoModelForSequenceClassification``, both ways; transformers gives the value.

Ours are read by transformers alone: its own template, its own padding. What transformers saves of them is
read here again. Models that others trained are in ``test_foreign_scalar``.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import gram
from conftest import make_manifest, sharpened
from gram.modeling.loading import LoadedModel, add_score_head
from gram.modeling.saving import save_checkpoint
from gram.rendering import Renderer, load_template
from gram.scoring.scalar import ScalarHeadModel
from gram.types import as_chat
from small_models import causal
from small_tokenizers import naive_answer, tokenizer_of

PROMPTS = [[{"role": "user", "content": text}] for text in ("name a color", "why ?", "one two", "x" * 40)]
ANSWERS = ["blue", "because it is so . " * 12, "naïve café", "red"]
KINDS = [
    ("chatml", "llama"),
    ("headers", "qwen3"),
    ("inst", "mistral"),
    ("thinking", "gemma"),
    ("base", "gpt2"),
]
"""Chat format and architecture; the last has no padding, as its end token is its only special one."""


def saved(folder: Path, style: str, architecture: str) -> Path:
    """A scalar checkpoint as training writes it."""
    tokenizer: Any = copy.deepcopy(tokenizer_of(style))
    body = copy.deepcopy(causal(architecture, len(tokenizer)))
    loaded = add_score_head(LoadedModel(body, tokenizer, None), seed=1)
    sharpened(loaded.model.score, 20.0)  # type: ignore[arg-type]
    renderer = Renderer(tokenizer, load_template("compact"), 512)
    save_checkpoint(folder, loaded.model, loaded.tokenizer, make_manifest("scalar", renderer))
    return folder


def ours(folder: Path, kind: Any = None) -> list[float]:
    model = gram.load(folder, kind, device="cpu")
    assert isinstance(model, ScalarHeadModel)
    return list(model.score([as_chat(prompt) for prompt in PROMPTS], ANSWERS))


def parts_of(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(("style", "architecture"), KINDS)
def test_transformers_reads_ours(style: str, architecture: str, tmp_path: Path) -> None:
    """No number of labels is told, and none is drawn: one answer at a time, and padded on either side."""
    folder = saved(tmp_path / "model", style, architecture)
    model, tokenizer = parts_of(folder)
    assert model.config.num_labels == 1 and model.config.architectures == [type(model).__name__]
    rows = [naive_answer(style, prompt, answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    with torch.no_grad():
        alone = [float(model(torch.tensor([ids])).logits[0, 0]) for ids in rows]
        assert ours(folder) == pytest.approx(alone, abs=1e-5) and max(alone) - min(alone) > 0.1
        if architecture == "gpt2":  # no token could be the padding: transformers refuses a batch
            with pytest.raises(ValueError, match="batch sizes > 1"):
                model(torch.tensor([[1, 2], [3, 4]]))
            return
        for side in ("left", "right"):
            batch = tokenizer.pad({"input_ids": rows}, padding_side=side, return_tensors="pt")
            logits = model(**batch).logits[:, 0].tolist()
            assert logits == pytest.approx(alone, abs=1e-5), side


@pytest.mark.parametrize(("style", "architecture"), KINDS)
def test_what_transformers_saves_of_ours_is_ours(
    style: str, architecture: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Loaded and saved by transformers, with ``gram.json`` beside: equal scores, and nothing has changed."""
    folder, again = saved(tmp_path / "model", style, architecture), tmp_path / "again"
    model, tokenizer = parts_of(folder)
    model.save_pretrained(again)
    tokenizer.save_pretrained(again)
    shutil.copyfile(folder / "gram.json", again / "gram.json")
    assert ours(again) == ours(folder)
    assert not [warning for warning in recwarn if "not as it was saved" in str(warning.message)]


def test_without_gram_json_the_place_is_that_of_others(tmp_path: Path) -> None:
    """ChatML's template writes a line break behind the end of the turn. Without ``gram.json`` a model is read
    there, as TRL and transformers read one that they trained: another number, and transformers' own.
    """
    folder = saved(tmp_path / "model", "chatml", "llama")
    with_it = ours(folder)
    (folder / "gram.json").unlink()
    model, tokenizer = parts_of(folder)
    wanted = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        turns = [*prompt, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        assert text.endswith("<|im_end|>\n")
        with torch.no_grad():
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            wanted.append(float(model(ids).logits[0, 0]))
    assert ours(folder, "scalar") == pytest.approx(wanted, abs=1e-5)
    assert max(abs(a - b) for a, b in zip(with_it, wanted, strict=True)) > 0.01
