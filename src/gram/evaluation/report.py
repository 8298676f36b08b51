"""A summary on paper: a Markdown table for people, ``results.json`` for programs.

Knows the shape of a summary, nothing of how its numbers came about. Writes no clock time, so equal records
give equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gram.data.journal import atomic_write, finite
from gram.evaluation.metrics import Estimate
from gram.evaluation.summary import Row, Summary


def markdown(summary: Summary, title: str = "Evaluation") -> str:
    """The summary as a Markdown section: one line per subset, then calibration and position bias."""
    floors = list(summary.overall.floors)
    # With one subset only, the overall line is the table.
    rows = [*summary.subsets, summary.overall]
    head = ["subset", "n", "accuracy", "95% interval", "consistency", *floors]
    lines = [
        f"## {title}",
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 1),
        *("| " + " | ".join(_cells(row, floors)) + " |" for row in rows),
        "",
    ]
    if summary.overall.ties:
        lines += [f"{summary.overall.ties} of {summary.overall.n} rows are labeled ties: in no accuracy.", ""]
    lines += [
        "Consistency: share of rows on which both orders prefer the same answer.",
        f"Position gap, P(a) shown first minus shown second: mean {_signed(summary.position_gap)}, "
        f"mean size {_number(summary.position_gap_size)}.",
        f"Calibration: Brier {_number(summary.brier)}, log loss {_number(summary.log_loss)} nats, "
        f"ECE {_number(summary.ece)} (always saying 0.5 gives 0.250 and 0.693).",
        "",
    ]
    return "\n".join(lines)


def write_report(
    directory: Path, summary: Summary, *, about: Mapping[str, Any] | None = None, title: str = "Evaluation"
) -> tuple[Path, Path]:
    """Writes ``results.json`` and ``report.md`` into ``directory``, each in one step, and returns both paths.

    ``about`` (model, data, options, seed) stands at the top of ``results.json``.
    """
    results, report = Path(directory) / "results.json", Path(directory) / "report.md"
    with atomic_write(results) as file:
        content = {**finite(about or {}), **summary.to_dict()}
        file.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    with atomic_write(report) as file:
        file.write(markdown(summary, title))
    return results, report


def _cells(row: Row, floors: list[str]) -> list[str]:
    bold = "**" if row.subset == "overall" else ""
    return [
        f"{bold}{row.subset.replace('|', chr(92) + '|')}{bold}",
        str(row.n),
        f"{bold}{_number(row.accuracy.value)}{bold}",
        _interval(row.accuracy),
        _number(row.consistency),
        *(_number(row.floors[floor].value) for floor in floors),
    ]


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}" if estimate.n else "-"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.3f}"
