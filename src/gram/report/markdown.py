"""Results as files: Markdown for people and model cards, ``results.json`` for programs.

Knows the fields of a summary, not how its numbers are computed. Writes no clock time, so equal records give
equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gram.evaluation.results import Results
from gram.evaluation.summary import Summary, SummaryRow
from gram.files import atomic_write, finite
from gram.statistics import Estimate


def markdown(summary: Summary, title: str = "Evaluation") -> str:
    """The summary as a Markdown section: one line per subset, then calibration and position bias.

    Example:
        >>> from gram.evaluation import Record, summarize
        >>> record = Record("q1", "", 1.0, log_odds=(2.0, 1.0), mass=(1.0, 1.0), length_a=4, length_b=9)
        >>> markdown(summarize([record]), "A first run").splitlines()[0]
        '## A first run'
    """
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
        f"Position gap, P(a) shown first minus shown second: mean {signed(summary.position_gap)}, "
        f"mean size {number(summary.position_gap_size)}.",
        *_mass(summary),
        *_bounds(summary),
        f"Calibration: Brier {number(summary.brier)}, log loss {number(summary.log_loss)} nats, "
        f"ECE {number(summary.ece)} (always saying 0.5 gives 0.250 and 0.693).",
        "",
    ]
    return "\n".join(lines)


def _mass(summary: Summary) -> list[str]:
    """The label mass in words; nothing for a model that is no judge."""
    if math.isnan(summary.label_mass):
        return []
    return [f"Label mass, the probability of the two labels together: mean {number(summary.label_mass)}."]


def _bounds(summary: Summary) -> list[str]:
    """How many verdicts are bounds, in words; nothing where there are none."""
    if not summary.bounded:
        return []
    return [
        f"The log-odds of {summary.bounded} of {summary.overall.n} rows are bounds: the server did not "
        "list both labels. Their signs are right, and they are further from 0 than is written."
    ]


def card(results: Results, title: str = "Evaluation") -> str:
    """Results as a Markdown section, for a model card: every source by its rule, then all comparisons."""
    lines = [
        f"## {title}",
        "",
        "| benchmark | score | 95% interval | what it is | comparisons | length rule | bag of words |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for part in results.parts:
        floors = [part.row.floors.get(name) for name in ("length", "bag of words")]
        lines.append(
            f"| {_escaped(part.source)} | **{number(part.scores.score.value)}** "
            f"| {interval(part.scores.score)} | {part.scores.metric} | {part.row.n} | "
            + " | ".join(number(floor.value) if floor else "-" for floor in floors)
            + " |"
        )
    lines += ["", "Both rules look at the answers only; their accuracy on the same comparisons.", ""]
    for part in results.parts:
        if part.scores.lines:
            lines += [f"### {part.rule.title}: {_escaped(part.source)}", "", part.rule.rule, ""]
            lines += ["| | value | 95% interval | n |", "|---|---:|---:|---:|"]
            lines += [
                f"| {'- ' * line.depth}{_escaped(line.name)} | {number(line.value.value)} "
                f"| {interval(line.value)} | {line.value.n} |"
                for line in part.scores.lines
            ]
            lines += ["", *(f"Note: {note}." for note in part.scores.notes), ""]
    return "\n".join(lines) + "\n" + markdown(results.overall, "All comparisons") + _biases(results)


def _biases(results: Results) -> str:
    bias = results.bias
    lines = [
        "",
        "## Biases",
        "",
        f"- The answer shown first wins {number(bias.first_place.value)} of the verdicts "
        f"({interval(bias.first_place)}); 0.5 is fair.",
        f"- The longer answer wins {number(bias.longer.value)} ({interval(bias.longer)}). "
        f"Twice the length moves the log-odds by {signed(bias.slope)} "
        f"({signed(bias.slope_low)} to {signed(bias.slope_high)}).",
        f"- Repetitive answers (a fifth or more repeats): {bias.repetitive}; the more repetitive answer wins "
        f"{number(bias.more_repetitive.value)} of {bias.more_repetitive.n}.",
        f"- Truncated comparisons: {count(bias.truncated)}, {count(bias.tokens_cut)} tokens cut; accuracy on "
        f"them {number(bias.accuracy_cut.value)}.",
    ]
    lines += [
        f"- Worse answer dressed up with {d.name}: accuracy {number(d.before.value)} to "
        f"{number(d.after.value)}, {signed(d.difference.difference)} "
        f"({signed(d.difference.low)} to {signed(d.difference.high)})."
        for d in results.degradation
    ]
    return "\n".join([*lines, ""])


def write_report(directory: Path, content: Mapping[str, Any], text: str) -> tuple[Path, Path]:
    """Writes ``results.json`` and ``report.md``, each in one step, and returns both paths.

    Example:
        >>> paths = write_report(Path("run"), {"accuracy": math.nan}, "## A first run")
        >>> paths[0].name, paths[0].read_text()
        ('results.json', '{\\n  "accuracy": null\\n}\\n')
    """
    results, report = Path(directory) / "results.json", Path(directory) / "report.md"
    document = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(results) as file:
        file.write(document)
    with atomic_write(report) as file:
        file.write(text)
    return results, report


def _cells(row: SummaryRow, floors: list[str]) -> list[str]:
    bold = "**" if row.subset == "overall" else ""
    return [
        f"{bold}{_escaped(row.subset)}{bold}",
        str(row.n),
        f"{bold}{number(row.accuracy.value)}{bold}",
        interval(row.accuracy),
        number(row.consistency),
        *(number(row.floors[floor].value) for floor in floors),
    ]


def interval(estimate: Estimate) -> str:
    """The ends of an interval; a dash without items.

    Example:
        >>> interval(Estimate(0.75, 0.7, 0.8, n=100))
        '0.700 to 0.800'
    """
    return f"{estimate.low:.3f} to {estimate.high:.3f}" if estimate.n else "-"


def number(value: float) -> str:
    """Three decimals; a dash for NaN.

    Example:
        >>> number(0.5), number(math.nan)
        ('0.500', '-')
    """
    return "-" if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Three decimals and the sign; a dash for NaN.

    Example:
        >>> signed(0.5)
        '+0.500'
    """
    return "-" if math.isnan(value) else f"{value:+.3f}"


def count(value: float) -> str:
    """A whole number; a dash for NaN.

    Example:
        >>> count(12345.0)
        '12,345'
    """
    return "-" if math.isnan(value) else f"{int(value):,}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
