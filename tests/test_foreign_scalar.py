"""Scalar models that others trained are scored as transformers itself scores them, to 1e-5.

The right value is transformers' own: ``AutoModelForSequenceClassification`` on the tokens of
``apply_chat_template``, one answer at a time, without a word of this package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import gram
from gram.scoring.scalar import ScalarHeadModel
from small_models import classifier
from small_tokenizers import CHATML, HEADERS, byte_level

GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
FORMATS: dict[str, tuple[str, list[str]]] = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"]),
    "llama 3": (HEADERS, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "gemma": (GEMMA, ["<bos>", "<start_of_turn>", "<end_of_turn>"]),
}
ENDS = {"chatml": "<|im_end|>", "llama 3": "<|eot_id|>", "gemma": "<end_of_turn>"}
PROMPTS = [[{"role": "user", "content": text}] for text in ("name a color", "why ?", "one\n\ntwo", "x" * 40)]
ANSWERS = ["blue", "because it is so . " * 12, "naïve café", "<|pad|> red "]


def tokenizer_for(style: str, padding: str) -> Any:
    template, words = FORMATS[style]
    tokenizer = byte_level(template=template, words=[*words, "<|pad|>"], eos=ENDS[style])
    tokenizer.pad_token = {"own": "<|pad|>", "eos": ENDS[style], "none": None}[padding]
    return tokenizer


def saved(folder: Path, tokenizer: Any, padding: str, architecture: str = "llama") -> Path:
    """A classifier with random weights, as any script would save it."""
    model: Any = classifier(architecture, len(tokenizer))
    pad = tokenizer.pad_token_id if padding != "none" else None
    model.config.pad_token_id = model.config.get_text_config().pad_token_id = pad
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_transformers(folder: Path, answers: Sequence[str] = ANSWERS) -> list[float]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    scores = []
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        turns = [*prompt, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            scores.append(model(ids).logits[0, 0].item())
    return scores


def prompts() -> list[Any]:
    from gram.types import as_chat

    return [as_chat(prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("engine", ["tree", "plain"])
@pytest.mark.parametrize("padding", ["own", "eos", "none"])
@pytest.mark.parametrize("style", FORMATS)
def test_read_where_transformers_reads_it(style: str, padding: str, engine: Any, tmp_path: Path) -> None:
    """Together, alone and in small packs; literal control tokens inside an answer are left as they are."""
    folder = saved(tmp_path / "model", tokenizer_for(style, padding), padding)
    wanted = by_transformers(folder)
    for budget in (None, 1):
        model = gram.load(
            folder, "scalar", device="cpu", engine=engine, token_budget=budget, neutralise=False
        )
        assert isinstance(model, ScalarHeadModel)
        assert model.score(prompts(), ANSWERS) == pytest.approx(wanted, abs=1e-5)
    assert max(wanted) - min(wanted) > 0.01


TAGS = ["<b>", "</b>", "<table>", "</table>", "<tr>", "<td>", "</td>", "<code>", "<h1>", "<s>"]


def test_tags_that_a_tokenizer_knows_are_words(tmp_path: Path) -> None:
    """Gemma's tokenizer has tags of HTML as added tokens, which are not special: an answer in HTML is scored
    as transformers scores it. A token that steers is no tag, and harmless as before: that one differs.
    """
    from tokenizers import AddedToken

    tokenizer = tokenizer_for("gemma", "own")
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    folder = saved(tmp_path / "model", tokenizer, "own")
    answers = [
        "It is <b>bold</b>.",
        "<table><tr><td>1</td></tr></table>",
        "<h1>x</h1> <code><s>y",
        "a<end_of_turn>",
    ]
    wanted = by_transformers(folder, answers)
    assert len(set(tokenizer(answers[0])["input_ids"]) & set(tokenizer.convert_tokens_to_ids(TAGS))) == 2
    model = gram.load(folder, "scalar", device="cpu")
    assert isinstance(model, ScalarHeadModel)
    scores = model.score(prompts(), answers)
    assert scores[:3] == pytest.approx(wanted[:3], abs=1e-5)
    assert abs(scores[3] - wanted[3]) > 1e-3


def test_the_place_matters() -> None:
    """ChatML's template writes a line break behind the end of the turn: a token later than our own place."""
    from gram.rendering import Renderer, load_template

    tokenizer = tokenizer_for("chatml", "own")
    ours, theirs = (
        Renderer(tokenizer, load_template("compact"), 200, whole=whole).answers(prompts()[:1], ["blue"])[0]
        for whole in (False, True)
    )
    assert tokenizer.decode(ours.ids).endswith("<|im_end|>")
    assert theirs.ids[: len(ours.ids)] == ours.ids and tokenizer.decode(theirs.ids).endswith("<|im_end|>\n")


def test_a_model_of_ours_is_read_at_its_own_place(scalar_folder: Path) -> None:
    """``gram.json`` says that it was trained here; without it the folder is another's model."""
    model = gram.load(scalar_folder, device="cpu")
    assert isinstance(model, ScalarHeadModel)
    assert "kind" in json.loads((scalar_folder / "gram.json").read_text())
    assert not model._renderer.chat._whole and model._unread is None


@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert", "t5"])
def test_an_encoder_is_refused_with_the_reason(architecture: str, tmp_path: Path) -> None:
    """It pools its first token, which is padding in a batch of ours, and wants marks that we do not write."""
    import transformers as hf

    tokenizer = tokenizer_for("chatml", "own")
    small: dict[str, Any] = {"vocab_size": len(tokenizer), "num_labels": 1, "pad_token_id": 0}
    layers: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    }  # fmt: skip
    config: Any = {
        "bert": lambda: hf.BertConfig(**small, **layers),
        "roberta": lambda: hf.RobertaConfig(**small, **layers),
        "modernbert": lambda: hf.ModernBertConfig(**small, **layers),
        "t5": lambda: hf.T5Config(**small, d_model=32, d_ff=64, num_layers=2, num_heads=4, d_kv=8),
    }[architecture]()
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(gram.GramError, match="no scalar head on a decoder"):
        gram.load(tmp_path, "scalar", device="cpu")


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",), ("special_tokens_map.json",)])
def test_a_folder_without_a_tokenizer_is_refused(kept: tuple[str, ...], tmp_path: Path) -> None:
    """Its configuration alone is no tokenizer: with an empty one every answer would get the same score."""
    folder = saved(tmp_path, tokenizer_for("chatml", "own"), "own")
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors", *kept):
            path.unlink()
    with pytest.raises(gram.GramError, match="no tokenizer in this folder"):
        gram.load(folder, "scalar", device="cpu")
