"""The name of a model that can be fetched works wherever a model is named, and its first use fetches it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

import gram
from conftest import run
from gram.errors import CheckpointError, FetchError
from gram.modeling import shipped
from gram.modeling.adapter_folder import base_of
from gram.modeling.adapters import adapter_base
from gram.modeling.digests import content_of, deciding_files
from gram.modeling.manifest import Manifest
from gram.modeling.shipped import model_folder
from gram.rendering import load_template
from gram.scoring.scalar import LikelihoodModel

PROMPT, ANSWER = "what is the bread of the garden ?", "the bread is old ."


def score(model: Any) -> float:
    assert isinstance(model, LikelihoodModel)
    return float(model.score([PROMPT], [ANSWER])[0])


def loaded(reference: str | Path, **options: Any) -> Any:
    return gram.load(reference, "likelihood", device="cpu", **options)


def toy_place(tmp_path: Path) -> Path:
    return tmp_path / "home" / "models" / "toy"


def test_the_first_use_fetches_and_says_so_before(
    downloads: list[str], converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = score(loaded("toy"))
    out, err = capsys.readouterr()
    first, second, *_ = err.splitlines()
    assert first == "gram: toy: is not on this machine; fetching it now, once, as 'gram fetch toy' does"
    assert "downloading" in second and out == "" and downloads == ["toy-model"]
    assert found == score(loaded(converted)) == score(loaded(toy_place(tmp_path)))
    assert score(loaded("toy")) == found and len(downloads) == 1
    assert "gram: toy" not in capsys.readouterr().err


def test_what_was_cut_short_is_fetched_again_on_its_next_use(downloads: list[str], tmp_path: Path) -> None:
    """A copy that stopped in the midst: the size tells, and no weights are read for that."""
    found = score(loaded("toy"))
    weights = toy_place(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert score(loaded("toy")) == found and len(downloads) == 2


def test_offline_the_error_names_the_command(
    downloads: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": PROMPT, "response": ANSWER}) + "\n")
    command = ("score", "--model", "toy", "--kind", "likelihood", "--device", "cpu")
    command += ("--input", str(rows), "--output", str(tmp_path / "scores.jsonl"))
    with monkeypatch.context() as patch:
        patch.setenv("GRAM_OFFLINE", "1")
        with pytest.raises(FetchError, match="run once: gram fetch toy"):
            gram.load("toy")
        code, _, err = run(capsys, *command)
        assert code == 1 and err.startswith("gram score: toy: ") and "run once: gram fetch toy" in err
        assert downloads == [] and not (tmp_path / "home").exists()
    code, _, err = run(capsys, *command)
    assert code == 0 and "gram: toy: is not on this machine" in err, err
    with monkeypatch.context() as patch:
        patch.setenv("GRAM_OFFLINE", "1")
        assert json.loads((tmp_path / "scores.jsonl").read_text())["score"] == pytest.approx(
            score(loaded("toy")), abs=1e-5
        )


def test_a_folder_of_that_name_comes_first(downloads: list[str], converted: Path) -> None:
    shutil.copytree(converted, "toy")
    assert model_folder("toy") == Path("toy")
    assert score(loaded("toy")) == score(loaded(converted)) and downloads == []


def test_a_name_that_is_nothing_is_told_what_can_be_fetched(shop: Path) -> None:
    with pytest.raises(CheckpointError, match=r"toys: no such folder; with gram come: .*; it can fetch: toy"):
        gram.load("toys")


def test_a_temperature_is_not_stored_in_what_is_fetched(
    downloads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labeled = tmp_path / "labeled.jsonl"
    rows = [{"prompt": "What?", "chosen": f"bread {k}", "rejected": f"river {k}"} for k in range(4)]
    labeled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "calibration"
    code, _, err = run(capsys, "eval", "--model", "toy", "--calibrate", labeled, "--output", output)
    assert code == 1 and "toy: no gram.json to store a temperature in" in err
    assert not Path("toy").exists()


# --- As the base of an adapter ---


@pytest.fixture
def adapter(converted: Path, tmp_path: Path) -> Path:
    """A LoRA on the toy that names it by its name in the catalogue, with ``gram.json``."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "package" / "on-toy"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(converted)
        config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        wrapped: Any = peft.get_peft_model(model, config)
    wrapped.peft_config["default"].base_model_name_or_path = "toy"
    wrapped.save_pretrained(folder)
    template = load_template(None)
    manifest = Manifest(
        "likelihood",
        {"name": template.name, "text": template.text, "labels": list(template.labels)},
        template.hash,
        512,
        files=deciding_files(folder),
        base={"name": "toy", "revision": None, "files": deciding_files(converted, weights_only=True)},
    )
    manifest.write(folder)
    return folder


