"""``gram merge``: an adapter on its base and the merged folder score the same.

The right values are those of the adapter: peft's own forward pass (``test_adapters``), and transformers'
classes on the merged folder, without a word of this package.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

import gram
from conftest import make_manifest, make_preferences, run
from gram.modeling.adapters import adapter_base
from gram.modeling.loading import LoadedModel, load_model
from gram.modeling.manifest import read_manifest
from gram.modeling.saving import save_checkpoint
from gram.modeling.trainable import LoraSettings, add_lora
from gram.rendering import Renderer
from gram.scoring.judge import JudgeModel
from gram.scoring.scalar import ScalarHeadModel
from small_models import causal
from test_adapters import (
    ANSWERS,
    KINDS,
    PROMPTS,
    SEQ_CLS,
    last_token_scores,
    likelihoods,
    moved,
    saved,
    with_adapter,
)

PAIRS = [item.pair for item in make_preferences(12)]


@pytest.fixture(scope="module")
def base(preset: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(causal("qwen2", len(preset.tokenizer)), preset, tmp_path_factory.mktemp("base") / "lm")


def log_odds(folder: Path, **options: Any) -> Any:
    """(n, 2) of a judge on the pairs."""
    model = gram.load(folder, device="cpu", **options)
    assert isinstance(model, JudgeModel)
    return model.compare(PAIRS).log_odds


def of_ours(folder: Path, base: Path, renderer: Renderer, kind: Any) -> Path:
    """An adapter as ``gram train --lora --adapter kept`` writes it, after a step in a random direction."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loaded = load_model(base, "score" if kind == "scalar" else "lm", new_head=True)
        model = moved(add_lora(loaded.model, LoraSettings(4, 8), score_head=kind == "scalar"))
    manifest = make_manifest(kind, renderer)
    about = {"base": adapter_base(str(base), None), "calibration": {"temperature": 2.0}}
    manifest = replace(manifest, **about)
    save_checkpoint(folder, model, loaded.tokenizer, manifest, merge=False)
    return folder


