"""A number, or a missing one, that would be read as if it were right is refused, with its place and name."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import run
from gram.adaptation.config import AdaptConfig
from gram.asking import Asking
from gram.data import read_preferences
from gram.errors import CheckpointError, ConfigError, DataError
from gram.scoring.ensemble import JudgeEnsemble
from gram.training.config import TrainConfig

ROW = '{"prompt": "q", "a": "one", "b": "two", '


def preference(tmp_path: Path, text: str, name: str = "rows.jsonl") -> Any:
    (tmp_path / name).write_text(text)
    return read_preferences(tmp_path / name).examples[0]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_key_that_stands_twice_is_no_row(name: str, tmp_path: Path) -> None:
    """Of ``"p_a": 1, "p_a": 0`` the last would count, and nobody knows which was meant; nested ones too."""
    for row in (ROW + '"p_a": 1, "p_a": 0}', '{"chosen": [{"role": "user", "role": "assistant"}]}'):
        with pytest.raises(DataError, match=r"rows\.json.*stands there twice"):
            preference(tmp_path, f"[{row}]" if name.endswith(".json") else row, name)


def test_a_key_that_stands_twice_is_rejected_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROW + '"p_a": 1}\n' + ROW + '"p_a": 1, "p_a": 0}\n')
    rejects = tmp_path / "rejects.jsonl"
    loaded = read_preferences(tmp_path / "rows.jsonl", on_error="skip", rejects=rejects)
    assert (len(loaded.examples), loaded.rejected) == (1, 1)
    assert json.loads(rejects.read_text())["line"] == 2


@pytest.mark.parametrize(
    ("votes", "wanted"),
    [((1e308, 1e308, 0), 0.5), ((1e308, 0, 1e308), 0.75), ((3, 1, 0), 0.75), ((0, 1e-300, 0), 0.0)],
)
def test_votes_beyond_all_floats_are_counted(votes: tuple[float, ...], wanted: float, tmp_path: Path) -> None:
    """(a + ties / 2) / all: 1e308 twice adds up to infinity, and the share is a half all the same."""
    a, b, tie = votes
    text = ROW + f'"votes_a": {a}, "votes_b": {b}, "votes_tie": {tie}}}'
    assert preference(tmp_path, text).p_a == pytest.approx(wanted)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Asking(length_power=math.inf),
        lambda: Asking(length_power=math.nan),
        lambda: Asking(template=""),
        lambda: Asking(reference=""),
        lambda: JudgeEnsemble([None, None], "minimum", math.inf),  # type: ignore[list-item]
        lambda: JudgeEnsemble([None, None], "minimum", math.nan),  # type: ignore[list-item]
        lambda: TrainConfig("m", ["d"], Path("o"), learning_rate=1e30),
        lambda: TrainConfig("m", ["d"], Path("o"), beta=math.inf),
        lambda: TrainConfig("m", ["d"], Path("o"), length_power=math.nan),
        lambda: TrainConfig("m", ["d"], Path("o"), weight_decay=math.inf),
        lambda: TrainConfig("m", ["d"], Path("o"), template=""),
        lambda: AdaptConfig("m", ["d"], Path("o"), template=""),
        lambda: AdaptConfig("m", ["d"], Path("o"), learning_rates=[1e-3, 1e30]),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"finite|empty|rates? "):
        make()


@pytest.mark.parametrize("temperature", [-1, 0, math.nan, math.inf, "warm", None, True])
def test_a_temperature_that_turns_verdicts_round_is_refused(
    temperature: Any, judge_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(judge_folder, tmp_path / "judge")
    content = json.loads((folder / "gram.json").read_text())
    (folder / "gram.json").write_text(json.dumps(content | {"calibration": {"temperature": temperature}}))
    with pytest.raises(CheckpointError, match=r"gram\.json: field 'calibration\.temperature'"):
        gram.load(folder)


def test_the_command_names_the_option(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rows := tmp_path / "rows.jsonl").write_text(ROW + '"p_a": 1}')
    command = ["score", "--model", judge_folder, "--input", rows, "--output", tmp_path / "out.jsonl"]
    for flags, reason in (
        (["--template", ""], "template is empty"),
        (["--length-power", "inf"], "length_power must be a finite number"),
        (
            ["--ensemble-with", judge_folder, "--ensemble-penalty", "inf"],
            "ensemble_penalty must be a finite number at least 0",
        ),
    ):
        code, _, error = run(capsys, *command, *flags)
        assert code == 1 and reason in error, (flags, error)
    assert not (tmp_path / "out.jsonl").exists()