def test_an_adapter_of_the_package_finds_its_base_from_anywhere(
    adapter: Path,
    downloads: list[str],
    converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shipped, "_FOLDER", adapter.parent)
    found = score(loaded("on-toy"))
    assert "gram: toy: is not on this machine" in capsys.readouterr().err and downloads == ["toy-model"]
    assert found == score(loaded(adapter, base=converted)) != score(loaded("toy"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    monkeypatch.setenv("GRAM_OFFLINE", "1")
    assert score(loaded("on-toy")) == found
    assert base_of("on-toy") == str(toy_place(tmp_path))
    assert content_of("on-toy")["base of the adapter"] == content_of("toy")


def test_without_its_base_the_adapter_says_which_command_brings_it(
    adapter: Path, downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FetchError, match=r"toy: is not in .*HF_HUB_OFFLINE=1 .*run once: gram fetch toy"):
        loaded(adapter)
    with pytest.raises(FetchError, match="run once: gram fetch toy"):
        base_of(str(adapter))


def test_a_base_with_other_weights_is_refused(adapter: Path, downloads: list[str], tmp_path: Path) -> None:
    """The manifest is of other weights than those that are fetched: as after ``--from hub``."""
    manifest = json.loads((adapter / "gram.json").read_text())
    manifest["base"]["files"]["model.safetensors"] = "0" * 64
    (adapter / "gram.json").write_text(json.dumps(manifest))
    named = r"not the model that it was trained on \(model\.safetensors differ\); 'gram fetch toy --from hub'"
    with pytest.raises(CheckpointError, match=named):
        loaded(adapter)


def test_a_folder_beside_the_adapter_comes_before_fetching(
    adapter: Path, downloads: list[str], converted: Path
) -> None:
    shutil.copytree(converted, adapter / "toy")
    assert score(loaded(adapter)) == score(loaded(adapter, base=converted)) and downloads == []


def test_an_adapter_that_is_trained_names_the_catalogue_and_no_path(
    downloads: list[str], converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, by its folder, and by a link to it; a folder elsewhere keeps its path."""
    expected = {
        "name": "toy",
        "revision": None,
        "files": deciding_files(converted, weights_only=True),
    }
    assert adapter_base("toy", None) == expected
    assert adapter_base(str(toy_place(tmp_path)), None) == expected
    (tmp_path / "linked").symlink_to(tmp_path / "home")
    monkeypatch.setenv("GRAM_HOME", str(tmp_path / "linked"))
    assert adapter_base("toy", None) == expected and len(downloads) == 1
    assert adapter_base(str(converted), None)["name"] == str(converted.resolve())


def test_training_on_it_leaves_an_adapter_that_loads_elsewhere(
    downloads: list[str],
    training_rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``gram train --lora --adapter kept`` from the name; then with the cache in another place."""
    output = tmp_path / "adapter"
    options = ("--lora", "--adapter", "kept", "--max-steps", "1", "--batch-size", "2", "--device", "cpu")
    code, _, err = run(
        capsys, "train", "--model", "toy", "--data", training_rows, *options, "--output", output
    )
    assert code == 0, err
    assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == "toy"
    manifest = json.loads((output / "gram.json").read_text())
    assert manifest["base"]["name"] == manifest["training"]["from"] == "toy"
    assert str(tmp_path / "home") not in (output / "gram.json").read_text()
    on = tmp_path / "on"
    options = ("--lora", "--adapter", "continued", *options[3:])
    code, _, err = run(capsys, "train", "--model", output, "--data", training_rows, *options, "--output", on)
    assert code == 0, err
    assert json.loads((on / "adapter_config.json").read_text())["base_model_name_or_path"] == "toy"
    pair = gram.Pair(PROMPT, ANSWER, "why ?")
    before = gram.load(output, device="cpu").compare([pair]).log_odds
    (tmp_path / "home").rename(tmp_path / "another")
    monkeypatch.setenv("GRAM_HOME", str(tmp_path / "another"))
    monkeypatch.setenv("GRAM_OFFLINE", "1")
    np.testing.assert_array_equal(gram.load(output, device="cpu").compare([pair]).log_odds, before)


@pytest.fixture
def training_rows(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": PROMPT, "chosen": f"{ANSWER} {k}", "rejected": f"{k} ?"} for k in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
