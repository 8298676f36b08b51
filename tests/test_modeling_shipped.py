"""Names of models that come with the package, wherever a model is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import gram
from gram.cli.main import main
from gram.errors import CheckpointError
from gram.modeling import shipped
from gram.modeling.shipped import model_folder, shipped_models

PAIR = gram.Pair("What is it?", "bread", "the bridge of the river")


@pytest.fixture
def package(tmp_path: Path, judge_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one model, ``small``; the working directory has no folder of that name."""
    folder = tmp_path / "package" / "small"
    shutil.copytree(judge_folder, folder)
    monkeypatch.setattr(shipped, "_FOLDER", folder.parent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_a_name_loads_what_its_folder_loads(package: Path) -> None:
    assert shipped_models() == ("small",)
    named, given = gram.load("small", device="cpu"), gram.load(package, device="cpu")
    np.testing.assert_array_equal(named.compare([PAIR]).log_odds, given.compare([PAIR]).log_odds)


def test_a_folder_of_that_name_comes_first(package: Path) -> None:
    Path("small").mkdir()
    assert model_folder("small") == Path("small")
    with pytest.raises(CheckpointError, match=r"small: no config\.json"):
        gram.load("small")


def test_another_name_is_told_what_there_is(package: Path) -> None:
    assert model_folder("smaller") is None
    with pytest.raises(CheckpointError, match="smaller: no such folder; with gram come: small"):
        gram.load("smaller")


def test_a_path_or_a_hub_name_is_none_of_them(package: Path) -> None:
    assert model_folder("../small") is None
    assert model_folder("nobody/small") is None


def test_commands_take_the_name(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ranking with it works; a temperature is not written into the package."""
    rows, output = tmp_path / "rows.jsonl", tmp_path / "ranked.jsonl"
    rows.write_text(
        json.dumps({"id": "x", "prompt": "What?", "responses": ["bread", "a", "the river"]}) + "\n"
    )
    assert main(["rank", "--model", "small", "--input", str(rows), "--output", str(output)]) == 0
    assert sorted(json.loads(output.read_text())["order"]) == [0, 1, 2]
    before = (package / "gram.json").read_bytes()
    labeled = tmp_path / "labeled.jsonl"
    lines = [{"prompt": "What?", "chosen": f"bread {k}", "rejected": f"river {k}"} for k in range(4)]
    labeled.write_text("".join(json.dumps(line) + "\n" for line in lines))
    calibrate = ["eval", "--model", "small", "--calibrate", str(labeled), "--output", str(tmp_path / "c")]
    capsys.readouterr()
    assert main(calibrate) == 1
    assert f"small: comes with gram and is not changed; copy {package}" in capsys.readouterr().err
    assert (package / "gram.json").read_bytes() == before
    assert not (tmp_path / "c" / "records.jsonl").exists()
