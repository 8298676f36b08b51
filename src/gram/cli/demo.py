"""``gram demo``: the whole idea on two cores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gram.bounds import Seed


@dataclass(frozen=True)
class Config:
    """Learn without labels, align with few, and rank where no label ever was: in a small world.

    Trains seven methods from scratch, prints a table, and writes report.html and the trained reward model.
    """

    output: Path = Path("runs/demo")
    """Folder for the report and the model; an earlier demonstration in it is replaced."""
    seed: Seed = 0
    """Seed of the world, the weights and the order of training."""
    quick: bool = False
    """A minute instead of five: shows the way, not the numbers."""


def run(config: Config) -> dict[str, Any]:
    """Tell the story and print its tables; returns the numbers."""
    from gram.demo.console import print_story
    from gram.demo.demonstrate import demonstrate

    return demonstrate(config.output, seed=config.seed, quick=config.quick, show=print_story)
