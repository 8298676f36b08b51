"""Asks every arm of gram-135m about every test row, once; the answers are kept.

Command: python -m experiments.foundation.measure [ARM ...] (a quarter of an hour of one core for each arm).
Writes one line per row into runs/gram-135m/asked/ARM and goes on where it stopped; with --seed it asks the
arms of that seed. What a whole arm said is put into experiments/results/gram_135m_answers, so that an arm
which is asked later can be compared with it row by row. --held-back asks only rows held back, by which the
kind that ships is chosen.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from experiments.foundation.arms import ARMS, Arm, home, load
from experiments.foundation.results import FOLDER
from experiments.foundation.rows import HELD, labels, test_rows

from gram.evaluation.floors import bag_of_words, length_rule
from gram.files import atomic_write, atomic_write_bytes
from gram.modeling.quiet import quiet_libraries
from gram.progress import chunks, parts_with_progress
from gram.types import Pair, Preference, PreferenceModel

FLOORS = {"bag_of_words": "bag of words", "length_rule": "length rule"}
KEPT = FOLDER / "gram_135m_answers"
_CHUNK = 64
_NO_PROMPT = "."
"""What stands in the place of the prompt for PMI: a user's turn that says nothing."""

Asked = dict[str, Any]


def asked(seed: int = 0) -> Path:
    """The folder of what the arms of a seed said."""
    return home(seed) / "asked"


def file_of(name: str, ring: str, source: str, seed: int = 0) -> Path:
    """What one arm said of one source."""
    return asked(seed) / name / f"{ring.replace(' ', '-')}.{source.replace(' ', '-')}.jsonl"


def ask(name: str, seed: int = 0, *, held_back: bool = False, token_budget: int | None = None) -> Path:
    """Ask one arm, or floor, about the sources that are not on file yet."""
    model = None
    for ring, source, rows in test_rows():
        if held_back and ring != HELD:
            break
        path = file_of(name, ring, source, seed)
        if path.exists():
            continue
        mass: list[float] | None = None
        if name in FLOORS:
            odds = _floor(name, rows)
        else:
            model = model or load(name, seed, token_budget)
            odds, mass = _odds(model, ARMS[name], rows, f"{name}: {source}")
        with atomic_write(path) as file:
            for place, (row, pair) in enumerate(zip(rows, odds, strict=True)):
                line = {
                    "ring": ring,
                    "source": source,
                    "id": row.id,
                    "group": row.group,
                    "subset": row.subset,
                }
                said = {"log_odds": pair} | ({"mass": mass[place]} if mass else {})
                file.write(json.dumps(line | said) + "\n")
    if not held_back:
        keep(name, seed)
    return asked(seed) / name


def keep(name: str, seed: int = 0) -> None:
    """Put what an arm said about all rows into the repository: equal answers give equal bytes."""
    lines = "".join(json.dumps(row) + "\n" for row in _asked_here(name, seed))
    atomic_write_bytes(kept(name, seed), gzip.compress(lines.encode(), mtime=0))


def kept(name: str, seed: int = 0) -> Path:
    """The file of the repository with what an arm said."""
    return KEPT / f"seed-{seed}" / f"{name}.jsonl.gz"


def read(name: str, seed: int = 0) -> list[Asked]:
    """What is on file for an arm: what was just asked, or else what the repository has; empty: nothing."""
    if rows := _asked_here(name, seed):
        return rows
    path = kept(name, seed)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _asked_here(name: str, seed: int) -> list[Asked]:
    files = sorted((asked(seed) / name).glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def _odds(
    model: PreferenceModel, arm: Arm, rows: Sequence[Preference], title: str
) -> tuple[list[list[float]], list[float] | None]:
    """Log-odds of each row in both orders, and of judges the label mass, mean of both orders."""
    found: list[list[float]] = []
    mass: list[float] = []
    for chunk in parts_with_progress(chunks(rows, _CHUNK), title=title):
        pairs = [row.pair for row in chunk]
        verdicts = model.compare(pairs)
        odds = verdicts.log_odds
        mass += verdicts.mass.mean(axis=1).round(5).tolist()
        if arm.without_prompt:
            odds = odds - model.compare([Pair(_NO_PROMPT, pair.a, pair.b) for pair in pairs]).log_odds
        found += odds.round(5).tolist()
    return found, mass if arm.kind == "judge" else None


def _floor(name: str, rows: Sequence[Preference]) -> list[list[float]]:
    """A floor gives probabilities, the same in both orders; a bag of words learns from all labels."""
    p_a = length_rule(rows) if name == "length_rule" else bag_of_words(rows, labels(10**9))
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
    parser.add_argument("--held-back", action="store_true", help="only rows held back")
    options = parser.parse_args(arguments)
    wanted = options.names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no arm {min(unknown)}; there are {', '.join(names)}")
    quiet_libraries()
    for name in wanted:
        print(ask(name, options.seed, held_back=options.held_back))


if __name__ == "__main__":
    main()
