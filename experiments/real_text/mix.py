"""The data of stage 2: a sample of each permissive source's train rows, some held back to calibrate on.

Command: python -m experiments.real_text.mix (seconds; `make gram-small` runs it). Writes labeled.jsonl and
calibration.jsonl, the rows as they are in ../shared/data; spoiled.jsonl, comparisons that need no rater,
kept.jsonl, the first of them, and spoiled_test.jsonl, the same of test prompts. No group has rows both in
labeled and in calibration. Knows no model.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from experiments.real_text.spoiled import spoiled

from gram.files import atomic_write

PREF = Path("../shared/data/pref")
FOLDER = Path("runs/gram-small/data")
LABELED = (
    "arena_bench",
    "blimp",
    "debugbench",
    "dpo_demo",
    "ecare",
    "gsm8k_models",
    "hh_harmless",
    "oasst_trees",
    "qa_feedback",
    "sensemaking",
    "zeroeval",
)
"""Sources with train rows whose labels are used; conala, rose_summ and ukp_convarg stay without."""
CAP, CALIBRATION_CAP = 500, 40
"""Most rows of one source."""
SPOILED, KEPT, SPOILED_TEST = 6000, 1500, 1000
"""Comparisons without a label, how many stage 2 sees again, and at most how many of test prompts."""
_HELD_BACK = 16
"""One group in so many is for calibration."""

Row = dict[str, Any]


def rows_of(source: str, split: str) -> list[Row]:
    """The rows of one split of a source in ../shared/data/pref."""
    with gzip.open(PREF / f"{source}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row["split"] == split]


def is_held_back(group: str) -> bool:
    """Whether the rows of a group are for calibration: a sixteenth of all groups, whatever the sample."""
    return int.from_bytes(blake2b(group.encode(), digest_size=4).digest()) % _HELD_BACK == 0


def sample(rows: list[Row], most: int, seed: int) -> list[Row]:
    """At most so many rows, in a random order."""
    return Random(seed).sample(rows, min(most, len(rows)))


def mix(seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Labels for stage 2 and rows for calibration."""
    labeled: list[Row] = []
    calibration: list[Row] = []
    for source in LABELED:
        rows = rows_of(source, "train")
        labeled += sample([row for row in rows if not is_held_back(row["group"])], CAP, seed)
        calibration += sample([row for row in rows if is_held_back(row["group"])], CALIBRATION_CAP, seed)
    return labeled, calibration


def write(rows: list[Row], path: Path) -> None:
    """One row a line, whole or not at all."""
    with atomic_write(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    labeled, calibration = mix()
    free = spoiled(SPOILED)
    write(labeled, FOLDER / "labeled.jsonl")
    write(free, FOLDER / "spoiled.jsonl")
    write(free[:KEPT], FOLDER / "kept.jsonl")
    write(spoiled(SPOILED_TEST, split="test"), FOLDER / "spoiled_test.jsonl")
    write(calibration, FOLDER / "calibration.jsonl")
    print(f"{FOLDER}: {len(labeled)} labels, {len(free)} spoiled answers, {len(calibration)} to calibrate on")


if __name__ == "__main__":
    main()
