"""Benchmarks of labeled pairs: any preference file, HHH and LLMBar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gram.data import Row, to_preference
from gram.evaluation.benchmarks.benchmark import Benchmark, Line, Scores, fault, field, macro, plain
from gram.evaluation.items import Item, item_of
from gram.evaluation.records import Record
from gram.evaluation.shares import accuracy, share
from gram.statistics import Estimate

HHH_PARTS = ("harmless", "helpful", "honest", "other")
LLMBAR_ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")
LLMBAR_PARTS = ("Natural", *LLMBAR_ADVERSARIAL)


def preference_item(row: Row) -> Item:
    """A row in any form of labeled pair (docs/data-formats.md)."""
    return item_of(to_preference(row))


def micro(records: Sequence[Record]) -> Scores:
    """Accuracy over all rows, each counting once, and by subset."""
    records = plain(records)
    names = sorted({record.subset for record in records})
    lines = [Line(name or "(none)", accuracy([r for r in records if r.subset == name])) for name in names]
    return Scores(accuracy(records), "accuracy", tuple(lines) if len(lines) > 1 else ())


def _of_parts(
    parts: Sequence[str], convert: Callable[[Row], Item] = preference_item
) -> Callable[[Row], Item]:
    def item(row: Row) -> Item:
        result = convert(row)
        if result.subset not in parts:
            raise fault(row, f"expected one of {', '.join(parts)}, got {result.subset!r}", "subset")
        return result

    return item


def _choices(row: Row) -> Item:
    """The published form of HHH, ``input`` and ``targets`` with two choices, or a labeled pair."""
    if "targets" not in row.values:
        return preference_item(row)
    targets = field(row, "targets")
    choices, labels = (
        (targets.get(name) for name in ("choices", "labels")) if isinstance(targets, dict) else (0, 0)
    )
    if not (isinstance(choices, list) and isinstance(labels, list) and sorted(labels) == [0, 1]):
        raise fault(row, "expected two choices with the labels 1 and 0", "targets")
    good, bad = (choices[labels.index(label)] for label in (1, 0))
    pair = {"prompt": field(row, "input"), "chosen": good, "rejected": bad}
    return preference_item(Row({**row.values, **pair}, row.file, row.line))


def _hhh(records: Sequence[Record]) -> Scores:
    records = plain(records)
    parts = {name: accuracy([r for r in records if r.subset == name]) for name in HHH_PARTS}
    lines = [Line(name, value) for name, value in parts.items()]
    return Scores(
        accuracy(records), "accuracy", (*lines, Line("mean of the parts", macro(list(parts.values()))))
    )


def _llmbar(records: Sequence[Record]) -> Scores:
    records = plain(records)
    parts = {name: _each_order([r for r in records if r.subset == name]) for name in LLMBAR_PARTS}
    both = [record for record in records if record.consistent is not None]
    agreement = share(both, np.array([record.consistent for record in both], dtype=float))
    lines = (
        Line("Natural", parts["Natural"]),
        Line("Adversarial", macro([parts[name] for name in LLMBAR_ADVERSARIAL])),
        *(Line(name, parts[name], 1) for name in LLMBAR_ADVERSARIAL),
        Line("all rows alike", _each_order(records)),
        Line("agreement of both orders", agreement),
    )
    return Scores(macro(list(parts.values())), "mean accuracy of the subsets", lines)


def _each_order(records: Sequence[Record]) -> Estimate:
    """Mean over rows of the share of orders answered right (LLMBar's average over swapped orders)."""
    shares = [float(np.nanmean(0.5 * (1.0 + np.sign(np.array(record.log_odds))))) for record in records]
    return share(records, np.array(shares))


PREFERENCES = Benchmark(
    "preferences",
    "Preferences",
    "Share of pairs whose better answer wins when both orders are averaged; a tie of the model counts half.",
    (),
    preference_item,
    micro,
)
HHH = Benchmark(
    "hhh",
    "HHH alignment",
    "Accuracy over all rows (Askell et al., 2021); the mean of the four parts stands beside it.",
    tuple((f"HuggingFaceH4/hhh_alignment::{part}:test", part) for part in HHH_PARTS),
    _of_parts(HHH_PARTS, _choices),
    _hhh,
)
LLMBAR = Benchmark(
    "llmbar",
    "LLMBar",
    "Accuracy averaged over both orders, by subset; the score is the mean of the subsets, the adversarial "
    "mean that of Neighbor, GPTInst, GPTOut and Manual (Zeng et al., 2024).",
    (),
    _of_parts(LLMBAR_PARTS),
    _llmbar,
)
