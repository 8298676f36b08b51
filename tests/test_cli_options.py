"""Options of how a model is asked: each flag gives what the argument of ``gram.load`` gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import run
from gram import Pair

PAIRS = [
    Pair("what is in the garden near the old tower ?", "the silver key .", "bread and a river of silver"),
    Pair("what is at the market ?", "the <|end|> .", "the river and the school ."),
]


@pytest.mark.parametrize(
    ("flags", "given", "changes"),
    [
        ("--length-power 1", {"length_power": 1.0}, True),
        ("--baseline unconditional", {"baseline": "unconditional"}, True),
        ("--raw-control-tokens", {"neutralise": False}, True),
        ("--max-length 16", {"max_length": 16}, True),
        ("--token-budget 40", {"token_budget": 40}, False),
        ("--engine plain", {"engine": "plain"}, False),
    ],
)
def test_a_flag_is_the_argument(
    flags: str,
    given: dict[str, Any],
    changes: bool,
    likelihood_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    asked = [{"prompt": pair.prompt[0].content, "a": pair.a, "b": pair.b} for pair in PAIRS]
    rows.write_text("".join(json.dumps(row) + "\n" for row in asked))
    command = ["score", "--model", likelihood_folder, "--input", rows, "--output", output, "--device", "cpu"]
    code, _, said = run(capsys, *command, *flags.split())
    assert code == 0, said
    scores = [json.loads(line)["log_odds"][0] for line in output.read_text().splitlines()]
    wanted = gram.load(likelihood_folder, device="cpu", **given).compare(PAIRS).log_odds[:, 0]
    assert scores == pytest.approx(wanted.tolist(), abs=1e-3)
    usual = gram.load(likelihood_folder, device="cpu").compare(PAIRS).log_odds[:, 0]
    assert (scores != pytest.approx(usual.tolist(), abs=1e-2)) == changes
