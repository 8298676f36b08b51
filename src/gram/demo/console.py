"""The demonstration's tables and its ranked example, for people at a terminal.

Prints on stderr, since stdout holds the JSON line. Knows a story's numbers; trains and measures nothing.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from gram.demo.story import METHODS, Story


def print_story(story: Story) -> None:
    """The table of accuracies, one ranking, and the gold of what each chooser takes."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)
    console.print(_accuracies(story))
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


def _accuracies(story: Story) -> Table:
    table = Table(title="Accuracy [95% interval]")
    table.add_column("method")
    table.add_column("")
    table.add_column("with labels", justify="right")
    table.add_column("never labeled", justify="right")
    for name, row in story.accuracy.items():
        cells = [f"{e.value:.3f} [{e.low:.2f}, {e.high:.2f}]".replace("[", r"\[") for e in row.values()]
        table.add_row(name, METHODS[name], *cells, style="bold" if name == "gram" else None)
    return table
