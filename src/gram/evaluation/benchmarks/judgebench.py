"""JudgeBench (Tan et al., 2024): pairs of answers of which one is objectively correct, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gram.data import Row
from gram.data.chats import check_answer
from gram.evaluation.benchmarks.benchmark import (
    Benchmark,
    Line,
    Scores,
    fault,
    label,
    macro,
    placed,
    plain,
    prompt,
    text,
    without,
)
from gram.evaluation.benchmarks.pairs import published_pair
from gram.evaluation.items import Item
from gram.evaluation.records import Record
from gram.evaluation.shares import share
from gram.statistics import Estimate

CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
_LABELS = {"A>B": ("response_A", "response_B"), "B>A": ("response_B", "response_A")}


@placed
def _item(row: Row) -> Item:
    if "chosen" in row.values:
        item = published_pair(row)
        model, _, category = item.subset.rpartition("/")
        if category not in CATEGORIES.values():
            raise fault(row, f"expected MODEL/CATEGORY, got {item.subset!r}", "subset")
        return replace(item, subset=f"{model or 'all'}/{category}")
    source, better = text(row, "source"), text(row, "label")
    category = next((name for start, name in CATEGORIES.items() if source.startswith(start)), None)
    if category is None:
        raise fault(row, f"no source of JudgeBench: {source!r}", "source")
    if better not in _LABELS:
        raise fault(row, f"expected 'A>B' or 'B>A', got {better!r}", "label")
    answers = tuple(check_answer(text(row, name), name) for name in _LABELS[better])
    model = label(row, "response_model", "") or "all"
    return Item(
        id=label(row, "pair_id"),
        prompt=prompt(row, "question"),
        responses=answers,
        subset=f"{model}/{category}",
        group=f"{source}:{label(row, 'original_id', str(row.line))}",
    )


def verdict(record: Record) -> float:
    """1 if the orders together favour the correct answer: +1 for each that does, -1 for each that does not.

    Two orders that contradict each other are no verdict and count as wrong, even if one is more certain; so
    does a tie. Where only one order was asked, that order decides.

    Example:
        >>> verdict(Record("q1", "", 1.0, log_odds=(3.0, -1.0), mass=(1.0, 1.0), length_a=4, length_b=9))
        0.0
    """
    return float(np.nansum(np.sign(np.array(record.log_odds))) > 0)


def scores(records: Sequence[Record]) -> Scores:
    """Per responding model: the categories, overall (micro, the official number) and their mean (macro)."""
    records = plain(records)
    models = list(dict.fromkeys(r.subset.rpartition("/")[0] for r in records))
    models.sort(key=lambda name: "gpt" not in name)  # the split of the paper's main table goes first
    lines: list[Line] = []
    overall: list[Estimate] = []
    missing: list[str] = []
    for model in models:
        inside = [r for r in records if r.subset.rpartition("/")[0] == model]
        parts = {
            name: _accuracy([r for r in inside if r.subset.endswith(f"/{name}")])
            for name in CATEGORIES.values()
        }
        overall.append(_accuracy(inside))
        lines += [
            Line(f"{model}: overall (micro)", overall[-1]),
            Line(f"{model}: mean of the categories (macro)", macro(list(parts.values()))),
            *(Line(name, value, 1) for name, value in parts.items() if value.n),
        ]
        missing += [f"{model}/{name}" for name, value in parts.items() if not value.n]
    notes = (f"the score is that of the split {models[0]}",) if len(models) > 1 else ()
    notes += without(missing)
    return Scores(overall[0] if overall else _accuracy([]), "overall (micro)", tuple(lines), notes)


def _accuracy(records: Sequence[Record]) -> Estimate:
    return share(records, np.array([verdict(record) for record in records]))


BENCHMARK = Benchmark(
    "judgebench",
    "JudgeBench",
    "Each order gives +1 for the correct answer and -1 for the other; a pair is right if the sum is above "
    "0, so contradicting orders are wrong. The score counts every pair alike (micro); the mean of the four "
    "categories (macro) stands beside it.",
    (("ScalerLab/JudgeBench::gpt", ""), ("ScalerLab/JudgeBench::claude", "")),
    _item,
    scores,
)
