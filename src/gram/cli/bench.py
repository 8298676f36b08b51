"""``gram bench``: speed beside what others do, in one run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from gram.bench.settings import BenchSettings, Subject


@dataclass(frozen=True, kw_only=True)
class Config(BenchSettings):
    """Time scoring or training steps beside their peers: random weights, lengths as of real answers, one run.

    Prints a Markdown table. On a CPU: one thread, process CPU seconds.
    """

    what: tyro.conf.Positional[Subject] = "score"
    """score: pairs, best-of-n and RL groups in both orders; train: stage 1 and stage 2 steps."""
    output: Path | None = None
    """JSON file to keep the numbers in."""
    plot: Path | None = None
    """Picture of the ratios, .png or .svg."""
    json: bool = False
    """Print the JSON line only."""


def run(config: Config) -> dict[str, Any]:
    """Measure and keep; prints the table."""
    from gram.bench import suite, tables

    result = suite.run(config.what, config, output=config.output, plot=config.plot, tell=_tell)
    if not config.json:
        print(tables.page(config.what, result["rows"]))
    return result


def _tell(message: str) -> None:
    if sys.stderr.isatty():
        print(f"gram bench: {message}", file=sys.stderr, flush=True)