@pytest.mark.parametrize("kind", ["lora", "dora", "whole layers", "tokens"])
def test_a_judge_of_others_scores_the_same(
    kind: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In fp32 to the last bit: the same sums in the same order. Without gram.json it is asked in our words,
    and gram.json writes down which these are.
    """
    adapter, output = tmp_path / "adapter", tmp_path / "merged"
    with_adapter(base, adapter, copy.deepcopy(KINDS[kind]))
    code, result, _ = run(capsys, "merge", "--model", adapter, "--output", output)
    assert code == 0
    assert result == {
        "output": str(output), "kind": "judge", "base": str(base), "dtype": "fp32", "gram_json": True,
    }  # fmt: skip
    np.testing.assert_array_equal(log_odds(output), log_odds(adapter))
    np.testing.assert_array_equal(likelihoods(output), likelihoods(adapter))
    assert np.abs(log_odds(output) - log_odds(base)).max() > 1e-3
    assert not (output / "adapter_config.json").exists()


@pytest.mark.parametrize("kind", ["judge", "likelihood", "scalar"])
def test_an_adapter_of_ours_keeps_what_gram_json_says(
    kind: Any, base: Path, renderer: Renderer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calibration stays, as the scores do; ``base`` goes, and where the weights came from is told."""
    adapter, output = of_ours(tmp_path / "adapter", base, renderer, kind), tmp_path / "merged"
    code, result, _ = run(capsys, "merge", "--model", adapter, "--output", output)
    assert code == 0 and result["kind"] == kind
    before, after = (gram.load(folder, device="cpu") for folder in (adapter, output))
    np.testing.assert_array_equal(after.compare(PAIRS).log_odds, before.compare(PAIRS).log_odds)
    one, other = read_manifest(adapter), read_manifest(output)
    assert one is not None and other is not None and one.base and not other.base
    assert other.calibration == one.calibration == {"temperature": 2.0}
    assert (other.template_hash, other.label_ids, other.chat) == (one.template_hash, one.label_ids, one.chat)
    assert other.training["merged"] == {"adapter": str(adapter), "base": str(base)}


def test_the_folder_is_an_ordinary_one(base: Path, preset: LoadedModel, tmp_path: Path) -> None:
    """Transformers' own classes load it, and give peft's logits."""
    from transformers import AutoModelForCausalLM

    from gram.modeling.merging import MergeOptions, merge

    wrapped = with_adapter(base, tmp_path / "adapter", copy.deepcopy(KINDS["lora"]))
    merge(MergeOptions(model=str(tmp_path / "adapter"), output=tmp_path / "merged"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    ids = torch.tensor([preset.tokenizer("what is the bread of the garden ?")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, wrapped(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["own", "none"])
def test_a_scalar_adapter_of_others(
    padding: str, base: Path, preset: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scores are read where its trainer read them, which gram.json would deny: it gets none. The padding
    that tells where stays in the configuration.
    """
    source = tmp_path / "base"
    model = copy.deepcopy(causal("qwen2", len(preset.tokenizer)))
    model.config.pad_token_id = preset.tokenizer.pad_token_id if padding == "own" else None
    saved(model, preset, source)
    wrapped = with_adapter(source, tmp_path / "adapter", copy.deepcopy(SEQ_CLS))
    wanted = last_token_scores(wrapped, preset.tokenizer)
    output = tmp_path / "merged"
    code, result, _ = run(capsys, "merge", "--model", tmp_path / "adapter", "--output", output)
    assert code == 0 and result["kind"] == "scalar" and result["gram_json"] is False
    assert not (output / "gram.json").exists()
    pad = json.loads((output / "config.json").read_text()).get("pad_token_id")
    assert pad == model.config.pad_token_id
    for folder in (tmp_path / "adapter", output):
        model = gram.load(folder, "scalar", device="cpu", neutralise=False)
        assert isinstance(model, ScalarHeadModel)
        np.testing.assert_allclose(model.score(PROMPTS, ANSWERS), wanted, atol=1e-5)


def test_bf16_rounds_every_weight_once(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight of bf16 is off by at most 2^-8 of itself: 8 significant bits, rounded to the nearest. These
    sharpened models multiply such errors; log-odds stay within a tenth of their spread.
    """
    adapter, output = tmp_path / "adapter", tmp_path / "merged"
    with_adapter(base, adapter, copy.deepcopy(KINDS["lora"]))
    code, result, _ = run(capsys, "merge", "--model", adapter, "--output", output, "--dtype", "bf16")
    assert code == 0 and result["dtype"] == "bf16"
    exact, rounded = (load_model(folder, "lm", dtype=torch.float32).model for folder in (adapter, output))
    assert load_model(output, "lm", dtype="auto").model.dtype == torch.bfloat16
    weights = dict(exact.named_parameters())
    for name, weight in rounded.named_parameters():
        assert torch.equal(weight, weights[name].bfloat16().float()), name
        assert ((weight - weights[name]).abs() <= weights[name].abs() * 2**-8).all()
    before, after = log_odds(adapter), log_odds(output)
    assert 0 < np.abs(after - before).max() < 0.1 * before.std()


def test_a_base_named_by_hand(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = tmp_path / "adapter"
    with_adapter(base, adapter, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": "/gone"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    output = tmp_path / "merged"
    code, _, err = run(capsys, "merge", "--model", adapter, "--output", output)
    assert code == 1 and "/gone" in err and "--base" in err and not output.exists()
    code, result, _ = run(capsys, "merge", "--model", adapter, "--output", output, "--base", base)
    assert code == 0 and result["base"] == str(base)
    np.testing.assert_array_equal(log_odds(output), log_odds(adapter, base=base))


def test_what_is_refused(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole model, none, a folder that holds something, and the adapter's or the base's own folder."""
    adapter = tmp_path / "adapter"
    with_adapter(base, adapter, copy.deepcopy(KINDS["lora"]))
    code, _, err = run(capsys, "merge", "--model", base, "--output", tmp_path / "out")
    assert code == 1 and "is a whole model; there is no adapter to merge" in err
    for more in ((), ("--base", base)):  # what is not here may be on the Hub, which no test asks
        code, _, err = run(capsys, "merge", "--model", "owner/gone", "--output", tmp_path / "out", *more)
        assert code == 1 and "owner/gone" in err and "or cannot be found here or on the Hub" in err
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    code, _, err = run(capsys, "merge", "--model", adapter, "--output", tmp_path / "full")
    assert code == 1 and "holds something already" in err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    for folder in (adapter, base):
        names = sorted(path.name for path in folder.iterdir())
        code, _, err = run(capsys, "merge", "--model", adapter, "--output", folder)
        assert code == 1 and str(folder) in err
        assert sorted(path.name for path in folder.iterdir()) == names
