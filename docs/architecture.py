"""Draws docs/images/architecture.png from the import table of the tests: ``python docs/architecture.py``.

A room stands above every room that it imports. An arrow is drawn only where no way through other rooms shows
the same; the ground floor, which every room may import, has no arrows.
"""

from __future__ import annotations

import runpy
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "architecture.png"
_HIDDEN = {"gram", "__main__"}  # the front door: it only names what stands in the rooms


def rooms() -> dict[str, set[str]]:
    """Each room that exists, and the rooms that it may import; the ground floor left out."""
    table = runpy.run_path(str(ROOT / "tests" / "import_table.py"))
    may_import, ground = table["MAY_IMPORT"], table["GROUND"]
    there = {
        name
        for name in may_import
        if (ROOT / "src" / "gram" / name).is_dir() or (ROOT / "src" / "gram" / f"{name}.py").is_file()
    } - ground
    return {name: (may_import[name] & there) - _HIDDEN for name in may_import if name in there - _HIDDEN}


def floors(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The rooms floor by floor, from the lowest: each stands one above the highest that it imports."""
    height: dict[str, int] = {}

    def high(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((high(below) for below in graph[name]), default=-1)
        return height[name]

    for name in graph:
        high(name)
    return [[name for name in graph if height[name] == level] for level in range(max(height.values()) + 1)]


def arrows(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that no chain of other imports shows (the transitive reduction)."""

    def reaches(start: str, end: str) -> bool:
        return end in graph[start] or any(reaches(below, end) for below in graph[start])

    return [
        (name, below)
        for name, rooms_below in graph.items()
        for below in sorted(rooms_below)
        if not any(reaches(other, below) for other in rooms_below - {below})
    ]


def places(
    levels: Sequence[Sequence[str]], links: Sequence[tuple[str, str]], sweeps: int = 12
) -> dict[str, tuple[float, float]]:
    """Where each room stands, in [0, 1] and by floor: near the rooms it is linked with (barycentres)."""
    order = [list(level) for level in levels]
    place: dict[str, tuple[float, float]] = {}
    for _ in range(sweeps):
        for height, level in enumerate(order):
            level.sort(key=lambda name: _middle(name, place, links))
            for k, name in enumerate(level):
                place[name] = ((k + 0.5) / len(level), float(height + 1))
    return place


def _middle(name: str, place: Mapping[str, tuple[float, float]], links: Sequence[tuple[str, str]]) -> float:
    others = [b if a == name else a for a, b in links if name in (a, b)]
    known = [place[other][0] for other in others if other in place]
    return sum(known) / len(known) if known else 0.5


def draw(path: Path) -> None:
    """Write the picture."""
    from gram import plots

    graph = rooms()
    levels, links = floors(graph), arrows(graph)
    place = places(levels, links)
    figure, ax = plots.canvas(9.2, 1.0 + 0.82 * len(levels))
    for above, below in links:
        (x, y), (x_below, y_below) = place[above], place[below]
        ax.annotate(
            "",
            (x_below, y_below + 0.17),
            (x, y - 0.17),
            arrowprops={"arrowstyle": "-|>", "color": plots.FAINT, "linewidth": 1.1},
        )
    for name, (x, y) in place.items():
        _box(ax, x, y, name, plots.PALETTE[0])
    ground = runpy.run_path(str(ROOT / "tests" / "import_table.py"))["GROUND"]
    names = "ground floor:   " + "   ".join(sorted(ground))
    _box(ax, 0.5, 0.0, textwrap.fill(names, 90), plots.INK)  # one line would be wider than the picture
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.7, len(levels) + 0.5)
    ax.axis("off")
    plots.save(figure, path)


def _box(ax: Any, x: float, y: float, text: str, color: str) -> None:
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=10,
        color="white",
        bbox={"boxstyle": "round,pad=0.45", "facecolor": color, "edgecolor": "white"},
    )


if __name__ == "__main__":
    draw(PICTURE)
