"""Asks every arm about every test row, once; the answers are kept.

Command: python -m experiments.real_text.measure [ARM ...] (about five minutes of one core for each arm).
Writes one line per row into runs/gram-small/asked/ARM/SOURCE.jsonl and goes on where it stopped; with --seed
it asks the arms of that seed, and writes into runs/gram-small/seed-N/asked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from experiments.real_text.arms import ARMS, home, load
from experiments.real_text.rows import labeled, test_rows

from gram.evaluation.floors import bag_of_words, length_rule
from gram.files import atomic_write
from gram.modeling.quiet import quiet_libraries
from gram.progress import chunks, parts_with_progress
from gram.types import Preference, PreferenceModel

FLOORS = {"bag_of_words": "bag of words", "length_rule": "length rule"}
_CHUNK = 128

Asked = dict[str, Any]


def asked(seed: int = 0) -> Path:
    """The folder of what the arms of a seed said."""
    return home(seed) / "asked"


def ask(name: str, seed: int = 0) -> Path:
    """Ask one arm, or floor, about the sources that are not on file yet."""
    model = None
    for kind, source, rows in test_rows():
        path = asked(seed) / name / f"{source}.jsonl"
        if path.exists():
            continue
        if name in FLOORS:
            odds = _floor(name, rows)
        else:
            model = model or load(name, seed)
            odds = _odds(model, rows, f"{name}: {source}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            for row, pair in zip(rows, odds, strict=True):
                line = {"set": kind, "source": source, "id": row.id, "group": row.group, "log_odds": pair}
                file.write(json.dumps(line) + "\n")
    return asked(seed) / name


def read(name: str, seed: int = 0) -> list[Asked]:
    """What is on file for an arm."""
    files = sorted((asked(seed) / name).glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def _odds(model: PreferenceModel, rows: Sequence[Preference], title: str) -> list[list[float]]:
    found: list[list[float]] = []
    for chunk in parts_with_progress(chunks(rows, _CHUNK), title=title):
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
    parser.add_argument("--seed", type=int, default=0, help="of stage 2")
    options = parser.parse_args(arguments)
    wanted = options.names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no arm {min(unknown)}; there are {', '.join(names)}")
    quiet_libraries()
    for name in wanted:
        print(ask(name, options.seed))


if __name__ == "__main__":
    main()
