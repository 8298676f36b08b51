"""Few labels of tasks that gram-135m never had a label of: what `gram adapt` makes of them, and its rivals.

gram-135m, its base and a Bradley-Terry model (the same labels and steps, on the same base) go through
`gram adapt`; a bag of words learns from the same few labels. Tasks: experiments/foundation/tasks.py, which
reads ../shared/data (see experiments/public_files.py).
Command: python -m experiments.foundation.adaptation, after `make foundation` and the arm bradley_terry_short
(a cell takes 1.5 to 7 minutes of one core for a judge, less for a likelihood; all of them about 4 hours
of one core, minutes on a GPU). Adds a line for each result to
experiments/results/gram_135m_adaptation.jsonl and goes on where it stopped; several can run at once, each
with its --tasks. --model and --rival take folders in place of the two models, --device cuda a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from experiments.claims.study import markdown
from experiments.foundation.arms import BASE, LENGTH, MODELS, SAME_LABELS, TEMPLATE, folder
from experiments.foundation.results import (
    FOLDER,
    MODEL,
    NOT_RUN,
    Result,
    add,
    command,
    numbers,
    read,
    refuse_others,
    shown,
    write,
)
from experiments.foundation.tasks import TASKS

import gram
from gram.adaptation.checkpoint import adapt_checkpoint
from gram.adaptation.config import AdaptConfig
from gram.asking import Kind
from gram.data import read_preferences
from gram.errors import ConfigError
from gram.evaluation.floors import bag_of_words, length_rule
from gram.modeling.manifest import read_manifest
from gram.modeling.quiet import quiet_libraries
from gram.modeling.shipped import model_folder
from gram.statistics import Estimate, credit, mean_by_group
from gram.types import FloatArray, Preference

RESULTS = FOLDER / "gram_135m_adaptation.jsonl"
RIVAL = folder(SAME_LABELS)
WORK = MODELS / "adaptation"
COUNTS = (0, 10, 30, 100, 300)
ADAPTED = ("gram", "base", "bradley_terry")
METHODS = (*ADAPTED, "bag_of_words", "length_rule")
HOW: dict[str, Any] = {"learning_rates": [1e-3], "max_steps": 16, "folds": 2, "batch_size": 8}
"""Not the defaults, which try two rates and more steps in five folds: chosen for time, before any result."""

Cell = tuple[str, str, int]


class Models:
    """What is adapted, and how it is asked."""

    def __init__(self, model: str, rival: str, device: str | None = None) -> None:
        place = model_folder(model)
        manifest = read_manifest(place) if place else None
        if manifest is None or manifest.kind == "scalar":
            raise ConfigError(f"--model {model}: is no judge and no likelihood of GRAM")
        self.kind: Kind = manifest.kind
        self.names = {"gram": model, "base": BASE, "bradley_terry": rival}
        self.device = device

    def adapt(self, method: str, labels: Path, output: Path) -> dict[str, Any]:
        """What `gram adapt` does; its summary."""
        base = {"kind": self.kind, "template": TEMPLATE if self.kind == "judge" else None}
        how = HOW | (base if method == "base" else {})
        return adapt_checkpoint(
            AdaptConfig(self.names[method], [str(labels)], output, device=self.device, **how)
        )

    def p_a(self, method: str, place: Path | None, rows: Sequence[Preference]) -> FloatArray:
        """Asked as it is, or what `gram adapt` has put into ``place``."""
        options: dict[str, Any] = {}
        if method == "base" and place is None:
            options = {"template": TEMPLATE} if self.kind == "judge" else {"length_power": 1.0}
            options["kind"] = self.kind
        model = gram.load(place or self.names[method], max_length=LENGTH, device=self.device, **options)
        return model.compare([row.pair for row in rows]).p_a


def run(cell: Cell, models: Models) -> Result:
    """Accuracy on the test rows with so many labels, or all that there are."""
    began, work = time.monotonic(), time.process_time()
    task, method, count = cell
    labels, tests = TASKS[task].rows()
    facts: dict[str, Any] = {"given": min(count, len(labels))}
    WORK.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=WORK) as scratch:  # an adapted model has 300 MB, and is asked once
        taught, tested = Path(scratch) / "labels.jsonl", Path(scratch) / "tests.jsonl"
        write(taught, labels[:count])
        write(tested, tests)
        rows = _read(tested)
        if method == "length_rule":
            p_a = length_rule(rows)
        elif method == "bag_of_words":  # without labels it says nothing
            p_a = bag_of_words(rows, _read(taught)) if count else np.full(len(rows), 0.5)
        else:
            place = Path(scratch) / "adapted" if count else None
            if place:
                facts["adopted"] = models.adapt(method, taught, place)["adopted"]
            p_a = models.p_a(method, place, rows)
    right = credit(p_a, np.ones(len(rows)))
    found = numbers(mean_by_group(right, np.array([row.group for row in rows])))
    facts |= {"seconds": round(time.monotonic() - began, 1), "cpu": round(time.process_time() - work, 1)}
    return {
        "model": models.names["gram"],
        "task": task,
        "method": method,
        "labels": count,
        "accuracy": found,
        **facts,
    }


def _read(path: Path) -> list[Preference]:
    return list(read_preferences([str(path)]).examples)


def cells(tasks: Sequence[str] = tuple(TASKS)) -> list[Cell]:
    """What is run, the small budgets first."""
    found: list[Cell] = [(task, "length_rule", 0) for task in tasks]
    for count in COUNTS:
        found += [(task, method, count) for task in tasks for method in METHODS if method != "length_rule"]
    return found


TITLES = {
    "gram": MODEL,
    "base": "the base",
    "bradley_terry": "Bradley-Terry",
    "bag_of_words": "bag of words",
    "length_rule": "length rule",
}


def table(found: Sequence[Result]) -> str:
    """Accuracy by number of labels, a row for each task and method; old: `gram adapt` kept the model.

    A length rule learns nothing, and has no cells with labels.
    """
    known = _by_cell(found)
    rows = []
    for task in TASKS:
        for method, name in TITLES.items():
            counts = [count for count in COUNTS if not (method == "length_rule" and count)]
            cells = [_cell(known.get((task, method, count))) for count in counts]
            rows.append([TASKS[task].title, name, *cells, *[""] * (len(COUNTS) - len(cells))])
    return markdown(["task", "", *(f"{count} labels" for count in COUNTS)], rows)


def _cell(found: Result | None) -> str:
    if found is None:
        return "not run yet"
    fewer = f" of {found['given']}" if found["given"] < found["labels"] else ""
    kept = " (old)" if found.get("adopted") is False else ""
    return shown(found["accuracy"]) + fewer + kept


def _by_cell(found: Sequence[Result]) -> dict[Cell, Result]:
    return {(row["task"], row["method"], row["labels"]): row for row in found}


def needed(found: Sequence[Result]) -> str:
    """The fewest labels that were tried with which each rival is as accurate as gram-135m with so many.

    "no": not with any number that was tried, "no so far": that was run. Accuracies are compared as they are,
    without their intervals.
    """
    known = _by_cell(found)
    rivals = [method for method in TITLES if method not in ("gram", "length_rule")]
    rows = []
    for task in TASKS:
        for count in COUNTS:
            mine = known.get((task, "gram", count))
            if mine is None:
                continue
            cells = [_fewest(known, task, rival, mine["accuracy"][0]) for rival in rivals]
            rows.append([TASKS[task].title, str(mine["given"]), f"{mine['accuracy'][0]:.3f}", *cells])
    head = [TITLES[rival] for rival in rivals]
    return markdown(["as accurate as", f"{MODEL} with labels", "its accuracy", *head], rows)


def _fewest(known: dict[Cell, Result], task: str, method: str, accuracy: float) -> str:
    cells = [known.get((task, method, count)) for count in COUNTS]
    enough = [cell["given"] for cell in cells if cell and cell["accuracy"][0] >= accuracy]
    return str(min(enough)) if enough else "no" if all(cells) else "no so far"


def picture(found: Sequence[Result], path: Path) -> bool:
    """Accuracy over the number of labels, a line for each method that has all cells; False: none has."""
    from gram import plots

    known = _by_cell(found)
    if not any(all((task, method, n) in known for n in COUNTS) for task in TASKS for method in TITLES):
        return False
    figure, left = plots.canvas(12.5, 7.2)
    left.remove()
    panels: Any = figure.subplots(2, 3)
    for ax, (task, about) in zip(panels.flat, TASKS.items(), strict=True):
        lines = {}
        for method, name in TITLES.items():
            cells = [cell for count in COUNTS if (cell := known.get((task, method, count)))]
            if len(cells) == len(COUNTS):
                lines[name] = [Estimate(*cell["accuracy"]) for cell in cells]
        if lines:
            given = [known[task, "bag_of_words", count]["given"] for count in COUNTS]
            plots.curve(ax, given, lines, title=about.title)
    plots.save(figure, path, dpi=110)
    return True


def section() -> str:
    """What the page says, from the results on file."""
    found = read(RESULTS)
    if not found:
        return NOT_RUN
    title = "The fewest labels, of those tried, with which each rival is as accurate:"
    return f"{table(found)}\n\n{title}\n\n{needed(found)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command(__doc__, RIVAL)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args(arguments)
    quiet_libraries()
    if not options.table:
        refuse_others(RESULTS, options.model)
        models = Models(options.model, options.rival, options.device)
        for cell in cells(options.tasks):
            if cell not in _by_cell(read(RESULTS)):
                add(RESULTS, run(cell, models))
    print(section())


if __name__ == "__main__":
    main()
