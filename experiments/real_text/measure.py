"""Asks every arm about every test row, once; the answers are kept.

Command: python -m experiments.real_text.measure [ARM ...] (about five minutes of one core for each arm).
Writes one line per row into runs/gram-small/asked/ARM/SOURCE.jsonl and goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from experiments.real_text.arms import ARMS, MODELS, load
from experiments.real_text.rows import labeled, test_rows

from gram.cli.quiet import quiet_libraries
from gram.data.journal import atomic_write
from gram.evaluation.floors import bag_of_words, length_rule
from gram.progress import chunks_with_progress
from gram.types import Preference, PreferenceModel

ASKED = MODELS / "asked"
FLOORS = {"bag_of_words": "bag of words", "length_rule": "length rule"}
_CHUNK = 128

Asked = dict[str, Any]


def ask(name: str, folder: Path = ASKED) -> Path:
    """Ask one arm, or floor, about the sources that are not on file yet."""
    model = None
    for kind, source, rows in test_rows():
        path = folder / name / f"{source}.jsonl"
        if path.exists():
            continue
        if name in FLOORS:
            odds = _floor(name, rows)
        else:
            model = model or load(name)
            odds = _odds(model, rows, f"{name}: {source}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            for row, pair in zip(rows, odds, strict=True):
                line = {"set": kind, "source": source, "id": row.id, "group": row.group, "log_odds": pair}
                file.write(json.dumps(line) + "\n")
    return folder / name


def read(name: str, folder: Path = ASKED) -> list[Asked]:
    """What is on file for an arm."""
    files = sorted((folder / name).glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def _odds(model: PreferenceModel, rows: Sequence[Preference], title: str) -> list[list[float]]:
    found: list[list[float]] = []
    for chunk in chunks_with_progress(rows, _CHUNK, title=title):
        found += model.compare([row.pair for row in chunk]).log_odds.round(5).tolist()
    return found


def _floor(name: str, rows: Sequence[Preference]) -> list[list[float]]:
    """A floor gives probabilities, the same in both orders."""
    p_a = length_rule(rows) if name == "length_rule" else bag_of_words(rows, labeled())
    p = p_a.clip(1e-6, 1 - 1e-6)
    odds = np.log(p) - np.log1p(-p)
    return [[x, x] for x in odds.tolist()]


def main(arguments: Sequence[str] | None = None) -> None:
    names = [*FLOORS, *ARMS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ARM", help=f"of {', '.join(names)}; default: all")
    wanted = parser.parse_args(arguments).names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no arm {min(unknown)}; there are {', '.join(names)}")
    quiet_libraries()
    for name in wanted:
        print(ask(name))


if __name__ == "__main__":
    main()
