"""``--adapter kept``: what training leaves is a PEFT folder, which every command and peft itself read."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gram
from conftest import make_preferences, run
from gram.errors import CheckpointError
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import FILE, read_manifest

PAIRS = [item.pair for item in make_preferences(6, seed=5)]
SETTINGS = (
    "--lora", "--lora-rank", 4, "--max-steps", 3, "--batch-size", 4, "--learning-rate", 0.002,
    "--template", "compact", "--max-length", 256, "--device", "cpu",
)  # fmt: skip


@pytest.fixture
def base(preset: LoadedModel, tmp_path: Path) -> Path:
    copy.deepcopy(preset.model).save_pretrained(tmp_path / "base")
    preset.tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(capsys: Any, base: Path, rows: Path, output: Path, *options: object) -> Path:
    arguments = ("--model", base, "--data", rows, "--output", output)
    code, _, err = run(capsys, "train", *arguments, *SETTINGS, *options)
    assert code == 0, err
    return output


def log_odds(folder: Path, **options: Any) -> Any:
    return gram.load(folder, device="cpu", **options).compare(PAIRS).log_odds


@pytest.mark.parametrize("objective", ["preference", "scalar", "likelihood"])
def test_a_kept_adapter_scores_as_the_merged_model(
    objective: str, base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run twice, saved in both ways; the folder of the adapter is a fraction of the other's size."""
    how = ("--objective", objective, *(("--length-power", 1) if objective == "likelihood" else ()))
    whole = trained(capsys, base, rows, tmp_path / "whole", *how)
    kept = trained(capsys, base, rows, tmp_path / "kept", *how, "--adapter", "kept")
    np.testing.assert_allclose(log_odds(kept), log_odds(whole), atol=1e-5)
    names = {path.name for path in kept.iterdir()}
    wanted = {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        FILE,
    }
    assert wanted <= names
    assert not {"model.safetensors", "config.json", "README.md", "checkpoints"} & names
    sizes = [
        (kept / "adapter_model.safetensors").stat().st_size,
        (whole / "model.safetensors").stat().st_size,
    ]
    assert sizes[0] < 0.2 * sizes[1]
    config = json.loads((kept / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    manifest = read_manifest(kept)
    assert manifest is not None and manifest.base["name"] == str(base.resolve())
    assert list(manifest.base["files"]) == ["model.safetensors"]


def test_peft_reads_what_we_keep(
    base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logits of peft's own model, loaded by the names in the folder alone, and of ours."""
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification

    from gram.modeling.loading import load_model

    ids = torch.tensor([[9, 8, 7, 30, 31]])
    for objective, auto, head in (
        ("preference", AutoPeftModelForCausalLM, "lm"),
        ("scalar", AutoPeftModelForSequenceClassification, "score"),
    ):
        kept = trained(
            capsys, base, rows, tmp_path / objective, "--objective", objective, "--adapter", "kept"
        )
        options: dict[str, Any] = {"num_labels": 1} if head == "score" else {}
        theirs: Any = auto.from_pretrained(str(kept), **options)
        ours: Any = load_model(kept, head).model  # type: ignore[arg-type]
        with torch.no_grad():
            torch.testing.assert_close(ours(ids).logits, theirs.eval()(ids).logits, atol=1e-5, rtol=1e-5)


def test_every_command_reads_it(
    base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """rank, mine, eval, score of an ensemble, adapt (kept again), train on top of it, and as a reference."""
    kept = trained(capsys, base, rows, tmp_path / "kept", "--adapter", "kept")
    lists = tmp_path / "lists.jsonl"
    lists.write_text(json.dumps({"prompt": "why ?", "responses": ["old", "new", "the garden"]}) + "\n")
    use = ("--model", kept, "--device", "cpu")
    for command in (
        ("rank", *use, "--input", lists, "--output", tmp_path / "ranked.jsonl"),
        ("mine", *use, "--input", lists, "--output", tmp_path / "mined.jsonl"),
        ("eval", *use, "--data", rows, "--max-per-source", 8, "--output", tmp_path / "evaluated"),
        ("score", *use, "--ensemble-with", kept, "--base", base, "--input", rows, "--output", tmp_path / "s"),
        ("train", *use, "--data", rows, *SETTINGS[:-2], "--output", tmp_path / "on-top", "--adapter", "kept"),
        ("train", *use, "--data", rows, *SETTINGS[:-2], "--output", tmp_path / "scalar", "--objective",
         "scalar"),
        ("train", "--model", base, "--data", rows, *SETTINGS, "--output", tmp_path / "dpo", "--objective",
         "likelihood", "--reference", kept, "--adapter", "kept"),
    ):  # fmt: skip
        code, _, err = run(capsys, *command)
        assert code == 0, (command, err)
    for folder in ("on-top", "scalar", "dpo"):
        assert np.isfinite(log_odds(tmp_path / folder)).all()
    assert np.abs(log_odds(tmp_path / "on-top") - log_odds(kept)).max() > 1e-3


def test_adapt_keeps_it_apart(
    base: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Merged and kept give the same scores, whatever the decision was; here it is made to be yes."""
    from gram.adaptation import adapt as module

    decide = module.decide

    def adopt(verdicts: Any) -> Any:
        from dataclasses import replace

        decision = decide(verdicts)
        return replace(decision, adopted=True, choice=replace(decision.choice, candidate=1))

    monkeypatch.setattr(module, "decide", adopt)
    judge = trained(capsys, base, rows, tmp_path / "judge")
    for how in ("merged", "kept"):
        code, result, err = run(
            capsys, "adapt", "--model", judge, "--data", rows, "--output", tmp_path / how, "--adapter", how,
            "--max-steps", 2, "--folds", 2, "--learning-rates", 0.01, "--device", "cpu",
        )  # fmt: skip
        assert code == 0 and result["adopted"], err
    assert (tmp_path / "kept" / "adapter_model.safetensors").is_file()
    np.testing.assert_allclose(log_odds(tmp_path / "kept"), log_odds(tmp_path / "merged"), atol=1e-5)


def test_another_base_than_that_of_the_training(
    base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by the adapter: an error. Chosen with --base: a warning, for it may be the same in bfloat16."""
    from safetensors.torch import load_file, save_file

    kept = trained(capsys, base, rows, tmp_path / "kept", "--adapter", "kept")
    wanted = log_odds(kept)
    copied = tmp_path / "copy"
    shutil.copytree(base, copied)
    np.testing.assert_array_equal(log_odds(kept, base=copied), wanted)  # the same content: not a word
    weights = load_file(base / "model.safetensors")
    save_file(
        {name: weight * 1.001 for name, weight in weights.items()},
        base / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(
        CheckpointError, match=r"its base .* is not the model that it was trained on .*--base"
    ):
        gram.load(kept, device="cpu")
    with pytest.warns(UserWarning, match="its scores may be others"):
        log_odds(kept, base=base)


def test_an_unfinished_run_is_not_continued_from_another_model(
    base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints of a run, and then another model under the old name."""
    from gram.training import pipeline

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "out"
    arguments = ("train", "--model", base, "--data", rows, "--output", output, *SETTINGS, "--save-steps", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "save_checkpoint", killed)
        assert run(capsys, *arguments)[0] == 130
    weights = base / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\0\0\0\0")
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "from another model" in err
    weights.write_bytes(content)
    assert run(capsys, *arguments)[0] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--adapter", "kept"), "adapter kept goes with lora"),
        (("--adapter", "kept", "--lora", "--model", "preset:tiny"), "is made anew"),
    ],
)
def test_what_cannot_be_kept(
    options: tuple[str, ...], says: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", "gram-135m", "--data", rows, "--output", tmp_path / "out")
    code, _, err = run(capsys, "train", *arguments, *options)
    assert code == 1 and says in err
    code, _, err = run(capsys, "adapt", *arguments, "--method", "all", "--adapter", "kept")
    assert code == 1 and "adapter kept goes with method lora" in err


@pytest.fixture
def two_bases(base: Path, rows: Path, tmp_path: Path, capsys: Any) -> tuple[Path, Path]:
    """An adapter on ``base``, and another model of the same shape."""
    kept = trained(capsys, base, rows, tmp_path / "kept", "--adapter", "kept")
    other = tmp_path / "other"
    shutil.copytree(base, other)
    scale_weights(other, 1.02)
    return kept, other


def scale_weights(folder: Path, factor: float) -> None:
    from safetensors.torch import load_file, save_file

    weights = {name: weight * factor for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_adapter_on_one_whose_base_was_chosen(
    two_bases: tuple[Path, Path], base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused, as it would be read on the base that the lower one names; a copy of that base will do."""
    kept, other = two_bases
    for command in (("train", "--lora"), ("adapt",)):
        arguments = ("--model", kept, "--base", other, "--data", rows, "--output", tmp_path / "out")
        code, _, err = run(capsys, *command, *arguments, "--adapter", "kept")
        assert code == 1 and "names another base" in err and "gram merge" in err
        assert not (tmp_path / "out" / FILE).exists()
    shutil.copytree(base, tmp_path / "copy")
    top = trained(capsys, kept, rows, tmp_path / "top", "--base", tmp_path / "copy", "--adapter", "kept")
    assert np.isfinite(log_odds(top)).all()
    scale_weights(base, 1.02)  # and at last the lowest is another one under the old name
    with pytest.raises(CheckpointError, match=r"kept: an adapter, and its base .* is not the model"):
        log_odds(top)


@pytest.mark.parametrize("named", ["chosen", "from its folder"])
def test_the_old_adapter_unchanged_stands_on_the_base_that_it_was_asked_on(
    named: str,
    two_bases: tuple[Path, Path],
    base: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Adaptation is made to decide no: OUTPUT, at another depth, scores as the model that was given."""
    from dataclasses import replace

    from gram.adaptation import adapt as module

    decide = module.decide
    monkeypatch.setattr(module, "decide", lambda verdicts: replace(decide(verdicts), adopted=False))
    kept, other = two_bases
    config = kept / "adapter_config.json"
    chosen: dict[str, Any] = {}
    if named == "chosen":
        chosen = {"base": str(other)}
        with pytest.warns(UserWarning, match="its scores may be others"):
            wanted = log_odds(kept, **chosen)
    else:
        config.write_text(config.read_text().replace(str(base.resolve()), "../base"))
        wanted = log_odds(kept)
    output = tmp_path / "runs" / "deep" / "adapted"
    code, result, err = run(
        capsys, "adapt", "--model", kept, "--data", rows, "--output", output, "--max-steps", 2, "--folds", 2,
        "--learning-rates", 0.01, "--device", "cpu", *(("--base", other) if chosen else ()),
    )  # fmt: skip
    assert code == 0 and not result["adopted"], err
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        np.testing.assert_array_equal(log_odds(output), wanted)
    assert (output / "adapter_model.safetensors").read_bytes() == (
        kept / "adapter_model.safetensors"
    ).read_bytes()
