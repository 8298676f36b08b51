"""Speed as bars, the ideal as a mark on each. Knows names and ratios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gram.plots import FAINT, INK, PALETTE, canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def speed_bars(rows: Mapping[str, Mapping[str, tuple[float, float | None]]], title: str) -> Figure:
    """Group -> peer -> (times as fast as the peer, the ideal or None); groups from top to bottom.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    peers = list(dict.fromkeys(peer for row in rows.values() for peer in row))
    figure, ax = canvas(8.0, 1.2 + 0.24 * len(rows) * max(1, len(peers)))
    style(ax, title)
    thickness = 0.8 / max(1, len(peers))
    for k, peer in enumerate(peers):
        label = peer
        for place, row in enumerate(rows.values()):
            if peer not in row:
                continue
            ratio, ideal = row[peer]
            y = place + (k - (len(peers) - 1) / 2) * thickness
            ax.barh(y, ratio, height=0.86 * thickness, color=PALETTE[k % len(PALETTE)], label=label)
            label = "_"  # one entry per peer in the legend
            if ideal is not None:
                ax.plot([ideal, ideal], [y - thickness / 2, y + thickness / 2], color=INK, linewidth=1.6)
            where = (max(ratio, ideal or 0.0), y)
            ax.annotate(
                f"{ratio:.2f}", where, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
    ax.axvline(1.0, color=FAINT, linestyle=(0, (4, 3)), linewidth=1.2)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.margins(x=0.08)
    ax.grid(False, axis="y")
    ax.set_xlabel("times as fast as the peer; dark mark: the ideal")
    ax.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    return figure
