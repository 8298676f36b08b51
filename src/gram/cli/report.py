"""``gram report``: several runs of ``gram eval`` side by side, with paired differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from gram.bounds import Seed
from gram.claims import Reads, claimed_folder


@dataclass(frozen=True, kw_only=True)
class Config:
    """Put runs of gram eval over the same items side by side; the differences are from the first.

    Writes report.html, report.md and results.json. Runs over other items are refused.
    """

    runs: Annotated[list[str], tyro.conf.Positional] = field(default_factory=list)
    """Folders of gram eval, two or more."""
    output: Path = Path("runs/report")
    """Folder for the report."""
    seed: Seed = 0
    """Seed of the paired bootstrap."""


def run(config: Config) -> dict[str, Any]:
    """Compare; returns the differences over all comparisons."""
    from gram.report import COMPARISON, read_runs, write_comparison

    folders = [Path(folder) for folder in config.runs]
    with claimed_folder(config.output, COMPARISON, Reads(folders)):
        content = write_comparison(config.output, read_runs(folders), seed=config.seed)
    return {
        "output": str(config.output),
        "report": str(config.output / "report.html"),
        "scores": {run["name"]: run["scores"] for run in content["runs"]},
        "differences": {d["name"]: d["overall"] for d in content["differences_from_first"]},
    }
