"""Published reward models of other projects: each is scored by the arithmetic of its model card, or refused.

Small random copies of architecture and head; the right number is computed with transformers and torch alone,
as the card of the model does it. ``docs/checkpoints.md`` has the table.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import gram
from gram.errors import CheckpointError
from gram.scoring.judge import JudgeModel
from gram.scoring.scalar import ScalarHeadModel
from small_models import classifier, config_of, fresh
from small_tokenizers import byte_level
from test_foreign_scalar import ANSWERS, PROMPTS, prompts
from test_published_judges import LLAMA, folder_of
from test_rendering_follows import QWEN3

DATE = "26 Jul 2024"


def tokenizer_of(family: str) -> Any:
    """With a chat template of the family's kind; Llama's puts its bos in front of plain text too."""
    if family == "qwen3":
        words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
        tokenizer = byte_level(words, eos="<|im_end|>", template=QWEN3)
        tokenizer.pad_token = "<|endoftext|>"
    else:
        words = ["<|pad|>", "<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        tokenizer = byte_level(words, bos="<|begin|>", eos="<|eot_id|>", template=LLAMA)
        tokenizer.pad_token = "<|pad|>"
    return tokenizer


def texts_of(tokenizer: Any) -> list[str]:
    """The conversations as every card has them: ``apply_chat_template`` on prompt and answer."""
    return [
        tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": answer}], tokenize=False, date_string=DATE
        )
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]


def scalar_folder_of(family: str, folder: Path) -> Path:
    tokenizer = tokenizer_of(family)
    model = fresh(family, len(tokenizer), head="score")
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scores_by_transformers(folder: Path, ids_of: Callable[[Any, str], Any]) -> list[float]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    with torch.no_grad():
        return [
            model(torch.tensor([ids_of(tokenizer, text)])).logits[0][0].item() for text in texts_of(tokenizer)
        ]


def scorer(folder: Path) -> ScalarHeadModel:
    model = gram.load(folder, "scalar", device="cpu", neutralise=False)
    assert isinstance(model, ScalarHeadModel)
    return model


# --- Loaded ---


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_skywork_reward_v2(family: str, tmp_path: Path) -> None:
    """Its card takes the bos off the text, and lets the tokenizer put it on again."""

    def ids_of(tokenizer: Any, text: str) -> Any:
        return tokenizer(text.removeprefix(tokenizer.bos_token or ""))["input_ids"]

    folder = scalar_folder_of(family, tmp_path)
    wanted = scores_by_transformers(folder, ids_of)
    assert scorer(folder).score(prompts(), ANSWERS) == pytest.approx(wanted, abs=1e-5)
    assert max(wanted) - min(wanted) > 0.01


def test_grm_with_a_scalar_head(tmp_path: Path) -> None:
    """Its card tokenizes a text that has a bos as plain text, which puts a second one in front: on Llama and
    Gemma. ``score`` reads one; ``score_texts`` reads what it is given, and gives the number of the card."""
    folder = scalar_folder_of("llama", tmp_path)
    wanted = scores_by_transformers(folder, lambda tokenizer, text: tokenizer(text)["input_ids"])
    model = scorer(folder)
    tokenizer = tokenizer_of("llama")
    twice = [tokenizer.bos_token + text for text in texts_of(tokenizer)]
    assert model.score_texts(twice) == pytest.approx(wanted, abs=1e-5)
    once = scores_by_transformers(
        folder, lambda tokenizer, text: tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    assert model.score(prompts(), ANSWERS) == pytest.approx(once, abs=1e-5)
    assert max(abs(a - b) for a, b in zip(once, wanted, strict=True)) > 1e-3


# --- Several attributes ---

WEIGHTS = torch.tensor([0.3, 0.74, 0.46, 0.47, -0.33])  # of HelpSteer2's attributes, by URM's card


def attributes_folder(folder: Path) -> Tensor:
    """A Llama that rates five attributes at the last token; returns its head, (5, 32)."""
    tokenizer = tokenizer_of("llama")
    config = copy.deepcopy(config_of("llama", len(tokenizer)))
    config.num_labels, config.pad_token_id = 5, tokenizer.pad_token_id
    model: Any = classifier("llama", len(tokenizer))
    head = torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
    config.save_pretrained(folder)
    weights = {name: value.clone() for name, value in model.state_dict().items()} | {"score.weight": head}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    return head


def test_attributes_with_fixed_weights_become_one_row(tmp_path: Path) -> None:
    """Refused as they are; the sum of the rows by the weights is the weighted sum of the attributes."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    head = attributes_folder(tmp_path)
    with pytest.raises(CheckpointError, match=r"5 outputs .* sum of the rows by fixed weights"):
        scorer(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts_of(tokenizer)]
        wanted = [(model(torch.tensor([ids])).logits[0] @ WEIGHTS).item() for ids in rows]

    # what docs/checkpoints.md says to do
    weights = load_file(tmp_path / "model.safetensors")
    weights["score.weight"] = WEIGHTS[None] @ weights["score.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("id2label", "label2id"):
        config.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_labels": 1}))

    assert scorer(tmp_path).score(prompts(), ANSWERS) == pytest.approx(wanted, abs=1e-4)
    assert weights["score.weight"].shape == (1, 32) and head.shape == (5, 32)


# --- Yes or no to a principle ---


def test_a_yes_no_principle_judge_is_read_by_its_tokens(tmp_path: Path) -> None:
    """Its reward is the difference of the log-probabilities of Yes and No behind the cue for its answer: of
    the first token of each as an answer to a conversation that ends with the question."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = folder_of("llama", tmp_path)
    question = "Does the answer keep to this: be brief? Say Yes or No."
    turns = [
        {"role": "user", "content": "Name a color."},
        {"role": "assistant", "content": "Blue, a color of the sky."},
        {"role": "user", "content": question},
    ]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, date_string=DATE)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    first = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No")]
    with torch.no_grad():
        network: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        logits = network(ids).logits[0, -1]
    wanted = (logits[first[0]] - logits[first[1]]).item()

    judge = gram.load(folder, device="cpu")
    assert isinstance(judge, JudgeModel)
    yes, no = (judge.token_logprobs(turns, word).values[0] for word in ("Yes", "No"))
    assert yes - no == pytest.approx(wanted, abs=1e-5) and abs(wanted) > 1e-3


# --- Refused ---

DRAWN = torch.Generator().manual_seed(0)


def drawn(**shapes: Sequence[int]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.randn(*shape, generator=DRAWN) for name, shape in shapes.items()}


ARMO = drawn(
    regression_layer__weight=(19, 32), reward_transform_matrix=(19, 19), gating__logit_scale=(1,),
    gating__layers__0__weight=(16, 32), gating__layers__0__bias=(16,),
    gating__layers__1__weight=(19, 16), gating__layers__1__bias=(19,),
)  # fmt: skip
GRM = drawn(
    v_head__summary__0__weight=(16, 32), v_head__summary__0__bias=(16,),
    v_head__summary__2__weight=(1, 16), v_head__summary__2__bias=(1,),
)  # fmt: skip
URM = drawn(regression_layer__weight=(10, 32), gating__layers__0__weight=(5, 32))
REFUSED = {
    "ArmoRM": (
        "LlamaForRewardModelWithGating",
        ARMO,
        "gating layer of ArmoRM or URM, which weighs attributes",
    ),
    "GRM with a value head": ("LlamaForCausalLM", GRM, "value head of .* GRM"),
    "URM with a gate": ("LlamaForUncertainReward", URM, "gating layer of ArmoRM or URM"),
    "a head of attributes alone": (
        "LlamaForQuantiles",
        drawn(regression_layer__weight=(5, 32)),
        "attribute heads of ArmoRM",
    ),
}


@pytest.mark.parametrize("kind", [None, "scalar"])
@pytest.mark.parametrize("project", REFUSED)
def test_a_head_that_no_single_row_can_stand_for_is_refused(project: str, kind: Any, tmp_path: Path) -> None:
    """Also where the folder's own class is named in config.json, whose code is not run."""
    architecture, head, reason = REFUSED[project]
    tokenizer = tokenizer_of("llama")
    model = fresh("llama", len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    save_file(
        load_file(tmp_path / "model.safetensors") | head,
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "architectures": [architecture],
        "auto_map": {"AutoModelForSequenceClassification": f"modeling_custom.{architecture}"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=reason):
        gram.load(tmp_path, kind, device="cpu")


@pytest.mark.parametrize(
    ("kind", "reason"), [("judge", "rankers made of them such as PairRM"), ("scalar", "pair head of PairRM")]
)
def test_pairrm_is_refused(kind: Any, reason: str, tmp_path: Path) -> None:
    """A DeBERTa that reads question and both answers in one text, at three marks."""
    import transformers as hf

    tokenizer = tokenizer_of("qwen3")
    layers: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    }  # fmt: skip
    config = hf.DebertaV2Config(vocab_size=len(tokenizer), **layers)
    body = {
        f"pretrained_model.{name}": value.clone()
        for name, value in hf.DebertaV2Model(config).state_dict().items()
    }
    head = drawn(
        head_layer__1__weight=(32, 64), head_layer__1__bias=(32,),
        head_layer__4__weight=(1, 32), head_layer__4__bias=(1,),
    )  # fmt: skip
    save_file(body | head, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.architectures = ["DebertaV2PairRM"]
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=reason):
        gram.load(tmp_path, kind, device="cpu")
