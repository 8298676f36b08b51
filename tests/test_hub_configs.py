"""configs/hub: every recipe, run on a tiny stand-in of its model's architecture, chat template and labels.

The stand-ins have the class, the tied or untied embeddings, the shared key heads and the turn markers of the
real models, and random weights. What is changed in a recipe is what a tiny model needs: where it starts, the
data, the length, and the number of steps.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

import gram
from conftest import make_preferences
from gram.modeling.manifest import read_manifest
from gram.modeling.presets import train_tokenizer
from gram.rendering import load_template
from gram.scoring.judge import JudgeModel
from gram.training.config import TrainConfig, load_config
from gram.training.pipeline import train

CONFIGS = Path(__file__).parents[1] / "configs" / "hub"
NAMES = ("llama-3.2-3b", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b")
ADAPTED = ("llama-3.2-3b", "qwen3-4b")
MARKERS = {
    "qwen3": ("<|im_start|>", "<|im_end|>"),
    "llama": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
}
CHAT = {
    "qwen3": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama": "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}"
    "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
}


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    texts = [load_template(None).text] + [
        f"{p.pair.prompt} {p.pair.a} {p.pair.b}" for p in make_preferences(30)
    ]
    tokenizer = train_tokenizer(texts, 600)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS[family])})
    tokenizer.eos_token = MARKERS[family][-1]
    tokenizer.chat_template = CHAT[family]
    return tokenizer


def stand_in(name: str, folder: Path) -> str:
    family = name.partition("-")[0].removesuffix("-")
    tokenizer = tokenizer_of(family)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "qwen3":
        Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16)).save_pretrained(folder)
    else:
        LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def small(config: TrainConfig, **changes: object) -> TrainConfig:
    return replace(
        config, max_steps=2, batch_size=4, token_budget=400, max_length=256, save_steps=None, **changes
    )


def test_there_is_a_recipe_in_two_steps_for_each_model() -> None:
    expected = {f"{name}-{step}.yaml" for name in NAMES for step in ("1-pretrain", "2-finetune")}
    assert {path.name for path in CONFIGS.iterdir()} == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_second_step_starts_where_the_first_ends_and_trains_in_the_same_way(name: str) -> None:
    first = load_config(CONFIGS / f"{name}-1-pretrain.yaml")
    second = load_config(CONFIGS / f"{name}-2-finetune.yaml")
    assert second.model == str(first.output)
    assert (first.lora, second.lora) == ((name in ADAPTED,) * 2)
    assert not any("/nc/" in source for source in [*first.data, *second.data])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_makes_a_judge_of_a_stand_in(name: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    labeled = [
        {"prompt": p.pair.prompt[0].content, "chosen": p.pair.a, "rejected": p.pair.b}
        for p in make_preferences(12)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in labeled))
    first = load_config(CONFIGS / f"{name}-1-pretrain.yaml")
    second = load_config(CONFIGS / f"{name}-2-finetune.yaml")
    body, judge = tmp_path / "pretrained", tmp_path / "judge"
    start = stand_in(name, tmp_path / "hub")

    train(small(first, model=start, data=[str(rows)], output=body))
    train(small(second, model=str(body), data=[str(rows)], eval_data=[str(rows)], output=judge))

    manifest = read_manifest(judge)
    assert manifest is not None
    assert manifest.kind == "judge"
    model = gram.load(judge, device="cpu")
    assert isinstance(model, JudgeModel)
    verdicts = model.compare([p.pair for p in make_preferences(4)])
    assert ((verdicts.mass > 0) & (verdicts.mass <= 1)).all()
    assert model.template.labels == ("A", "B")
