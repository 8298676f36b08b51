"""Measurements to Markdown tables and a picture's numbers. Knows the fields of a row, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gram.bench.settings import Subject

Measurement = Mapping[str, Any]
"""What was measured of one workload or stage, on one shape in one precision: a line of the table."""

PEERS = {
    "unfused": "unfused",
    "last": "last position",
    "reference": "reference",
    "decision": "pipeline(decision)",
    "full": "full logits",
    "hf": "HF + PEFT",
    "trl": "TRL",
}

KINDS = ("products", "attention", "elementwise", "copies", "rest")

SCORE_LEGEND = """\
`seconds`, `tokens/s` (shared prefixes counted once), `GFLOPS` (useful arithmetic): ours. `ceiling`: that
arithmetic over what plain matrix products of the same sizes reach in the same run. `to fp32`: how many times
as fast as ours in fp32 on the same workload. `last position`, `reference`, `plain`, `decision`: how many
times as long they take; in brackets the ratio of the arithmetic (products of body and output layer; ours with
every shared prefix read once), which a perfect machine would reach. `reference` is timed on a few pairs and
scaled by its tokens. `decision` is transformers' `pipeline("decision")` in the same precision, asked the
same tokens in one request, which it reads one prompt after the other; it puts the probabilities of the two
labels over each other, ours over the whole vocabulary. `unfused`, on a GPU: ours over transformers' own
layers. `peak MB`: greatest growth of memory, ours / last position / reference. `max dp`: greatest difference
of P(first label), ours against prompts asked one by one in the same precision."""

TRAIN_LEGEND = """\
`per second`, `tokens/s` (shared prefixes counted once), `GFLOPS`: ours, as is `to fp32`, how many times as
fast as in fp32. The arithmetic of a step: each product forward, and once more for the gradients of its input
and, where it is trained, of its weight (3 passes; with LoRA 2, and 3 of the adapters); attention backward 2.5
times its forward. `ceiling`: as for scoring. `full logits`, `HF + PEFT`, `TRL`, `plain`: how many times as
long a step takes as ours; in brackets the ratio of the arithmetic. Ours reads every pair in both orders and
counts it once; `HF + PEFT` does the same in one padded batch; `TRL` reads each answer once, in one order.
`unfused`, on a GPU: ours over transformers' own layers. `peak MB`: growth of memory over weights and
optimizer state, gradients included, ours / full logits or HF + PEFT. `gradients`: greatest difference of an
entry from the plain path's (with LoRA from HF + PEFT's), over the greatest entry."""

PROFILE_LEGEND = """\
Percent of the time of ours, by what `torch.profiler` gives to operations themselves. `products`: matrix
products of the layers. `attention`: products, softmax and kernels of attention. `elementwise`: norms, rotary
embedding, gated product, residuals, optimizer. `copies`: joined, gathered, converted, filled. `rest`: views
and the books of the profiler and of autograd; Python between operations is not counted."""


def page(subject: Subject, rows: Sequence[Measurement]) -> str:
    """The table of the rows with what its columns mean, and the same for where the time goes."""
    table = score_table(rows) if subject == "score" else train_table(rows)
    legend = SCORE_LEGEND if subject == "score" else TRAIN_LEGEND
    return f"{table}\n\n{legend}\n\n{profile_table(rows)}\n\n{PROFILE_LEGEND}\n"


def score_table(rows: Sequence[Measurement]) -> str:
    """One line per workload, shape and precision."""
    head = ["workload", "model", "seconds", "tokens/s", "GFLOPS", "ceiling", "to fp32", "last position"]
    head += ["reference", "plain", "decision", *(shown := _unfused(rows)), "peak MB", "max dp"]
    body = [
        [
            row["workload"],
            model_of(row),
            f"{row['seconds']['ours']:.2f}",
            *_speed(row),
            _ratio(row, "last"),
            _ratio(row, "reference"),
            _ratio(row, "plain"),
            _ratio(row, "decision"),
            *(_ratio(row, name) for name in shown),
            _memory(row, "ours", "last", "reference"),
            f"{row['max_dp']['ours']:.0e}",
        ]
        for row in rows
    ]
    return _table(head, body)


def train_table(rows: Sequence[Measurement]) -> str:
    """One line per stage, shape and precision."""
    head = ["step", "model", "per second", "tokens/s", "GFLOPS", "ceiling", "to fp32", "full logits"]
    head += ["HF + PEFT", "TRL", "plain", *(shown := _unfused(rows)), "peak MB", "gradients"]
    body = []
    for row in rows:
        apart, peer = row["gradient_difference"], "hf" if "hf" in row["ratio"] else "full"
        body.append(
            [
                row["task"],
                model_of(row),
                f"{row['per_second']['ours']:.3g} {row['unit']}s",
                *_speed(row),
                _ratio(row, "full"),
                _ratio(row, "hf"),
                _ratio(row, "trl"),
                _ratio(row, "plain"),
                *(_ratio(row, name) for name in shown),
                _memory(row, "ours", peer),
                f"{apart['hf'] if 'hf' in apart else apart['plain']:.0e}",
            ]
        )
    return _table(head, body)


def profile_table(rows: Sequence[Measurement]) -> str:
    """Percent of the time by kind of operation: one line per row."""
    body = [
        [
            row.get("workload") or row["task"],
            model_of(row),
            *(f"{100 * row['profile'][kind]:.0f}" for kind in KINDS),
        ]
        for row in rows
    ]
    return _table(["", "model", *KINDS], body)


def beside_fp32(rows: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The rows; those in another precision get ``to_fp32``, their speed over that of the same row in fp32.

    Both are medians of the same run, but did not take turns.

    Example:
        >>> rows = [{"shape": "wide", "workload": "W1", "dtype": "bf16", "tokens_per_second": 30.0},
        ...         {"shape": "wide", "workload": "W1", "dtype": "fp32", "tokens_per_second": 10.0}]
        >>> [row.get("to_fp32") for row in beside_fp32(rows)]
        [3.0, None]
    """

    def key(row: Measurement) -> tuple[str, str]:
        return row["shape"], row.get("workload") or row["task"]

    plain = {key(row): row["tokens_per_second"] for row in rows if row["dtype"] == "fp32"}
    return [
        {**row, "to_fp32": row["tokens_per_second"] / plain[key(row)]}
        if row["dtype"] != "fp32" and key(row) in plain
        else {**row}
        for row in rows
    ]


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


def _speed(row: Measurement) -> list[str]:
    """Tokens per second, GFLOPS, fraction of the ceiling and speed against fp32."""
    to_fp32 = f"{row['to_fp32']:.2f}" if "to_fp32" in row else ""
    return [f"{row['tokens_per_second']:.0f}", f"{row['gflops']:.0f}", f"{row['fraction']:.2f}", to_fp32]


def _unfused(rows: Sequence[Measurement]) -> list[str]:
    """The name of a column that stands where it was measured only."""
    return ["unfused"] if any("unfused" in row["ratio"] for row in rows) else []


def _ratio(row: Measurement, peer: str) -> str:
    if peer not in row["ratio"]:
        return row["notes"].get(peer, "")
    ideal = row["ideal"].get(peer)
    return f"{row['ratio'][peer]['median']:.2f}" + (f" ({ideal:.2f})" if ideal is not None else "")


def _memory(row: Measurement, *names: str) -> str:
    megabytes = [row["memory_mb"].get(name) for name in names]
    return " / ".join("-" if value is None else f"{value:.0f}" for value in megabytes)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
