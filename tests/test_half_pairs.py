"""Half of a surrogate pair is no character: tokenizers and files fail at it, so it is met before them.

Texts of the Python API are in test_plain_prompts, rows of rewards in test_rl_odd_rows; here are the commands.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from gram.errors import TemplateError
from gram.rendering import JudgeTemplate

HALF = "\ud800"
ROWS: list[dict[str, Any]] = [
    {"prompt": HALF, "a": "x", "b": "y"},
    {"prompt": [{"role": "user", "content": HALF}], "responses": ["x", "y"]},
    {"prompt": "q", "responses": ["x", "y\udfff"]},
    {"prompt": "q", "system": HALF, "response": "x"},
    {"prompt": "q", "id": HALF, "response": "x"},
]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_named_and_can_be_skipped(
    row: dict[str, Any], likelihood_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rows := tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "q", "response": "x"}) + "\n")
    with rows.open("a") as file:
        file.write(json.dumps(row) + "\n")
    output = tmp_path / "out.jsonl"
    command = ["score", "--model", likelihood_folder, "--input", rows, "--output", output]
    code, _, error = run(capsys, *command)
    assert code == 1 and "rows.jsonl:2: field" in error and "half of a surrogate pair" in error
    code, result, error = run(capsys, *command, "--on-error", "skip")
    assert (code, result["rows"], result["rejected"]) == (0, 1, 1), error


def test_a_template_is_named(judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rows := tmp_path / "rows.jsonl").write_text('{"prompt": "q", "a": "x", "b": "y"}')
    (template := tmp_path / "template.json").write_text(
        json.dumps({"name": "mine", "text": "{prompt} {a} {b} " + HALF, "labels": ["A", "B"]})
    )
    code, _, error = run(
        capsys, "score", "--model", judge_folder, "--template", template,
        "--input", rows, "--output", tmp_path / "out.jsonl",
    )  # fmt: skip
    assert code == 1 and "template.json: template 'mine': holds half of a surrogate pair" in error
    with pytest.raises(TemplateError, match="half of a surrogate pair"):
        JudgeTemplate("mine", "{prompt} {a} {b}", (HALF, "B"))


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_path_that_is_no_text_is_still_a_json_line(
    likelihood_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python reads such a name as half pairs; the line at the end holds them as JSON writes them."""
    (rows := tmp_path / "rows.jsonl").write_text('{"prompt": "q", "response": "x"}')
    output = tmp_path / os.fsdecode(b"out\xff.jsonl")
    code, result, error = run(
        capsys, "score", "--model", likelihood_folder, "--input", rows, "--output", output
    )
    assert (code, result["output"]) == (0, str(output)), error
    assert output.is_file()
