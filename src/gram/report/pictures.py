"""The pictures of a report as ``data:`` addresses, by name. Knows results and records, and ``plots``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gram import plots
from gram.errors import MissingLibraryError
from gram.evaluation import Estimate, Record, Results
from gram.evaluation.benchmarks import best_of_k


def pictures(results: Results, records: Sequence[Record]) -> dict[str, str]:
    """Pictures by name, in the order of the page; none where matplotlib is not installed."""
    try:
        plots.canvas()
    except MissingLibraryError:
        return {}
    comparisons = [record for record in records if record.judged]
    addresses = {
        "accuracy": _accuracy(results),
        "reliability": _reliability(comparisons),
        "length": _length(results),
    }
    if not np.isnan(results.overall.position_gap):
        addresses["position"] = _position(comparisons)
    best = [part.source for part in results.parts if part.benchmark == "best-of-k"]
    if best:
        addresses["best_of_k"] = _best_of_k(
            [r for r in records if r.source == best[0] and not r.variant], best[0]
        )
    return addresses


def _accuracy(results: Results) -> str:
    rows = {
        part.source: {
            "model": part.row.accuracy,
            **{f"{name} rule": e for name, e in part.row.floors.items()},
        }
        for part in results.parts
    }
    figure, ax = plots.canvas(7.6, 1.2 + 0.62 * len(rows))
    plots.accuracy_bars(ax, {name: _renamed(row) for name, row in rows.items()})
    return plots.to_data_uri(figure, dpi=120)


def _renamed(row: dict[str, Estimate]) -> dict[str, Estimate]:
    names = {"length rule": "length rule", "bag of words rule": "bag of words"}
    return {names.get(name, name): estimate for name, estimate in row.items()}


def _reliability(records: Sequence[Record]) -> str:
    figure, ax = plots.canvas(5.2, 4.0)
    plots.reliability_diagram(
        ax, np.array([record.p_a for record in records]), np.array([record.label for record in records])
    )
    return plots.to_data_uri(figure, dpi=120)


def _length(results: Results) -> str:
    figure, ax = plots.canvas(6.4, 3.2)
    bins = results.bias.by_length
    x = range(len(bins))
    ax.vlines(
        x, [b.accuracy.low for b in bins], [b.accuracy.high for b in bins], color=plots.FAINT, linewidth=1.4
    )
    ax.plot(x, [b.accuracy.value for b in bins], "o-", color=plots.PALETTE[0])
    ax.axhline(0.5, color=plots.FAINT, linestyle=(0, (4, 3)), linewidth=1.2)
    ax.set_xticks(
        list(x), [f"{100 * b.low:+.0f} to {100 * b.high:+.0f}%\nn = {b.accuracy.n:,}" for b in bins]
    )
    ax.set_ylim(0, 1.03)
    ax.set_xlabel("the better answer is longer by")
    ax.set_ylabel("accuracy")
    return plots.to_data_uri(figure, dpi=120)


def _position(records: Sequence[Record]) -> str:
    figure, ax = plots.canvas(5.2, 3.2)
    gaps = np.array([record.position_gap for record in records])
    ax.hist(gaps[~np.isnan(gaps)], bins=np.linspace(-1, 1, 41).tolist(), color=plots.PALETTE[0])
    ax.axvline(0, color=plots.INK, linewidth=1)
    ax.set_xlabel("P(answer) shown first minus shown second")
    ax.set_ylabel("comparisons")
    return plots.to_data_uri(figure, dpi=120)


def _best_of_k(records: Sequence[Record], title: str) -> str:
    points = best_of_k.curve(records)
    names = {"model": "model", "perfect": "perfect judge", "chance": "chance"}
    figure, ax = plots.canvas(6.4, 3.6)
    series = {label: [row[name] for row in points.values()] for name, label in names.items()}
    plots.best_of_n_curve(ax, list(points), series, title=title)
    return plots.to_data_uri(figure, dpi=120)
