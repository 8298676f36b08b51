"""The whole demonstration: a world, a lab, its story, and what is kept of them in one folder.

Knows the order of the work and the fields of its result; knows no terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gram.claims import claimed_folder
from gram.demo.lab import Lab
from gram.demo.page import PICTURES, figures, html
from gram.demo.recipe import FULL, QUICK
from gram.demo.save import save_judge
from gram.demo.story import Story, tell
from gram.demo.world import World
from gram.evaluation import Estimate
from gram.extras import need
from gram.files import atomic_write
from gram.modeling.quiet import quiet_libraries
from gram.plots import save

Outer = TypeVar("Outer")
Inner = TypeVar("Inner")


def demonstrate(output: Path, *, seed: int, quick: bool, show: Callable[[Story], None]) -> dict[str, Any]:
    """Tell the story; ``output`` gets the reward model, the pictures and the page.

    Args:
        show: gets the story once all is on file.

    Returns the numbers.

    Raises:
        ConfigError: ``output`` cannot be a folder, or matplotlib is not installed (``MissingLibraryError``).
    """
    need("torch", "transformers", "accelerate", "matplotlib")  # the last would be missed minutes later
    quiet_libraries()
    names = [*(f"{name}.png" for name in PICTURES), "report.html"]
    with claimed_folder(output, names):
        return _demonstrate(output, seed=seed, quick=quick, show=show)


def _demonstrate(output: Path, *, seed: int, quick: bool, show: Callable[[Story], None]) -> dict[str, Any]:
    began = time.monotonic()
    recipe = QUICK if quick else FULL
    world = World(seed)
    lab = Lab(world, recipe, seed)
    story = tell(lab)
    model = output / "model"
    save_judge(model, lab, story)
    pictures = figures(story)
    for name, figure in pictures.items():
        save(figure, output / f"{name}.png")
    seconds = time.monotonic() - began
    report = output / "report.html"
    with atomic_write(report) as file:
        about = {"seed": seed, "seconds": seconds, "quick": quick, "model": str(model)}
        file.write(html(story, pictures, world, recipe, **about))
    show(story)
    return {
        "seconds": round(seconds, 1),
        "seed": seed,
        "quick": quick,
        "accuracy": _values(story.accuracy),
        "accuracy_over_labels": _values(story.over_labels),
        "best_of_n": _values(story.best_of_n),
        "parts": story.seconds,
        "model": str(model),
        "report": str(report),
    }


def _values(table: Mapping[Outer, Mapping[Inner, Estimate]]) -> dict[Outer, dict[Inner, float]]:
    """The table without its intervals."""
    return {
        name: {column: round(estimate.value, 4) for column, estimate in row.items()}
        for name, row in table.items()
    }
