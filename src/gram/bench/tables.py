"""Measurements to Markdown tables and a picture's numbers. Knows the fields of a row, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gram.bench.settings import Subject

Measurement = Mapping[str, Any]
"""What was measured of one workload or stage, on one shape in one precision: a line of the table."""

PEERS = {"last": "last position", "reference": "reference", "full": "full logits", "trl": "TRL"}

SCORE_LEGEND = """\
`seconds`: ours. `last position`, `reference`, `plain`: how many times as long they take; in brackets the
ratio of the arithmetic (products of body and output layer; ours with every shared prefix read once), which a
perfect machine would reach. `reference` is timed on a few pairs and scaled by its tokens. `ceiling`: the
useful arithmetic of ours, per second, over what plain matrix products of the same sizes reach in the same
run. `peak MB`: greatest growth of memory, ours / last position / reference. `max dp`: greatest difference of
P(first label), ours against prompts asked one by one in the same precision."""

TRAIN_LEGEND = """\
`full logits`, `TRL`, `plain`: how many times as long a step takes as ours; in brackets the ratio of the
arithmetic. `ceiling`: as for scoring; a step counts as three forward passes. `peak MB`: growth of memory
over weights and optimizer state, gradients included, ours / full logits. `gradients`: greatest difference of
an entry from the plain path's, over the greatest entry."""


def page(subject: Subject, rows: Sequence[Measurement]) -> str:
    """The table of the rows, and below it what its columns mean."""
    if subject == "score":
        return f"{score_table(rows)}\n\n{SCORE_LEGEND}\n"
    return f"{train_table(rows)}\n\n{TRAIN_LEGEND}\n"


def score_table(rows: Sequence[Measurement]) -> str:
    """One line per workload, shape and precision."""
    head = [
        "workload",
        "model",
        "seconds",
        "last position",
        "reference",
        "plain",
        "ceiling",
        "peak MB",
        "max dp",
    ]
    body = [
        [
            row["workload"],
            model_of(row),
            f"{row['seconds']['ours']:.2f}",
            _ratio(row, "last"),
            _ratio(row, "reference"),
            _ratio(row, "plain"),
            f"{row['fraction']:.2f}",
            _memory(row, "ours", "last", "reference"),
            f"{row['max_dp']['ours']:.0e}",
        ]
        for row in rows
    ]
    return _table(head, body)


def train_table(rows: Sequence[Measurement]) -> str:
    """One line per stage, shape and precision."""
    head = ["step", "model", "per second", "full logits", "TRL", "plain", "ceiling", "peak MB", "gradients"]
    body = [
        [
            row["task"],
            model_of(row),
            f"{row['per_second']['ours']:.3g} {row['unit']}s",
            _ratio(row, "full"),
            _ratio(row, "trl") if row["unit"] == "pair" else "",
            _ratio(row, "plain"),
            f"{row['fraction']:.2f}",
            _memory(row, "ours", "full"),
            f"{row['gradient_difference']['plain']:.0e}",
        ]
        for row in rows
    ]
    return _table(head, body)


def model_of(row: Measurement) -> str:
    """The model of a row in a few words."""
    return f"{row['shape']}, {row['vocabulary'] // 1000}k, {row['dtype']}"


def bars(rows: Sequence[Measurement]) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Per row, per peer: times as fast as it, and the ideal where it is known."""
    return {
        f"{row.get('workload') or row['task']}, {model_of(row)}": {
            PEERS[name]: (ratio["median"], row["ideal"].get(name))
            for name, ratio in row["ratio"].items()
            if name in PEERS
        }
        for row in rows
    }


def rounded(value: Any) -> Any:
    """``value`` with four significant digits in every float: more are noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def _ratio(row: Measurement, peer: str) -> str:
    if peer not in row["ratio"]:
        return row["notes"].get(peer, "not run")
    ideal = row["ideal"].get(peer)
    return f"{row['ratio'][peer]['median']:.2f}" + (f" ({ideal:.2f})" if ideal is not None else "")


def _memory(row: Measurement, *names: str) -> str:
    megabytes = [row["memory_mb"].get(name) for name in names]
    return " / ".join("-" if value is None else f"{value:.0f}" for value in megabytes)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
