"""Numbers to pictures: pure functions that draw on a matplotlib Axes they are given.

Know estimates and probabilities; know neither models nor records, and touch no
global state of matplotlib (no pyplot, no rcParams). matplotlib is an extra, imported on first use.

    figure, ax = plots.canvas()
    plots.accuracy_bars(ax, {"gram": {"seen": estimate, "never labeled": estimate}})
    html = f'<img alt="..." src="{plots.to_data_uri(figure)}">'
"""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gram.extras import explained
from gram.files import atomic_write_bytes
from gram.statistics import Estimate, reliability, wilson
from gram.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), told apart by every kind of colour vision; its yellow is too light for lines.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5F6368")
INK, FAINT, GRID = "#2B2B2B", "#70757A", "#E3E5E8"
MARKERS = "osD^vPX"


def canvas(width: float = 6.4, height: float = 3.8) -> tuple[Figure, Axes]:
    """A figure of its own, in inches, with one styled Axes.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    with explained():
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    ax = figure.add_subplot()
    style(ax)
    return figure, ax


def verbatim(text: str) -> str:
    """``text`` for matplotlib to show as it stands: a pair of ``$`` would be set as a formula, or refused.

    All functions here pass their names and titles through it.

    Example:
        >>> print(verbatim("cost_$5_$6"))
        cost_\\$5_\\$6
    """
    return text.replace("$", r"\$")


def style(ax: Axes, title: str = "") -> None:
    """The one look of all pictures: a light grid behind, no box, quiet ticks, the title at the left."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    ax.set_axisbelow(True)
    ax.grid(True, color=GRID, linewidth=0.8)
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    ax.xaxis.label.set(color=INK, fontsize=10)
    ax.yaxis.label.set(color=INK, fontsize=10)
    if title:
        _title(ax, verbatim(title))


