"""A model by its name on the Hub is that of its folder: whole or an adapter, of any kind and revision.

The Hub is huggingface_hub's cache, as it is after a download; nothing reaches for the network.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import make_preferences, run
from gram.asking import LoadOptions
from gram.decisions.export import export_decision
from gram.errors import CheckpointError, ConfigError
from gram.modeling.digests import deciding_files
from gram.modeling.fingerprint import fingerprint_of
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import FILE, read_manifest
from gram.modeling.showing import showing
from gram.scoring.remote.prompts import tokens_with
from gram.training.distil import distilled
from shown_things import put_on_hub

ROWS = make_preferences(6, seed=5)
PAIRS = [item.pair for item in ROWS]
OLDER = "b" * 40
RANK = ("--lora-rank", 4)
SETTINGS = (
    "--lora", "--max-steps", 2, "--batch-size", 4, "--learning-rate", 0.002,
    "--template", "compact", "--max-length", 256, "--device", "cpu",
)  # fmt: skip
OTHERWISE: dict[str, dict[str, Any]] = {
    "judge": {"max_length": 90, "neutralise": False, "calibration": {"temperature": 2.5}},
    "likelihood": {"context": "judge", "beta": 0.5, "length_power": 1.0},
    "scalar": {"max_length": 12, "calibration": {"temperature": 0.5}},
}
"""What ``gram.json`` says of each model, and a raw one would not be asked by."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def folders(judge_folder: Path, likelihood_folder: Path, scalar_folder: Path) -> dict[str, Path]:
    return {"judge": judge_folder, "likelihood": likelihood_folder, "scalar": scalar_folder}


def told(folder: Path, to: Path, **values: Any) -> Path:
    """A copy of a model whose ``gram.json`` says something else."""
    shutil.copytree(folder, to)
    manifest = read_manifest(to)
    assert manifest is not None
    replace(manifest, **values).write(to)
    return to


def log_odds(reference: str | Path, **options: Any) -> Any:
    return gram.load(reference, device="cpu", **options).compare(PAIRS).log_odds


