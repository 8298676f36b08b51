"""The labels that `make foundation` learns from, taken from data/."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from experiments.foundation import lessons
from experiments.foundation.data import LABELS

from gram.training.config import load_config

ROOT = Path(__file__).parents[1]
ROWS = [json.loads(line) for line in gzip.decompress((ROOT / LABELS).read_bytes()).splitlines()]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, str]]]:
    for name in ("EASY", "SHORT"):
        monkeypatch.setattr(lessons, name, tmp_path / f"{name.lower()}.jsonl")
    monkeypatch.setattr(lessons, "LABELS", ROOT / LABELS)
    lessons.write()
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (lessons.EASY, lessons.SHORT)
    }


def test_lessons_are_labels_in_their_order(written: dict[str, list[dict[str, str]]]) -> None:
    for rows in written.values():
        known = {row["id"]: number for number, row in enumerate(ROWS)}
        order = [known[row["id"]] for row in rows]
        assert order == sorted(order) and all(ROWS[at] == row for at, row in zip(order, rows, strict=True))


def test_as_many_as_the_page_says(written: dict[str, list[dict[str, str]]]) -> None:
    page = (ROOT / "docs" / "gram-135m.md").read_text(encoding="utf-8")
    assert {name: len(rows) for name, rows in written.items()} == {"easy": 4_131, "short": 12_519}
    assert all(f"{len(rows):,}" in page for rows in written.values())


def test_easy_ones_are_short_and_of_open_tasks(written: dict[str, list[dict[str, str]]]) -> None:
    short = {row["id"] for row in written["short"]}
    assert all(row["id"] in short for row in written["easy"])
    assert {row["subset"].rpartition("/")[2] for row in written["easy"]} == set(lessons.EASY_KINDS)
    left = [row for row in ROWS if row["id"] not in short]
    assert left and all(not lessons.is_short(row) for row in left)


def test_configs_learn_from_them() -> None:
    for name, path in (("2-easy", lessons.EASY), ("3-finetune", lessons.SHORT)):
        assert load_config(ROOT / "configs" / "gram-135m" / f"{name}.yaml").data == [str(path)]
