"""The test rows of experiments/real_text.md. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.real_text.mix import FOLDER, LABELED, PREF
from experiments.real_text.spoiled import SPOILS

from gram.data import find_leaks, read_preferences
from gram.types import Preference


@dataclass(frozen=True)
class Rows:
    """Rows of one kind: at most ``most`` of the ``split`` of each source."""

    split: str
    sources: tuple[str, ...]
    most: int


SETS = {
    "out of distribution": Rows(
        "eval",
        (
            "rm_bench",
            "judgebench",
            "llmbar",
            "pandalm",
            "tulu_human",
            "xstest",
            "truthfulqa",
            "hhh",
            "ifbench",
            "humanevalpack",
            "llmbar_processed",
            "piqa",
            "qlora_vicuna",
        ),
        250,
    ),
    "in distribution": Rows("test", LABELED, 150),
    "tasks without a label": Rows("test", ("conala", "rose_summ", "ukp_convarg"), 250),
}
CALIBRATION, SPOILED = "calibration", "spoiled"
"""Rows that no table of the three sets has: labels held back, and spoiled answers to test prompts."""


def labeled() -> list[Preference]:
    """The labels of stage 2."""
    return _read("labeled")


def test_rows() -> Iterator[tuple[str, str, list[Preference]]]:
    """Name of the set, of the source, and its rows; none of a question or a pair that has a label."""
    known = labeled()
    for name, rows in SETS.items():
        for source in rows.sources:
            path = f"{PREF}/{source}.jsonl.gz::{rows.split}"
            found = read_preferences([path], max_per_source=rows.most, seed=0).examples
            leaked = {id(leak.held_out) for leak in find_leaks(known, found)}
            yield name, source, [row for row in found if id(row) not in leaked]
    yield CALIBRATION, CALIBRATION, _read("calibration")
    free = _read("spoiled_test")
    for kind in SPOILS:
        yield SPOILED, f"{SPOILED}_{kind}", [row for row in free if row.subset == kind]


def _read(name: str) -> list[Preference]:
    return list(read_preferences([str(FOLDER / f"{name}.jsonl")]).examples)
