"""Whose numbers ``gram push`` publishes, and what it says of models without ``gram.json``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import gram
from conftest import make_preferences, run
from gram.modeling.manifest import read_manifest
from gram.publishing.card import card_text
from gram.publishing.measured import read_run

Text = pytest.CaptureFixture[str]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    lines = [
        json.dumps({"prompt": item.pair.prompt[-1].content, "chosen": item.pair.a, "rejected": item.pair.b})
        for item in make_preferences(8)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def folder(judge_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judge_folder, tmp_path / "model"))


def evaluated(capsys: Text, model: Path, pairs: Path, *more: object) -> Path:
    """The folder of a run of ``gram eval``."""
    output = pairs.parent / "eval"
    code, _, err = run(
        capsys, "eval", "--model", model, "--data", pairs, "--output", output, "--device", "cpu", *more
    )
    assert code == 0, err
    return output


def pushed(capsys: Text, model: Path, evaluation: Path) -> tuple[int, str]:
    """Exit code, and the card or what is wrong."""
    code, _, err = run(
        capsys, "push", "--model", model, "--to", "me/it", "--evaluation", evaluation, "--dry-run"
    )
    return code, err


def results_of(card: str) -> list[tuple[str, dict[str, Any]]]:
    from huggingface_hub import ModelCard

    content: Any = ModelCard(card).data
    return [(item.metric_type, item.metric_args or {}) for item in content.eval_results]


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_another_model_at_the_same_path_is_refused(
    folder: Path, scalar_folder: Path, pairs: Path, tmp_path: Path, capsys: Text
) -> None:
    """As after ``gram train --overwrite``. A copy of the model elsewhere is the same model."""
    evaluation = evaluated(capsys, folder, pairs)
    assert pushed(capsys, folder, evaluation)[0] == 0
    copy = Path(shutil.move(folder, tmp_path / "elsewhere"))
    assert pushed(capsys, copy, evaluation)[0] == 0
    shutil.copytree(scalar_folder, folder)
    code, told = pushed(capsys, folder, evaluation)
    assert code == 1 and f"measured another model than {folder} is now: config.json, model.safeten" in told
    assert "gram.json (kind" in told and f"gram eval --model {folder}" in told


def test_what_gram_json_says_of_the_asking_is_compared(folder: Path, pairs: Path, capsys: Text) -> None:
    """A temperature fitted after the run makes other probabilities; where the data lay makes none."""
    evaluation = evaluated(capsys, folder, pairs)
    edit(folder / "gram.json", data=[], training={"from": "elsewhere"})
    assert pushed(capsys, folder, evaluation)[0] == 0
    edit(folder / "gram.json", calibration={"temperature": 2.0})
    code, told = pushed(capsys, folder, evaluation)
    assert code == 1 and ": gram.json (temperature) changed" in told
    (folder / "gram.json").unlink()
    code, told = pushed(capsys, folder, evaluation)
    assert code == 1 and ": gram.json changed" in told


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (["--single-order"], {"both_orders": False}),
        (["--kind", "likelihood", "--length-power", "1"], {"kind": "likelihood", "length_power": 1.0}),
        (["--template", "default"], {"template": "default"}),
        (["--kind", "judge", "--template", "compact", "--max-length", "512"], {}),  # as it was trained
    ],
)
def test_numbers_asked_otherwise_are_told_as_such(
    flags: list[str], asked: dict[str, Any], folder: Path, pairs: Path, capsys: Text
) -> None:
    """In the text and in the metadata; orders agree or not only where a judge was asked in both."""
    manifest = read_manifest(folder)
    assert manifest and (manifest.template["name"], manifest.max_length) == ("gram-compact", 512)
    evaluation = evaluated(capsys, folder, pairs, *flags)
    code, card = pushed(capsys, folder, evaluation)
    assert code == 0, card
    results = results_of(card)
    in_both = "both_orders" not in asked and "kind" not in asked
    assert [name for name, _ in results] == ["accuracy"] + ["consistency"] * in_both
    assert all(arguments.get("asked", {}) == asked for _, arguments in results)
    words = ", ".join(f"{name}={value!r}" for name, value in asked.items())
    assert (f"Measured with `{words}`, which is not how" in card) == bool(asked)
    assert ("Measured with" in card) == bool(asked)


def test_a_run_of_an_earlier_version_says_less(
    folder: Path, scalar_folder: Path, likelihood_folder: Path, pairs: Path, capsys: Text
) -> None:
    """Kind and template are compared, which tell a judge from others; the same command writes digests."""
    evaluation = evaluated(capsys, folder, pairs)
    written = json.loads((evaluation / "results.json").read_text())
    earlier = {name: value for name, value in written.items() if name != "measured"}
    (evaluation / "results.json").write_text(json.dumps(earlier))
    with pytest.warns(UserWarning, match="its weights could not be compared"):
        assert pushed(capsys, folder, evaluation)[0] == 0
    for other in (scalar_folder, likelihood_folder):
        aside = Path(shutil.move(folder, folder.parent / "aside"))
        shutil.copytree(other, folder)
        code, told = pushed(capsys, folder, evaluation)
        assert code == 1 and "measured a model of another kind or template" in told
        shutil.rmtree(folder)
        shutil.move(aside, folder)
    edit(evaluation / "results.json", single_order=True)
    with pytest.warns(UserWarning, match="its weights could not be compared"):
        assert read_run(evaluation, folder).asked == {"both_orders": False}
    code, result, err = run(
        capsys, "eval", "--model", folder, "--data", pairs, "--output", evaluation, "--device", "cpu"
    )
    assert code == 0 and result["resumed"] == result["rows"] == 8, err
    assert json.loads((evaluation / "results.json").read_text()) == written


def test_a_run_of_several_models_is_of_none(folder: Path, pairs: Path, capsys: Text) -> None:
    evaluation = evaluated(capsys, folder, pairs, "--ensemble-with", folder)
    code, told = pushed(capsys, folder, evaluation)
    assert code == 1 and f"measured {folder} and others, not {folder}" in told


def test_a_scalar_model_has_no_two_orders(scalar_folder: Path, pairs: Path, capsys: Text) -> None:
    """Its scores are the same in both, so that a consistency of 1 says nothing."""
    code, card = pushed(capsys, scalar_folder, evaluated(capsys, scalar_folder, pairs))
    assert code == 0 and [name for name, _ in results_of(card)] == ["accuracy"]


def test_a_classifier_without_gram_json_is_a_scalar_model(
    scalar_folder: Path, pairs: Path, tmp_path: Path, capsys: Text
) -> None:
    """The card's own line loads it; ``--kind scalar`` is how it is asked, and nothing to tell beside."""
    from huggingface_hub import ModelCard

    folder = Path(shutil.copytree(scalar_folder, tmp_path / "theirs"))
    (folder / "gram.json").unlink()
    code, text = pushed(capsys, folder, evaluated(capsys, folder, pairs, "--kind", "scalar"))
    assert code == 0, text
    card: Any = ModelCard(text)
    assert card.data.pipeline_tag == "text-classification" and "scalar" in card.data.tags
    assert [item.metric_type for item in card.data.eval_results] == ["accuracy"]
    assert 'gram.load("me/it", kind="scalar")' in text and "Measured with" not in text
    assert "on the whole chat template" in text and "A language model" not in text
    [score] = gram.load(folder, kind="scalar", device="cpu").score(["What is 2 + 2?"], ["4"])  # type: ignore[union-attr]
    assert score == score


@pytest.mark.parametrize(("head", "task"), [("score", "text-classification"), ("lm_head", "text-generation")])
def test_an_adapter_without_gram_json_is_known_by_its_head(head: str, task: str, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    config = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({f"base_model.model.{head}.weight": torch.ones(1, 2)}, tmp_path / "adapter_model.safetensors")
    text = card_text(tmp_path, "me/it", None, None, None)
    card: Any = ModelCard(text)
    assert card.data.pipeline_tag == task and card.data.library_name == "peft"
    assert ('kind="scalar"' in text) == (head == "score")
