"""Rows that no stage 2 and no test set has, to choose a recipe of gram-small by.

Command: python -m experiments.real_text.unseen MODEL ... (after experiments.real_text.mix; a minute of one
core for each model). Train rows of questions whose labels are not used, and their better answers beside
spoiled ones, three in seven of them answers to another question. Prints the accuracy of each folder's
likelihood.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from experiments.claims.study import markdown
from experiments.real_text.arms import LENGTH
from experiments.real_text.mix import FOLDER, LABELED, Row, rows_of, write
from experiments.real_text.spoiled import LEAST_WORDS, LONGEST, SPOILS

import gram
from gram.data import read_preferences
from gram.modeling.manifest import read_manifest
from gram.modeling.quiet import quiet_libraries
from gram.statistics import credit
from gram.types import Preference

MOST, MOST_SPOILED = 120, 100
"""Rows of one source."""


def unseen(used: Sequence[Row], seed: int = 7) -> tuple[list[Row], list[Row]]:
    """Labeled rows, and spoiled answers, of train questions that the rows ``used`` do not ask."""
    groups, prompts = {row["group"] for row in used}, {json.dumps(row["prompt"]) for row in used}
    draw = Random(seed)
    labels: list[Row] = []
    free: list[Row] = []
    for source in LABELED:
        rows = [row for row in rows_of(source, "train") if row["group"] not in groups]
        rows = [row for row in rows if json.dumps(row["prompt"]) not in prompts]
        draw.shuffle(rows)
        labels += rows[:MOST]
        texts = [(_text(row["prompt"])[:LONGEST], _text(row["chosen"])) for row in rows]
        pool = [pair for pair in texts if len(pair[1]) <= LONGEST and len(pair[1].split()) >= LEAST_WORDS]
        for prompt, answer in pool[:MOST_SPOILED]:
            kind = draw.choice([*SPOILS, "other", "other"])
            foreign, other = draw.choice(pool)
            worse = SPOILS[kind](answer, prompt, other, draw)
            if worse.strip() and worse != answer and foreign != prompt:
                made = {"prompt": prompt, "chosen": answer, "rejected": worse}
                free.append({"id": f"{source}-{len(free)}", "subset": kind} | made)
    return labels, free


def _text(value: Any) -> str:
    """A prompt or an answer, of a conversation its last turn."""
    return value if isinstance(value, str) else value[-1]["content"]


def accuracies(folder: Path, rows: Mapping[str, Sequence[Preference]]) -> dict[str, float]:
    """Of a folder's likelihood, by the mean per token where it was not trained on preferences."""
    manifest = read_manifest(folder)
    trained = manifest is not None and manifest.objective.get("name") == "likelihood"
    power = None if trained else 1.0
    model: Any = gram.load(folder, "likelihood", max_length=LENGTH, device="cpu", length_power=power)
    return {
        name: float(
            np.mean(
                credit(model.compare([row.pair for row in part]).p_a, np.array([row.p_a for row in part]))
            )
        )
        for name, part in rows.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", type=Path, help="model folders")
    models = parser.parse_args(arguments).models
    quiet_libraries()
    used = [
        json.loads(line)
        for name in ("labeled", "calibration")
        for line in (FOLDER / f"{name}.jsonl").open(encoding="utf-8")
    ]
    for name, drawn in zip(("unseen", "unseen_spoiled"), unseen(used), strict=True):
        write(drawn, FOLDER / f"{name}.jsonl")
    rows = {
        name: list(read_preferences([str(FOLDER / f"{name}.jsonl")]).examples)
        for name in ("unseen", "calibration", "unseen_spoiled")
    }
    rows["another question's"] = [row for row in rows["unseen_spoiled"] if row.subset == "other"]
    found = [(folder, accuracies(folder, rows)) for folder in models]
    cells = [[str(folder), *(f"{value:.3f}" for value in of.values())] for folder, of in found]
    print(markdown(["model", *(f"{name} ({len(part)})" for name, part in rows.items())], cells))


if __name__ == "__main__":
    main()
