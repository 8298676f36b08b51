"""``--adapter continued``: an adapter is trained on, and stays one adapter on its own base."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import gram
from conftest import make_preferences, run
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import read_manifest

PAIRS = [item.pair for item in make_preferences(6, seed=5)]
SETTINGS = (
    "--lora", "--batch-size", 4, "--template", "compact", "--max-length", 256, "--device", "cpu",
    "--schedule", "constant_with_warmup", "--warmup", 0,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(preset: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    copy.deepcopy(preset.model).save_pretrained(folder)
    preset.tokenizer.save_pretrained(folder)
    return folder


def train(capsys: Any, model: Path, rows: Path, output: Path, *options: object) -> tuple[int, str]:
    arguments = ("--model", model, "--data", rows, "--output", output)
    code, _, err = run(capsys, "train", *arguments, *SETTINGS, *options)
    return code, err


@pytest.fixture
def kept(base: Path, rows: Path, tmp_path: Path, capsys: Any) -> Path:
    how = ("--adapter", "kept", "--lora-rank", 4, "--max-steps", 3, "--learning-rate", 0.002)
    code, err = train(capsys, base, rows, tmp_path / "kept", *how)
    assert code == 0, err
    return tmp_path / "kept"


def log_odds(folder: Path) -> Any:
    return gram.load(folder, device="cpu").compare(PAIRS).log_odds


def tensors(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter_model.safetensors")


def test_it_goes_on_from_the_weights_of_the_adapter(
    kept: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    """Steps with a rate of nearly nothing leave every tensor where it was; an adapter begun anew would have
    another rank (16), and B = 0."""
    still, moved = tmp_path / "still", tmp_path / "moved"
    for output, rate in ((still, 1e-12), (moved, 0.01)):
        how = ("--adapter", "continued", "--max-steps", 2, "--learning-rate", rate)
        code, err = train(capsys, kept, rows, output, *how)
        assert code == 0, err
    before, after = tensors(kept), tensors(still)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-9)
    np.testing.assert_allclose(log_odds(still), log_odds(kept), atol=1e-6)
    assert np.abs(log_odds(moved) - log_odds(kept)).max() > 1e-3


def test_it_stays_one_adapter_on_its_own_base(
    base: Path, kept: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    """Not a stack: the folder names the base of the adapter that it goes on from, and loads without that."""
    output = tmp_path / "on"
    code, err = train(capsys, kept, rows, output, "--adapter", "continued", "--max-steps", 2)
    assert code == 0, err
    scores = log_odds(output)
    (kept / "adapter_model.safetensors").unlink()
    np.testing.assert_array_equal(log_odds(output), scores)
    config = json.loads((output / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve()) and config["r"] == 4
    manifest = read_manifest(output)
    assert manifest is not None
    assert manifest.base["name"] == str(base.resolve()) and "model.safetensors" in manifest.base["files"]
    assert manifest.training["from"] == str(kept)


@pytest.mark.parametrize(
    "also", [{}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["embed_tokens", "q_proj"]}], ids=str
)
def test_embeddings_that_came_with_the_adapter_stay(
    also: dict[str, Any], base: Path, preset: LoadedModel, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    """Two tokens were added, one of them in all prompts, and the embeddings saved as peft does.

    A rate of nearly nothing: the scores, and what peft itself computes, stay.
    """
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    def fresh() -> Any:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(base)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        return model

    tokenizer: Any = copy.deepcopy(preset.tokenizer)
    tokenizer.add_tokens(["garden", "tower"])
    first, second = tmp_path / "first", tmp_path / "second"
    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **also})
    peft.get_peft_model(fresh(), config).save_pretrained(str(first), save_embedding_layers=True)
    tokenizer.save_pretrained(first)
    how = ("--adapter", "continued", "--max-steps", 1, "--learning-rate", 1e-12)
    code, err = train(capsys, first, rows, second, *how)
    assert code == 0, err
    full = {name for name, value in tensors(first).items() if len(value) == len(tokenizer)}
    assert full and {name for name in full if "modules_to_save" not in name} <= tensors(second).keys()
    wanted = gram.load(first, template="compact", max_length=256, device="cpu").compare(PAIRS).log_odds
    np.testing.assert_allclose(log_odds(second), wanted, atol=1e-5)
    ids = torch.tensor([tokenizer("the garden of the tower")["input_ids"]])
    with torch.no_grad():
        one, two = (peft.PeftModel.from_pretrained(fresh(), str(f))(ids).logits for f in (first, second))
    torch.testing.assert_close(two, one, atol=1e-5, rtol=1e-5)


def test_both_stages_in_one_adapter(base: Path, rows: Path, tmp_path: Path, capsys: Any) -> None:
    """Stage 1 begins the adapter, stage 2 goes on; peft's own model then says what ours says."""
    import torch
    from peft import AutoPeftModelForCausalLM

    from gram.modeling.loading import load_model

    steps = ("--max-steps", 2, "--learning-rate", 0.003)
    code, err = train(
        capsys, base, rows, tmp_path / "one", "--stage", "pretrain", "--adapter", "kept", *steps
    )
    assert code == 0, err
    code, err = train(capsys, tmp_path / "one", rows, tmp_path / "two", "--adapter", "continued", *steps)
    assert code == 0, err
    ids = torch.tensor([[9, 8, 7, 30, 31]])
    theirs: Any = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "two"))
    ours: Any = load_model(tmp_path / "two", "lm").model
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs.eval()(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("base", ("--adapter", "continued"), "is a whole model; --adapter kept begins one on it"),
        ("kept", ("--adapter", "continued", "--objective", "scalar"), "without a score head"),
        ("kept", ("--adapter", "continued", "--no-lora"), "adapter continued goes with lora"),
        ("preset:tiny", ("--adapter", "continued"), "is made anew"),
    ],
)
def test_what_has_no_adapter_to_train_on_is_refused(
    model: str,
    options: tuple[str, ...],
    message: str,
    base: Path,
    kept: Path,
    rows: Path,
    tmp_path: Path,
    capsys: Any,
) -> None:
    folder: Any = {"base": base, "kept": kept}.get(model, model)
    code, err = train(capsys, folder, rows, tmp_path / "no", "--max-steps", 1, *options)
    assert code == 1 and message in err
    assert not (tmp_path / "no" / "gram.json").exists()


def test_another_kind_of_adapter_is_refused(base: Path, rows: Path, tmp_path: Path, capsys: Any) -> None:
    from peft import IA3Config, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM

    kinds = IA3Config(task_type=TaskType.CAUSAL_LM, target_modules=["k_proj"], feedforward_modules=[])
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), kinds).save_pretrained(str(tmp_path / "ia3"))  # type: ignore[arg-type]
    code, err = train(capsys, tmp_path / "ia3", rows, tmp_path / "no", "--adapter", "continued")
    assert code == 1 and "of kind IA3; only LoRA is trained on" in err