def accuracy_bars(
    ax: Axes, rows: Mapping[str, Mapping[str, Estimate]], *, chance: float | None = 0.5, title: str = ""
) -> None:
    """Grouped bars with 95% intervals and value labels; groups from top to bottom, as given.

    Args:
        ax: where to draw.
        rows: group (a method) -> series (seen, never labeled) -> estimate. A group may lack a series.
        chance: accuracy of guessing; None draws no line.
        title: at the top left.
    """
    style(ax, title)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    thickness = 0.8 / max(1, len(names))
    for k, name in enumerate(names):
        bars = [(i, row[name]) for i, row in enumerate(rows.values()) if name in row]
        y = [i + (k - (len(names) - 1) / 2) * thickness for i, _ in bars]
        values, color = [e.value for _, e in bars], PALETTE[k % len(PALETTE)]
        ax.barh(y, values, height=0.86 * thickness, color=color, label=verbatim(name))
        for position, (_, e) in zip(y, bars, strict=True):
            ax.plot([e.low, e.high], [position, position], color=INK, linewidth=1.2, solid_capstyle="butt")
            ax.annotate(
                f"{e.value:.2f}",
                (max(e.value, e.high), position),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=INK,
            )
    ax.set_yticks(range(len(rows)), [verbatim(name) for name in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(0, 1.08)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.grid(False, axis="y")
    ax.set_xlabel("accuracy")
    if chance is not None:
        ax.axvline(chance, color=FAINT, linestyle=(0, (4, 3)), linewidth=1.2, label="chance")
    _legend(ax)


def curve(
    ax: Axes,
    x: Sequence[float],
    series: Mapping[str, Sequence[Estimate]],
    *,
    xlabel: str = "labeled pairs",
    ylabel: str = "accuracy",
    chance: float | None = 0.5,
    log: bool = True,
    title: str = "",
) -> None:
    """One line per series over the same ``x``, its interval as a band, its name and last value at its end.

    With ``log`` the x axis is logarithmic, but linear between 0 and the smallest positive ``x``, so that a
    point at 0 (no labeled pair) can be drawn.
    """
    style(ax, title)
    for k, estimates in enumerate(series.values()):
        color, values = PALETTE[k % len(PALETTE)], [e.value for e in estimates]
        ax.fill_between(
            x, [e.low for e in estimates], [e.high for e in estimates], color=color, alpha=0.15, linewidth=0
        )
        ax.plot(x, values, color=color, marker=MARKERS[k % len(MARKERS)], markersize=5, linewidth=1.8)
    if chance is not None:
        ax.axhline(chance, color=FAINT, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
        ax.annotate(
            "chance",
            (0.99, chance),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8.5,
            color=FAINT,
        )
    _name_ends(ax, x[-1], {name: list(estimates)[-1].value for name, estimates in series.items()})
    positive = [value for value in x if value > 0]
    if log and positive:
        ax.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
        ax.set_xlim(min(x) - 0.1 * min(positive), 1.1 * max(x))
    ax.set_xticks(list(x), [f"{value:g}" for value in x])
    ax.minorticks_off()
    ax.set_xlabel(verbatim(xlabel))
    ax.set_ylabel(verbatim(ylabel))


def best_of_n_curve(
    ax: Axes, n: Sequence[int], series: Mapping[str, Sequence[Estimate]], *, title: str = ""
) -> None:
    """Gold reward of the chosen answer over the number of candidates, one line per way of choosing."""
    curve(ax, n, series, xlabel="candidates n", ylabel="gold reward of the chosen", chance=None, title=title)


def reliability_diagram(ax: Axes, p: FloatArray, labels: FloatArray, *, title: str = "") -> None:
    """Accuracy over confidence max(p, 1-p), with 95% intervals; points below the diagonal: overconfident.

    ``p`` and ``labels`` are (n,) probabilities that the first answer is better, by the model and in truth.
    The area of a point is the share of the items in its bin.
    """
    style(ax, title)
    bins = reliability(p, labels)
    ax.plot([0.5, 1], [0.5, 1], color=FAINT, linestyle=(0, (4, 3)), linewidth=1.2, label="calibrated")
    share = bins.count / bins.count.sum()
    intervals = [wilson(float(a), int(n)) for a, n in zip(bins.accuracy, bins.count, strict=True)]
    ax.vlines(
        bins.confidence,
        [low for low, _ in intervals],
        [high for _, high in intervals],
        color=FAINT,
        linewidth=1,
    )
    ax.scatter(bins.confidence, bins.accuracy, s=20 + 400 * share, color=PALETTE[0], alpha=0.85, zorder=3)
    ax.annotate(
        f"ECE {bins.ece:.3f}\nn = {len(p)}",
        (0.97, 0.05),
        xycoords="axes fraction",
        ha="right",
        fontsize=9,
        color=INK,
    )
    ax.set_xlim(0.48, 1.02)
    ax.set_ylim(min(0.45, min(low for low, _ in intervals) - 0.03), 1.03)
    ax.set_xlabel("confidence")
    ax.set_ylabel("accuracy")
    _legend(ax)


def to_data_uri(figure: Figure, *, dpi: int = 160) -> str:
    """The figure as a PNG inside a ``data:`` address: equal figures give equal text."""
    return "data:image/png;base64," + base64.b64encode(_image_bytes(figure, dpi, "png")).decode("ascii")


def save(figure: Figure, path: Path, *, dpi: int = 160) -> None:
    """Write the figure, as SVG or PDF if ``path`` ends so, else as PNG; never half a file."""
    kind = path.suffix.lower().removeprefix(".")
    atomic_write_bytes(path, _image_bytes(figure, dpi, kind if kind in ("svg", "pdf") else "png"))


def _image_bytes(figure: Figure, dpi: int, kind: str) -> bytes:
    metadata_without_date = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata_without_date[kind])
    return buffer.getvalue()


def _title(ax: Axes, title: str, pad: float = 6) -> None:
    ax.set_title(title, loc="left", pad=pad, fontsize=11, fontweight="bold", color=INK)


def _legend(ax: Axes) -> None:
    """The legend, in a line of its own between title and plot, where it covers no data."""
    entries = sorted(
        zip(*ax.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1] == "chance"
    )
    if title := ax.get_title(loc="left"):
        _title(ax, title, pad=24)
    ax.legend(
        [handle for handle, _ in entries],
        [name for _, name in entries],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
        borderpad=0.2,
        ncols=len(entries),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.4,
    )


def _name_ends(ax: Axes, x: float, values: Mapping[str, float]) -> None:
    """Writes name and value beside the end of every line, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    gap = 0.06 * (high - low)
    place = -math.inf
    colors = dict(zip(values, itertools.cycle(PALETTE), strict=False))
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        place = max(value, place + gap)
        ax.annotate(
            f"{value:.2f} {verbatim(name)}",
            (x, place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=colors[name],
            annotation_clip=False,
        )
