"""Pictures of the claims: lines and bars with intervals over seeds. Knows numbers and names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gram import plots
from gram.statistics import over_seeds

Lines = Mapping[str, Sequence[Sequence[float]]]  # name -> point -> its values over seeds


def lines(
    path: Path,
    panels: Sequence[tuple[Sequence[float], Lines, dict[str, Any]]],
    levels: Sequence[float] = (),
) -> None:
    """One panel beside the other; a panel is its x, its lines and the options of ``plots.curve``.

    ``levels`` are drawn across the first panel, in the colours of its last lines.
    """
    figure, first = plots.canvas(5.4 * len(panels), 3.8)
    first.remove()
    axes: Any = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (x, series, options) in zip(axes, panels, strict=True):
        found = {name: [over_seeds(values) for values in points] for name, points in series.items()}
        plots.curve(ax, x, found, **options)
        if ax is axes[0]:
            for k, level in enumerate(levels, start=len(found) - len(levels)):
                ax.axhline(level, color=plots.PALETTE[k], linestyle=(0, (2, 3)), linewidth=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def bars(path: Path, rows: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Accuracy of each method, grouped by test."""
    figure, ax = plots.canvas(7.0, 1.2 + 0.5 * len(rows))
    found = {name: {test: over_seeds(values) for test, values in row.items()} for name, row in rows.items()}
    plots.accuracy_bars(ax, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
