"""``gram demo``: the whole idea on two cores."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gram.demo.story import Story


@dataclass(frozen=True)
class Config:
    """Learn without labels, align with few, and rank where no label ever was: in a small world.

    Trains seven methods from scratch, prints a table, and writes report.html and the trained reward model.
    """

    output: Path = Path("runs/demo")
    """Folder for the report and the model; an earlier demonstration in it is replaced."""
    seed: int = 0
    """Seed of the world, the weights and the order of training."""
    quick: bool = False
    """A minute instead of five: shows the way, not the numbers."""


def run(config: Config) -> dict[str, Any]:
    """Tell the story; returns the numbers."""
    from gram.demo.lab import Lab
    from gram.demo.page import figures, html
    from gram.demo.recipe import FULL, QUICK
    from gram.demo.save import save_judge
    from gram.demo.story import tell
    from gram.demo.world import World
    from gram.files import atomic_write, make_folder
    from gram.modeling.quiet import quiet_libraries
    from gram.plots import save

    began = time.monotonic()
    quiet_libraries()
    make_folder(config.output)
    recipe = QUICK if config.quick else FULL
    world = World(config.seed)
    lab = Lab(world, recipe, config.seed)
    story = tell(lab)
    model = config.output / "model"
    save_judge(model, lab, story)
    pictures = figures(story)
    for name, figure in pictures.items():
        save(figure, config.output / f"{name}.png")
    seconds = time.monotonic() - began
    report = config.output / "report.html"
    with atomic_write(report) as file:
        about = {"seed": config.seed, "seconds": seconds, "quick": config.quick, "model": str(model)}
        file.write(html(story, pictures, world, recipe, **about))
    _print(story)
    return {
        "seconds": round(seconds, 1),
        "seed": config.seed,
        "quick": config.quick,
        "accuracy": {
            method: {half: round(estimate.value, 4) for half, estimate in row.items()}
            for method, row in story.accuracy.items()
        },
        "accuracy_over_labels": {
            labels: {name: round(estimate.value, 4) for name, estimate in row.items()}
            for labels, row in story.over_labels.items()
        },
        "best_of_n": {
            chooser: {n: round(estimate.value, 4) for n, estimate in curve.items()}
            for chooser, curve in story.best_of_n.items()
        },
        "parts": story.seconds,
        "model": str(model),
        "report": str(report),
    }


def _print(story: Story) -> None:
    """The table and the ranked example, for people: on stderr, since stdout holds the JSON line."""
    from rich.console import Console
    from rich.table import Table

    from gram.demo.story import METHODS

    console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)
    table = Table(title="Accuracy [95% interval]")
    table.add_column("method")
    table.add_column("")
    table.add_column("with labels", justify="right")
    table.add_column("never labeled", justify="right")
    for name, row in story.accuracy.items():
        cells = [f"{e.value:.3f} [{e.low:.2f}, {e.high:.2f}]".replace("[", r"\[") for e in row.values()]
        table.add_row(name, METHODS[name], *cells, style="bold" if name == "gram" else None)
    console.print(table)
    assert story.example is not None
    contest, gold, ranking = story.example
    console.print(f"\nRanked by gram, a family without labels: {contest.prompt[0].content!r}")
    for number, place in enumerate(ranking.order, start=1):
        console.print(
            f"  {number}. gold {gold[place]:.2f}  wins {ranking.wins[place]:.2f}  {contest.responses[place]}",
            highlight=False,
        )
    last = {name: list(curve.values())[-1].value for name, curve in story.best_of_n.items()}
    size = list(next(iter(story.best_of_n.values())))[-1]
    console.print(f"\nGold of the best of {size}: " + ", ".join(f"{k} {v:.2f}" for k, v in last.items()))
