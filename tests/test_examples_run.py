"""The examples that are pages of the tutorial run from top to bottom, in quick mode and on a tiny model.

Their numbers mean nothing there. What is held: all lines run, the numbers that a page shows are those that
come out, the picture is drawn, and rows that are measured on were never learned from.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("matplotlib")

import gram

ROOT = Path(__file__).resolve().parents[1]
DOCS = runpy.run_path(str(ROOT / "docs" / "examples.py"))


def as_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *arguments: object
) -> dict[str, Any]:
    """Runs an example as ``python examples/NAME.py ARGUMENTS`` would; gives what its last line says."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    capsys.readouterr()
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return partial(as_command, monkeypatch, capsys)


def form(value: Any) -> Any:
    """The names in what an example prints, without what differs from run to run."""
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items() if key not in ("output", "rewards")}
    return isinstance(value, str)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", DOCS["SCRIPTS"])
def test_a_page_shows_the_code_of_its_script(name: str) -> None:
    """And what it shows of a run stands as ``python docs/examples.py`` would write it."""
    text = DOCS["page"](name).read_text(encoding="utf-8")
    script = (ROOT / "examples" / f"{DOCS['SCRIPTS'][name]}.py").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks and all(block in script for block in blocks)
    assert DOCS["filled"](text, DOCS["shown"](name)) == text
    assert f"images/example-{name}.png" in text


def test_adapting(example: Any, judge_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    said = example("adapt_with_100_labels", "--quick", "--model", judge_folder, "--output", output)
    assert (output / "picture.png").stat().st_size > 10_000
    assert form(said) == form(DOCS["shown"]("adapt"))
    labels, test = read(output / "labels.jsonl"), read(output / "test.jsonl")
    assert (len(labels), len(test)) == (12, 24)
    assert not {row["prompt"] for row in labels} & {row["prompt"] for row in test}
    # Six questions with four rows each: whatever is measured lies in its interval.
    for estimate in (said["before"], said["after"], *said["floors"].values()):
        assert estimate["low"] <= estimate["value"] <= estimate["high"] and estimate["n"] == 24
    change = said["after"]["value"] - said["before"]["value"]
    assert said["gain"]["difference"] == pytest.approx(change, abs=0.02)


def test_best_of_n(example: Any, judge_folder: Path, tmp_path: Path) -> None:
    """Of 4 answers with gold 1, 0.5, 0 and 0 the best is 1, and one at random 3/8."""
    output, models = tmp_path / "out", [tmp_path / "gram-135m", tmp_path / "adapted"]
    for place in models:
        place.symlink_to(judge_folder)
    said = example("best_of_n", "--quick", "--model", *models, "--output", output)
    assert (output / "picture.png").stat().st_size > 10_000
    assert form(said) == form(DOCS["shown"]("best-of-n"))
    rows = read(output / "answers.jsonl")
    assert len(rows) == 4 and all(sorted(row["scores"]) == [0.0, 0.0, 0.5, 1.0] for row in rows)
    assert said["n"] == 4
    assert said["gold"]["best there is"]["value"] == 1 and said["gold"]["random"]["value"] == 0.38
    # The mean log-odds choose as gram.rank does, of which gram.best_of_n takes the first.
    model = gram.load(judge_folder)
    by_rank = [gram.rank(model, row["prompt"], row["responses"]).order[0] for row in rows]
    scores = [row["scores"][place] for row, place in zip(rows, by_rank, strict=True)]
    assert said["gold"]["adapted"]["value"] == pytest.approx(sum(scores) / 4, abs=0.01)
    assert said["gain over random"]["adapted"]["value"] == pytest.approx(sum(scores) / 4 - 3 / 8, abs=0.01)
    assert said["chosen"]["adapted"] == rows[0]["responses"][by_rank[0]]


def test_every_reply_has_a_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    from tutorial.household import LABELED, NEW, first_half  # pyright: ignore[reportMissingImports]

    replies = [*LABELED.values(), *NEW.values()]
    assert len(set(replies)) == len(LABELED | NEW) == 75
    assert all(len(first_half(reply)) < len(reply) for reply in replies)


@pytest.mark.slow
def test_grpo_with_a_served_judge(example: Any, judge_folder: Path, tmp_path: Path) -> None:
    """Policy, prompts and server are made by the script; the server is gone when it ends."""
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    output = tmp_path / "out"
    said = example("trl_grpo_served", "--quick", "--model", judge_folder, "--output", output)
    assert (output / "picture.png").stat().st_size > 10_000
    assert form(said) == form(DOCS["shown"]("grpo"))
    assert said["steps"] == len(said["rewards"]) == 3 and said["failures"] == 0
    rows = read(output / "prompts.jsonl")
    right = {row["prompt"]: row["response"] for row in read(output / "advice.jsonl")[::4]}
    assert len(rows) == len(right) == 4
    assert all(right[row["prompt"][0]["content"]] != row["reference"] for row in rows)
    for estimate in (said["gold_before"], said["gold_after"], said["change"]):
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert psutil.Process().children() == []
