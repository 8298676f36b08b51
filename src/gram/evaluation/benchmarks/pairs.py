"""Benchmarks of labeled pairs: any preference file, HHH and LLMBar."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gram.data import Row, to_preference
from gram.data.chats import check_answer, text_of, transcript_of
from gram.errors import DataError
from gram.evaluation.benchmarks.benchmark import (
    Benchmark,
    Line,
    Scores,
    fault,
    field,
    label,
    macro,
    placed,
    plain,
    without,
)
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


def published_pair(row: Row) -> Item:
    """A row of a benchmark in any form of labeled pair: plain answers are taken as they stand.

    Elsewhere a prompt that both repeat is taken off, and the markup of a chat template is refused.
    """
    names = ("chosen", "rejected")
    if not any(name in row.values for name in names) or row.values.get("prompt") is None:
        return preference_item(row)
    answers = {name: field(row, name) for name in names}
    told = {
        name: [{"role": "assistant", "content": text}]
        for name, text in answers.items()
        if isinstance(text, str) and text.strip() and transcript_of(text) is None
    }
    return preference_item(Row({**row.values, **told}, row.file, row.line))


def micro(records: Sequence[Record]) -> Scores:
    """Accuracy over all rows, each counting once, and by subset."""
    records = plain(records)
    names = sorted({record.subset for record in records})
    lines = [Line(name or "(none)", accuracy([r for r in records if r.subset == name])) for name in names]
    return Scores(accuracy(records), "accuracy", tuple(lines) if len(lines) > 1 else ())


def _of_parts(parts: Sequence[str], convert: Callable[[Row], Item] = published_pair) -> Callable[[Row], Item]:
    @placed
    def item(row: Row) -> Item:
        result = convert(row)
        if result.subset not in parts:
            raise fault(row, f"expected one of {', '.join(parts)}, got {result.subset!r}", "subset")
        return result

    return item


def _choices(row: Row) -> Item:
    """The published form of HHH, ``input`` and ``targets`` with two choices, or a labeled pair."""
    if not {"input", "targets"} & row.values.keys():
        return published_pair(row)
    targets = field(row, "targets")
    choices, labels = (
        (targets.get(name) for name in ("choices", "labels")) if isinstance(targets, dict) else (0, 0)
    )
    if not (isinstance(choices, list) and len(choices) == 2 and labels in ([0, 1], [1, 0])):
        raise fault(row, "expected two choices with the labels 1 and 0", "targets")
    good = labels.index(1)
    return _renamed_pair(
        row,
        {"prompt": "input", "chosen": f"targets.choices[{good}]", "rejected": f"targets.choices[{1 - good}]"},
        {"prompt": field(row, "input"), "chosen": choices[good], "rejected": choices[1 - good]},
    )


def _outputs(row: Row) -> Item:
    """The published form of LLMBar, ``input``, two outputs and the number of the better, or a labeled pair.

    The subset is that of the row or, as in the authors' folders, that of the file (``Natural/dataset.json``).
    """
    path = Path(row.file.lower())
    places = {*re.split(r"[._-]", path.name), *path.parts}
    subset = label(row, "subset", "") or next((part for part in LLMBAR_PARTS if part.lower() in places), "")
    row = Row({**row.values, "subset": subset}, row.file, row.line)
    if not {"input", "output_1", "output_2"} & row.values.keys():
        return published_pair(row)
    better = field(row, "label")
    if isinstance(better, bool) or better not in (1, 2):
        raise fault(row, f"expected 1 or 2, the number of the better output, got {better!r}", "label")
    names = {"prompt": "input", "chosen": f"output_{int(better)}", "rejected": f"output_{3 - int(better)}"}
    return _renamed_pair(row, names, {name: field(row, column) for name, column in names.items()})


def _renamed_pair(row: Row, names: Mapping[str, str], values: Mapping[str, object]) -> Item:
    """The pair of ``values``, whose errors name the fields of the row: ``names``."""
    beside = {name: row.values[name] for name in ("id", "subset", "group") if name in row.values}
    for name in ("chosen", "rejected"):
        check_answer(text_of(values[name], names[name]), names[name])
    try:
        return published_pair(Row({**beside, **values}, row.file, row.line))
    except DataError as error:
        raise row.error(error.reason, names.get(error.field or "", error.field)) from None


def _hhh(records: Sequence[Record]) -> Scores:
    records = plain(records)
    parts = {name: accuracy([r for r in records if r.subset == name]) for name in HHH_PARTS}
    lines = [Line(name, value) for name, value in parts.items()]
    lines.append(Line("mean of the parts", macro(list(parts.values()))))
    return Scores(accuracy(records), "accuracy", tuple(lines), _missing(parts))


def _missing(parts: Mapping[str, Estimate]) -> tuple[str, ...]:
    return without([name for name, value in parts.items() if name and not value.n])


def _llmbar(records: Sequence[Record]) -> Scores:
    records = plain(records)
    parts = {name: _each_order([r for r in records if r.subset == name]) for name in (*LLMBAR_PARTS, "")}
    both = [record for record in records if record.consistent is not None]
    agreement = share(both, np.array([record.consistent for record in both], dtype=float))
    lines = (
        Line("Natural", parts["Natural"]),
        Line("Adversarial", macro([parts[name] for name in LLMBAR_ADVERSARIAL])),
        *(Line(name, parts[name], 1) for name in LLMBAR_ADVERSARIAL),
        *([Line("(no subset)", parts[""])] if parts[""].n else []),
        Line("all rows alike", _each_order(records)),
        Line("agreement of both orders", agreement),
    )
    notes = ("some rows name no subset, and count as one of their own",) if parts[""].n else ()
    notes += _missing(parts)
    return Scores(macro(list(parts.values())), "mean accuracy of the subsets", lines, notes)


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
    _of_parts((*LLMBAR_PARTS, ""), _outputs),
    _llmbar,
)
