"""Tables and pictures of what experiments/ranking_study.py found: nothing is asked again.

Command: python experiments/ranking_report.py experiments/results/ranking_world.json [more.json ...]
             [--n 2 16] [--picture docs/images/best_of_n_kl.png]
A row of the picture per file: gold (left) and the chooser's own score (right) over the KL of choosing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gram.evaluation import Estimate
from gram.statistics import over_seeds

TICKS = (0.0, 0.5, 1.0, 1.5)
SHORT = {"bradley_terry": "BT, scratch", "bradley_terry_pretrained": "BT, stage 1"}


def summary(runs: Sequence[Mapping[str, Any]], part: str) -> list[dict[str, Any]]:
    """Rows of ``part`` (``schedules`` or ``best_of_n``) over seeds: means of the runs' values.

    What has an interval over prompts in the runs gets its interval over seeds.
    """
    found = []
    for rows in zip(*(run[part] for run in runs), strict=True):
        row: dict[str, Any] = {}
        for key, value in rows[0].items():
            column = [one[key] for one in rows]
            if isinstance(value, str) or value is None or key in ("n", "kl", "prompts"):
                row[key] = value
            elif isinstance(value, Sequence):
                estimate = over_seeds([one[0] for one in column])
                row[key] = (estimate.value, estimate.low, estimate.high)
            else:
                row[key] = sum(column) / len(column)
        found.append(row)
    return found


def table(rows: Sequence[Mapping[str, Any]], n: int) -> str:
    """The schedules for n candidates, as Markdown."""
    lines = [
        f"| schedule (n = {n}) | gold of the winner [95%] | less than `round_robin` [95%] "
        "| winner is a best one | comparisons a prompt | tokens a prompt |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["n"] != n:
            continue
        cells = [row["schedule"], interval(row["gold"])]
        if "tokens" in row:
            less = "" if row["schedule"] == "round_robin" else interval(row["less_than_round_robin"])
            cells += [
                less,
                f"{row['winner_is_best']:.2f}",
                f"{row['comparisons']:.1f}",
                f"{row['tokens']:,.0f}",
            ]
        lines.append("| " + " | ".join([*cells, *[""] * (6 - len(cells))]) + " |")
    return "\n".join(lines)


def curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Gold and own score per chooser and n, as Markdown."""
    sizes = list(dict.fromkeys(row["n"] for row in rows))
    lines = [f"| chooser | {' | '.join(f'n = {n}' for n in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name in dict.fromkeys(row["chooser"] for row in rows):
        mine = [row for row in rows if row["chooser"] == name]
        cells = [f"{interval(row['gold'])} ({row['proxy']:.2f})" for row in mine]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Gold and own score over KL, a row per result."""
    from gram import plots

    figure, left = plots.canvas(10.5, 3.9 * len(results))
    left.remove()
    grid: Any = figure.subplots(len(results), 2, squeeze=False)
    for axes, result in zip(grid, results, strict=True):
        rows = result["best_of_n"]
        names: list[str] = list(dict.fromkeys(row["chooser"] for row in rows))
        kl = list(dict.fromkeys(row["kl"] for row in rows))
        for ax, key, label in (
            (axes[0], "gold", "gold of the chosen"),
            (axes[1], "proxy", "the chooser's own score, standardised"),
        ):
            series = {
                SHORT.get(name, name): [_estimate(row[key]) for row in rows if row["chooser"] == name]
                for name in names
            }
            plots.curve(
                ax,
                kl,
                series,
                xlabel="KL = log n - (n-1)/n",
                ylabel=label,
                chance=None,
                log=False,
                title=result["title"] if key == "gold" else "",
            )
            ax.set_xticks(TICKS, [f"{value:g}" for value in TICKS])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={"Software": None})


def _estimate(value: float | Sequence[float]) -> Estimate:
    if isinstance(value, Sequence):
        return Estimate(value[0], value[1], value[2], 0)
    return Estimate(value, value, value, 0)


def interval(value: Sequence[float]) -> str:
    """Mean and interval in words."""
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--n", type=int, nargs="+", default=None, help="only these numbers of candidates")
    parser.add_argument("--picture", type=Path, default=None)
    options = parser.parse_args()
    results = [json.loads(path.read_text(encoding="utf-8")) for path in options.results]
    for result in results:
        rows = result["schedules"]
        print(f"\n{result['title']}\n")
        there = sorted({row["n"] for row in rows})
        for n in there if options.n is None else [n for n in there if n in options.n]:
            print(table(rows, n) + "\n")
        print(curves(result["best_of_n"]))
    if options.picture is not None:
        picture(results, options.picture)


if __name__ == "__main__":
    main()
