"""Models that read pictures too (Gemma 3 from 4B on): trained, saved and planned by their text alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gram
from conftest import make_preferences, run
from gram.modeling.loading import LoadedModel
from gram.modeling.pooling import pool_at_the_end, save_whole
from gram.modeling.trainable import LoraSettings, add_lora, beside_text, decoder_layers, freeze
from gram.training.arithmetic import Way, fixed_memory, operations, total, trained
from gram.training.planning import PlanOptions, shape_of
from small_models import config_of, fresh

KIND = "gemma3_pictures"
PAIRS = [item.pair for item in make_preferences(6, seed=5)]
SETTINGS = (
    "--max-steps", 2, "--batch-size", 4, "--learning-rate", 0.01, "--template", "compact",
    "--max-length", 256, "--device", "cpu",
)  # fmt: skip


def of_pictures(name: str) -> bool:
    return "vision_tower" in name or "multi_modal_projector" in name


@pytest.fixture
def model(preset: LoadedModel, tmp_path: Path) -> Path:
    """A language model with the preset's tokenizer."""
    fresh(KIND, len(preset.tokenizer)).save_pretrained(tmp_path / "model")
    preset.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("head", ["lm", "score"])
def test_the_layers_are_those_of_the_text(head: str) -> None:
    """Two of them; the tower has three, and comes first among the parts of the model."""
    model = fresh(KIND, 60, head=head)
    layers = decoder_layers(model)
    assert len(layers) == 2 and layers is model.model.language_model.layers
    assert beside_text(model) == [model.model.vision_tower, model.model.multi_modal_projector]
    freeze(model, last_layers=1)
    free = {name for name, weight in model.named_parameters() if weight.requires_grad}
    of_layer = {f"model.language_model.layers.1.{name}" for name, _ in layers[1].named_parameters()}
    assert free == of_layer | {"lm_head.weight" if head == "lm" else "score.weight"}
    adapted = add_lora(fresh(KIND, 60, head=head), LoraSettings(rank=2), score_head=head == "score")
    free = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert any("lora_A" in name for name in free) and not any(map(of_pictures, free))


def test_of_other_models_nothing_is_beside_the_text() -> None:
    """Whatever the names of their parts are, and whichever linear maps they have outside their layers."""
    for architecture in ("llama", "gpt2", "bloom", "gemma3", "gemma4"):
        assert beside_text(fresh(architecture, 60)) == [], architecture
        assert len(decoder_layers(fresh(architecture, 60))) == 2


def test_a_padding_that_is_no_token_is_not_written(tmp_path: Path) -> None:
    """The configuration of the whole has no padding of its own; that of its text has."""
    model = fresh(KIND, 60, head="score")
    before = model.config.to_dict()
    assert not hasattr(model.config, "pad_token_id")
    save_whole(model, tmp_path / "as it is")
    assert pool_at_the_end(model) == before["text_config"]["pad_token_id"] == 0
    save_whole(model, tmp_path / "at the end")
    again = type(model.config).from_pretrained(tmp_path / "at the end")
    assert again.get_text_config().pad_token_id is None
    assert model.config.get_text_config().pad_token_id == -1


@pytest.mark.parametrize("objective", ["preference", "scalar"])
def test_all_weights_of_the_text_are_trained_and_saved(
    objective: str, model: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What reads pictures stays, to the last bit."""
    output = tmp_path / "trained"
    use = ("--model", model, "--data", rows, "--output", output, "--objective", objective)
    code, _, err = run(capsys, "train", *use, *SETTINGS)
    assert code == 0, err
    old, new = load_file(model / "model.safetensors"), load_file(output / "model.safetensors")
    kept = {name for name in old if name in new and torch.equal(old[name], new[name])}
    assert kept == set(filter(of_pictures, old)) and kept <= set(new)
    assert np.isfinite(gram.load(output, device="cpu").compare(PAIRS).log_odds).all()


def test_adapters_are_kept_and_merged(
    model: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both score the same, and the judge goes out as a folder of transformers' decision pipeline."""
    kept, merged, decision = tmp_path / "kept", tmp_path / "merged", tmp_path / "decision"
    how = ("--lora", "--adapter", "kept", *SETTINGS)
    for command in (
        ("train", "--model", model, "--data", rows, "--output", kept, *how),
        ("merge", "--model", kept, "--output", merged),
        ("export", "decision", "--model", merged, "--output", decision),
    ):
        code, _, err = run(capsys, *command)
        assert code == 0, err
    assert not any(map(of_pictures, load_file(kept / "adapter_model.safetensors")))
    wanted = gram.load(kept, device="cpu").compare(PAIRS).log_odds
    for folder in (merged, decision):
        found = gram.load(folder, device="cpu").compare(PAIRS).log_odds
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_plan_is_that_of_the_text(tmp_path: Path) -> None:
    """The rest lies in memory, 4 bytes a weight, and neither trains nor multiplies."""
    config_of(KIND, 60).save_pretrained(tmp_path / "whole")
    config_of("gemma3", 60).save_pretrained(tmp_path / "text")
    whole, text = (shape_of(PlanOptions(model=str(tmp_path / name))) for name in ("whole", "text"))
    model: Any = fresh(KIND, 60)
    beside = sum(w.numel() for name, w in model.named_parameters() if of_pictures(name))
    assert beside > 0 and whole == replace(text, beside=beside)
    assert whole.weights == model.num_parameters()
    adapted = add_lora(copy.deepcopy(model), LoraSettings(rank=4), score_head=False)
    in_training = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert trained(whole, Way(rank=4)) == in_training
    assert trained(whole, Way()) == text.weights
    for way in (Way(), Way(gpus=2), Way(rank=4, low=False)):
        more = total(fixed_memory(whole, way)) - total(fixed_memory(text, way))
        assert more == 4 * beside
        assert operations(whole, way, 24, 24) == operations(text, way, 24, 24)
    divided = Way(gpus=2, divided=True)  # a half of it, and once all of it
    more = total(fixed_memory(whole, divided)) - total(fixed_memory(text, divided))
    assert more == 4 * beside / 2 + 4 * beside
