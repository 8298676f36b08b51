"""What all claims share: cells that are run once and kept, intervals over seeds, and the command line.

A cell is one setting with one seed. Its result is one line of a JSONL file, written when it is there, so
that a stopped study goes on where it was. Knows no model.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gram.modeling.quiet import quiet_libraries
from gram.statistics import over_seeds

RESULTS = Path("experiments/results/claims")
FOLDER = Path("runs/claims")

Cell = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One claim.

    Attributes:
        name: of the file of results.
        seeds: of the full setting.
        cells: the settings for one seed; every one is a flat dict of JSON values.
        run: measures one cell (with its ``seed``); the second argument is the place for models, the third
            says that a smoke run will do.
        table: results as Markdown.
        statements: what the claim says, each with its differences over seeds, which it expects above 0.
        picture: draws the results into a file.
    """

    name: str
    seeds: Sequence[int]
    cells: Callable[[bool], list[Cell]]
    run: Callable[[Cell, Path, bool], Result]
    table: Callable[[list[Result]], str]
    statements: Callable[[list[Result]], dict[str, list[float]]]
    picture: Callable[[list[Result], Path], None]


def main(study: Study, doc: str | None, arguments: Sequence[str] | None = None) -> list[Result]:
    """The command line of a study: run what is not on file, then print the table."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(study.seeds))
    parser.add_argument("--smoke", action="store_true", help="tiny models, one seed: does it run")
    parser.add_argument("--output", type=Path, default=None, help="JSONL file of results")
    parser.add_argument("--models", type=Path, default=None, help="folder of models that are made once")
    parser.add_argument("--table", action="store_true", help="run nothing: print what is on file")
    options = parser.parse_args(arguments)
    quiet_libraries()
    default = FOLDER / "smoke" / f"{study.name}.jsonl" if options.smoke else RESULTS / f"{study.name}.jsonl"
    output = options.output or default
    models = options.models or (FOLDER / "smoke" if options.smoke else FOLDER)
    seeds = options.seeds[:1] if options.smoke else options.seeds
    if not options.table:
        for seed in seeds:
            for cell in study.cells(options.smoke):
                _once(study, {"seed": seed} | cell, output, models, options.smoke)
    results = read(output)
    print(study.table(results))
    return results


def _once(study: Study, cell: Cell, output: Path, models: Path, smoke: bool) -> None:
    if any(cell.items() <= result.items() for result in read(output)):
        return
    began = time.process_time()
    result = cell | study.run(cell, models, smoke)
    result["cpu_seconds"] = round(time.process_time() - began, 1)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


def read(path: Path) -> list[Result]:
    """The results on file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cell_text(values: Sequence[float], digits: int = 3, sign: bool = False) -> str:
    """``0.912 ± 0.031`` over seeds."""
    found = over_seeds(values)
    shown = f"{found.value:{'+' if sign else ''}.{digits}f}"
    return shown if math.isnan(found.high) else f"{shown} ± {found.high - found.value:.{digits}f}"


def select(results: Sequence[Result], **wanted: Any) -> list[Result]:
    """The results of these settings, by seed."""
    found = [r for r in results if all(r.get(key) == value for key, value in wanted.items())]
    return sorted(found, key=lambda result: result["seed"])


def values(results: Sequence[Result], key: str, **wanted: Any) -> list[Any]:
    """One entry of each result of these settings, by seed."""
    return [result[key] for result in select(results, **wanted)]


def paired(results: Sequence[Result], key: str, one: Cell, other: Cell) -> list[float]:
    """Seed by seed, what ``one`` has more of than ``other``."""
    first = {r["seed"]: r[key] for r in select(results, **one)}
    second = {r["seed"]: r[key] for r in select(results, **other)}
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
