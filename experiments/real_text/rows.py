"""The test rows of experiments/real_text.md. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.real_text.mix import FOLDER, LABELED, PREF

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
CALIBRATION = "calibration"


def labeled() -> list[Preference]:
    """The labels of stage 2."""
    return list(read_preferences([str(FOLDER / "labeled.jsonl")]).records)


def test_rows() -> Iterator[tuple[str, str, list[Preference]]]:
    """Name of the set, of the source, and its rows; none of a question or a pair that has a label."""
    known = labeled()
    for name, rows in SETS.items():
        for source in rows.sources:
            path = f"{PREF}/{source}.jsonl.gz::{rows.split}"
            found = read_preferences([path], max_per_source=rows.most, seed=0).records
            leaked = {id(leak.held_out) for leak in find_leaks(known, found)}
            yield name, source, [row for row in found if id(row) not in leaked]
    path = FOLDER / "calibration.jsonl"
    yield CALIBRATION, CALIBRATION, list(read_preferences([str(path)]).records)
