"""Few labels of a task that gram-small never had labels for: conala, and one debate of ukp_convarg.

The judge, the likelihood and the Bradley-Terry head on the same body go through `gram adapt`; a bag of words
learns from the same labels. Those of the debate come from the side "yes", tests from the side "no", so that
no argument is in both.
Command: python -m experiments.real_text.adaptation (about half an hour of one core). Writes one line per
result into experiments/results/real_text_adaptation.jsonl and goes on where it stopped; --table only prints.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from experiments.claims.study import markdown
from experiments.real_text.arms import ARMS, LENGTH, MODELS, folder
from experiments.real_text.mix import Row, rows_of, sample, write

import gram
from gram.adaptation.checkpoint import adapt_checkpoint
from gram.adaptation.config import AdaptConfig
from gram.data import read_preferences
from gram.evaluation.floors import bag_of_words, length_rule
from gram.modeling.quiet import quiet_libraries
from gram.statistics import credit, mean_by_group
from gram.types import FloatArray, Preference

RESULTS = Path("experiments/results/real_text_adaptation.jsonl")
FOLDER = MODELS / "adaptation"
COUNTS = (30, 100, 300)
DEBATE = "670275e7a002"
"""India has the potential to lead the world: a group of the test split, of which no label was ever used."""
TASKS = {"conala": "conala", "debate": "one debate of ukp_convarg"}
ADAPTED = ("judge", "likelihood", "bradley_terry")
HOW: dict[str, Any] = {"learning_rates": [1e-3], "max_steps": 32}
"""Not the defaults, which try two rates and more steps: chosen for time, before any result was seen."""


def task_rows(task: str) -> tuple[list[Row], list[Row]]:
    """Rows to draw labels from, and test rows."""
    if task == "conala":
        return rows_of("conala", "train"), rows_of("conala", "test")
    rows = [row for row in rows_of("ukp_convarg", "test") if row["group"] == DEBATE]
    for (
        row
    ) in rows:  # a debate is one group; folds of gram adapt keep the pairs of one winning argument together
        row["group"] = blake2b(row["chosen"].encode(), digest_size=6).hexdigest()
    yes = [row for row in rows if row["subset"].endswith("yes-for")]
    return yes, [row for row in rows if row not in yes]


def data(task: str) -> dict[str, Path]:
    """Files of the task: its test rows, and its first labels in one random order."""
    labels, tests = task_rows(task)
    order = sample(labels, len(labels), 0)
    files = {str(count): order[:count] for count in COUNTS} | {"test": tests}
    for name, rows in files.items():
        write(rows, FOLDER / task / f"{name}.jsonl")
    return {name: FOLDER / task / f"{name}.jsonl" for name in files}


def run(task: str, method: str, count: int) -> dict[str, Any]:
    """Accuracy on the test rows with so many labels."""
    files = data(task)
    tests = read(files["test"])
    facts: dict[str, Any] = {}
    if method == "bag_of_words":
        p_a = bag_of_words(tests, read(files[str(count)]))
    elif method == "length_rule":
        p_a = length_rule(tests)
    else:
        model = folder(method)
        if count:
            output = FOLDER / task / f"{method}-{count}"
            config = AdaptConfig(str(model), [str(files[str(count)])], output, overwrite=True, **HOW)
            found = adapt_checkpoint(config)
            facts = {"adopted": found["adopted"], "seconds": found["seconds"]}
            model = output
        p_a = ask(model, tests)
    right = credit(p_a, np.ones(len(tests)))
    estimate = mean_by_group(right, np.array([row.group for row in tests]))
    value = [round(x, 4) for x in (estimate.value, estimate.low, estimate.high)]
    return {"task": task, "method": method, "labels": count, "accuracy": value, "n": estimate.n, **facts}


def read(path: Path) -> list[Preference]:
    return list(read_preferences([str(path)]).examples)


def ask(model: Path, rows: Sequence[Preference]) -> FloatArray:
    return gram.load(model, max_length=LENGTH, device="cpu").compare([row.pair for row in rows]).p_a


def cells() -> list[tuple[str, str, int]]:
    found = []
    for task in TASKS:
        found += [(task, "length_rule", 0), *((task, "bag_of_words", count) for count in COUNTS)]
        found += [(task, method, count) for count in (0, *COUNTS) for method in ADAPTED]
    return found


def results() -> list[dict[str, Any]]:
    """What is on file."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return [json.loads(line) for line in lines]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Accuracy by number of labels, one row per task and method; old: gram adapt kept the old model."""
    by_cell = {(row["task"], row["method"], row["labels"]): row for row in found}
    titles = {name: ARMS[name].title for name in ADAPTED}
    titles |= {"bag_of_words": "bag of words", "length_rule": "length rule"}
    rows = []
    for task, title in TASKS.items():
        for method, name in titles.items():
            cells = [by_cell.get((task, method, count)) for count in (0, *COUNTS)]
            rows.append([title, name, *(_cell(row) for row in cells)])
    return markdown(["task", "", *(f"{count} labels" for count in (0, *COUNTS))], rows)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    value, low, high = row["accuracy"]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" + (" (old)" if row.get("adopted") is False else "")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="run nothing")
    quiet_libraries()
    if not parser.parse_args(arguments).table:
        known = {(row["task"], row["method"], row["labels"]) for row in results()}
        for cell in cells():
            if cell not in known:
                line = json.dumps(run(*cell))
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
    print(table(results()))


if __name__ == "__main__":
    main()