@pytest.mark.parametrize("kind", list(OTHERWISE))
def test_a_whole_model_scores_as_its_folder(
    kind: str, folders: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    """To the last bit, and with nothing to warn of; the folder itself scores otherwise than a model whose
    ``gram.json`` says nothing else than its kind."""
    folder = told(folders[kind], tmp_path / "model", **OTHERWISE[kind])
    put_on_hub(cache, "me/model", folder)
    put_on_hub(cache, "me/model", folders[kind], revision="v1", sha=OLDER)
    wanted, older = log_odds(folder), log_odds(folders[kind])
    assert np.abs(wanted - older).max() > 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        np.testing.assert_array_equal(log_odds("me/model"), wanted)
        np.testing.assert_array_equal(log_odds("me/model", revision="v1"), older)
        np.testing.assert_array_equal(log_odds(f"me/model@{OLDER}"), older)


def test_a_raw_model_is_asked_as_its_folder_too(converted: Path, cache: Path) -> None:
    put_on_hub(cache, "me/raw", converted, lacks=FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        by_name = log_odds("me/raw", template="compact")
    np.testing.assert_array_equal(by_name, log_odds(converted, template="compact"))


def test_where_nobody_knows_of_a_manifest_that_is_told(judge_folder: Path, cache: Path) -> None:
    """transformers alone has downloaded the model, and the Hub cannot be asked now."""
    (put_on_hub(cache, "me/judge", judge_folder) / FILE).unlink()
    with pytest.warns(UserWarning, match=r"me/judge: gram\.json is not among its files here"):
        gram.load("me/judge", device="cpu", template="compact")


def test_files_are_compared_with_their_digests(judge_folder: Path, cache: Path, tmp_path: Path) -> None:
    """A file that the Hub has not is an error, as in a folder, and one that came new a warning; one that is
    not here, and that the Hub may have, is neither."""
    folder = tmp_path / "model"
    shutil.copytree(judge_folder, folder)
    (folder / "chat_template.jinja").rename(tmp_path / "kept.jinja")
    put_on_hub(cache, "me/forgotten", folder, lacks="chat_template.jinja")
    with pytest.raises(CheckpointError, match=r"it was saved with chat_template\.jinja"):
        gram.load("me/forgotten", device="cpu")
    (tmp_path / "kept.jinja").rename(folder / "chat_template.jinja")
    (folder / "special_tokens_map.json").write_text("{}")
    put_on_hub(cache, "me/changed", folder)
    with pytest.warns(UserWarning, match=r"special_tokens_map\.json came new"):
        gram.load("me/changed", device="cpu")
    manifest = read_manifest(judge_folder)
    assert manifest is not None
    more = told(judge_folder, tmp_path / "more", files={**manifest.files, "vocab.txt": "0" * 64})
    put_on_hub(cache, "me/more", more)
    with pytest.raises(CheckpointError, match=r"it was saved with vocab\.txt"):
        gram.load(more, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        gram.load("me/more", device="cpu")


@pytest.fixture(scope="module")
def base(preset: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    preset.model.save_pretrained(folder)
    preset.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(base: Path, rows: Path, tmp_path: Path, cache: Path, capsys: Any) -> Path:
    """A judge's adapter, and on the Hub as me/adapter."""
    return trained_adapter(base, rows, tmp_path, cache, capsys)


def trained_adapter(base: Path, rows: Path, place: Path, cache: Path, capsys: Any, *how: object) -> Path:
    folder = place / "adapter"
    use = ("--model", base, "--data", rows, "--output", folder, "--adapter", "kept", *RANK)
    code, _, err = run(capsys, "train", *use, *SETTINGS, *how)
    assert code == 0, err
    put_on_hub(cache, "me/adapter", folder)
    return folder


@pytest.mark.parametrize("kind", list(OTHERWISE))
def test_an_adapter_scores_as_its_folder(
    kind: str, base: Path, rows: Path, tmp_path: Path, cache: Path, capsys: Any
) -> None:
    how = ("--objective", {"judge": "preference"}.get(kind, kind))
    how += ("--length-power", "1") if kind == "likelihood" else ()
    folder = trained_adapter(base, rows, tmp_path, cache, capsys, *how)
    put_on_hub(
        cache, "me/adapter", told(folder, tmp_path / "v1", **OTHERWISE[kind]), revision="v1", sha=OLDER
    )
    np.testing.assert_array_equal(log_odds("me/adapter"), log_odds(folder))
    np.testing.assert_array_equal(log_odds("me/adapter", revision="v1"), log_odds(tmp_path / "v1"))


def test_an_adapter_comes_with_all_files_that_its_digests_name(tmp_path: Path) -> None:
    """A file that stayed on the Hub would count as gone."""
    from fnmatch import fnmatch

    from gram.modeling.on_hub import _OF_AN_ADAPTER

    settings = ("adapter_config.json", "tokenizer_config.json", "special_tokens_map.json", "decision.json")
    words = ("tokenizer.json", "vocab.txt", "merges.txt", "spiece.model", "tekken.json", "qwen.tiktoken")
    others = ("adapter_model.bin", "chat_template.jinja", "decision_template.jinja", "tokenization_own.py")
    names = {*settings, *words, *others}
    for name in names:
        (tmp_path / name).write_text("{}")
    assert set(deciding_files(tmp_path)) == names
    assert all(any(fnmatch(name, kind) for kind in _OF_AN_ADAPTER) for name in names)


def test_whoever_asks_for_the_kind_knows_it(
    folders: dict[str, Path], rows: Path, cache: Path, tmp_path: Path, capsys: Any
) -> None:
    """The kind of a model on the Hub comes before its weights, wherever a command depends on it."""
    for kind, folder in folders.items():
        put_on_hub(cache, f"me/{kind}", folder)
    with pytest.raises(CheckpointError, match="me/likelihood: is a likelihood model"):
        export_decision("me/likelihood", tmp_path / "decision")
    with pytest.raises(ConfigError, match="me/likelihood: is no judge, but a likelihood model"):
        distilled(ROWS, "me/likelihood", device="cpu", bf16=False)
    with pytest.raises(ConfigError, match="me/scalar: is a scalar"):
        tokens_with(LoadOptions(tokenizer="me/scalar"))
    assert showing(["me/judge"], LoadOptions()) is None
    assert showing(["me/judge", "me/likelihood"], LoadOptions(revision="main")) is not None
    code, _, err = run(
        capsys, "adapt", "--model", "me/scalar", "--kind", "judge", "--data", rows, "--device", "cpu",
        "--output", tmp_path / "adapted",
    )  # fmt: skip
    assert code == 1 and "me/scalar: is a scalar model and cannot be adapted as kind 'judge'" in err
    code, result, err = run(capsys, "doctor", "--model", "me/scalar", "--device", "cpu")
    findings = {item["check"]: item["says"] for item in result["findings"]}
    assert code == 0 and findings["manifest"].startswith("a scalar, trained on prompts"), err
    assert findings["files"] == "those that are on this machine are as they were saved"


def test_prompts_for_a_server_are_those_of_an_adapter_too(adapter: Path) -> None:
    """Its context is that of its base; its labels and template are its own."""
    by_name, by_folder = (tokens_with(LoadOptions(tokenizer=str(name))) for name in ("me/adapter", adapter))
    assert by_name.label_ids == by_folder.label_ids
    ids = [[item.ids for item in tokens.of(PAIRS)] for tokens in (by_name, by_folder)]
    assert ids[0] == ids[1] and by_name.renderer.template.name == "gram-compact"


def test_gguf_holds_the_manifest(
    folders: dict[str, Path], adapter: Path, cache: Path, tmp_path: Path
) -> None:
    """Of a whole model and of an adapter, which is merged; a scalar model is refused."""
    gguf = pytest.importorskip("gguf")
    from gram.modeling.source import ModelSource
    from gram.publishing.gguf_file import export_gguf

    put_on_hub(cache, "me/judge", folders["judge"])
    put_on_hub(cache, "me/scalar", folders["scalar"])
    for name, folder in (("me/judge", folders["judge"]), ("me/adapter", adapter)):
        output = tmp_path / name
        export_gguf(ModelSource(model=name), output)
        field = gguf.GGUFReader(output / "model.gguf").get_field(FILE)
        assert field is not None and field.contents() == (folder / FILE).read_text()
    with pytest.raises(CheckpointError, match="me/scalar: is a scalar model"):
        export_gguf(ModelSource(model="me/scalar"), tmp_path / "scalar")


def test_a_fingerprint_depends_on_the_manifest_and_on_the_base(
    judge_folder: Path, adapter: Path, base: Path, cache: Path, tmp_path: Path
) -> None:
    """Runs are continued only where both are what they were. A raw model is known by its name, as before."""
    put_on_hub(cache, "me/judge", judge_folder)
    cooler = told(judge_folder, tmp_path / "cooler", calibration={"temperature": 2.0})
    put_on_hub(cache, "me/judge", cooler, revision="v1", sha=OLDER)
    put_on_hub(cache, "me/raw", base, lacks=FILE)
    one, other = (fingerprint_of(["me/judge"], LoadOptions(revision=name)) for name in ("main", "v1"))
    assert one["model"] != other["model"]
    assert fingerprint_of(["me/raw"], LoadOptions())["model"] == "me/raw"
    shutil.copytree(base, tmp_path / "same")
    weights = tmp_path / "other" / "model.safetensors"
    shutil.copytree(judge_folder, tmp_path / "other")
    assert weights.read_bytes() != (base / "model.safetensors").read_bytes()
    named, same, other = (
        fingerprint_of(["me/adapter"], LoadOptions(base=where))["model"]
        for where in (None, str(tmp_path / "same"), str(tmp_path / "other"))
    )
    assert named == same != other and named["name"] == "me/adapter"


def test_an_adapter_is_trained_on(adapter: Path, base: Path, rows: Path, tmp_path: Path, capsys: Any) -> None:
    """``--adapter continued``, which ended in an error after the training: it names the adapter's base."""
    output = tmp_path / "on"
    code, _, err = run(
        capsys, "train", "--model", "me/adapter", "--adapter", "continued", "--data", rows, *SETTINGS,
        "--output", output,
    )  # fmt: skip
    assert code == 0, err
    config = json.loads((output / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve()) and config["r"] == 4
    manifest = read_manifest(output)
    assert manifest is not None and manifest.training["from"] == "me/adapter" and manifest.base["files"]
    assert np.isfinite(log_odds(output)).all()


def test_the_old_adapter_unchanged_is_a_copy_of_its_files(
    adapter: Path, base: Path, rows: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adaptation is made to decide no: the same adapter, and not a whole model in another precision."""
    from gram.adaptation import adapt as module

    decide = module.decide
    monkeypatch.setattr(module, "decide", lambda verdicts: replace(decide(verdicts), adopted=False))
    output = tmp_path / "adapted"
    code, result, err = run(
        capsys, "adapt", "--model", "me/adapter", "--data", rows, "--output", output, "--max-steps", 2,
        "--folds", 2, "--learning-rates", 0.01, "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and not result["adopted"], err
    name = "adapter_model.safetensors"
    assert (output / name).read_bytes() == (adapter / name).read_bytes()
    assert not (output / "model.safetensors").exists()
    np.testing.assert_array_equal(log_odds(output), log_odds(adapter))
