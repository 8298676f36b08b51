"""A reference that reads fewer tokens than the model: both see the same prompts, in training and later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from gram import Pair
from gram.errors import ConfigError
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import read_manifest
from gram.training.config import TrainConfig
from gram.training.pipeline import train
from small_models import config_of, fresh

PAIRS = [
    Pair("what is in the garden ? " + "and the river " * 60 + str(n), f"the silver {n} .", "the bread .")
    for n in range(4)
]


def saved(architecture: str, preset: LoadedModel, folder: Path, positions: int | None = None) -> str:
    """A language model that reads 1,024 tokens, or as many as it has ``positions``."""
    import transformers as hf

    vocab = len(preset.tokenizer)
    model = fresh(architecture, vocab)
    if positions:
        config: Any = config_of(architecture, vocab)
        config.max_position_embeddings = positions  # of GPT-2 another name of its table's length
        model = hf.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    preset.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=["gpt2", "llama"])
def config(request: pytest.FixtureRequest, preset: LoadedModel, tmp_path: Path) -> TrainConfig:
    """One step on four pairs of long prompts, so small that no weight moves."""
    rows = tmp_path / "rows.jsonl"
    lines = [{"prompt": pair.prompt[0].content, "chosen": pair.a, "rejected": pair.b} for pair in PAIRS]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return TrainConfig(
        model=saved(request.param, preset, tmp_path / "model"),
        data=[str(rows)],
        output=tmp_path / "out",
        objective="likelihood",
        reference=saved(request.param, preset, tmp_path / "reference", positions=64),
        label_smoothing=0.0,
        max_steps=1,
        batch_size=4,
        learning_rate=1e-12,
        device="cpu",
    )


def test_it_is_trained_on_the_prompts_that_are_asked(config: TrainConfig) -> None:
    """The loss before the first step is that of the scores as they are asked: DPO's mean of -log sigmoid of
    the log-odds, for the first answer is the better one of each pair.
    """
    loss = train(config)["train_loss"]
    manifest = read_manifest(config.output)
    assert manifest is not None and manifest.max_length == 64
    log_odds = gram.load(config.output, device="cpu").compare(PAIRS).log_odds[:, 0]
    assert loss == pytest.approx(np.log1p(np.exp(-log_odds)).mean(), rel=1e-4)
    assert abs(log_odds).max() > 0.01


def test_no_more_tokens_are_asked_for_than_it_reads(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="max_length 65: the reference reads at most 64 tokens"):
        train(replace(config, max_length=65))
    with pytest.raises(ConfigError, match="max_length 5000: the model reads at most 1024 tokens"):
        train(replace(config, max_length=5000, reference=config.model))
