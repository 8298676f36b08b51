"""``gram convert``: labeled pairs of any known form, as a file in the form of one trainer.

Nothing is lost unsaid: what a trainer does not read stands in columns of its own, which this package reads
again, and the result counts the rest. Knows files; what a row looks like is in ``writing``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gram.claims import Reads, claimed_files
from gram.config_file import READABLE_AS_MAPPING
from gram.data.asked import QUESTIONS
from gram.data.forms import BESIDE, Rated
from gram.data.reading import read_as
from gram.data.rejects import OnError
from gram.data.row import Row
from gram.data.rows import columns_of, parse, to_preference
from gram.data.writing import PLAIN, Target, Written, beside, read_again, written
from gram.errors import NoRowsError
from gram.files import atomic_write
from gram.messages import CALLS, THOUGHTS, is_null
from gram.paths import path_beside
from gram.types import Preference

_READ_BY_TRAINERS: Mapping[Target, tuple[str, ...]] = {
    "trl": ("margin",),
    "openrlhf": ("margin",),
    "llama-factory": (),
    "hh": (),
    "ms-swift": ("margin",),
}


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Write labeled pairs in the form that a trainer reads, as JSON Lines.

    Every row is read again and compared before it is written. Labels between 0 and 1, margins, ids, subsets
    and groups stand in columns of their own, which gram reads again and trainers pass over (TRL, OpenRLHF and
    ms-swift train with a margin). Ties are left out and counted, as these forms call one answer the better.
    """

    input: str
    """Labeled pairs: a file, a dataset folder or a Hub name."""
    to: Target
    """trl: messages with a prompt; openrlhf: two whole conversations; llama-factory: ShareGPT's turns; hh:
    transcripts; ms-swift: messages and a rejected_response."""
    output: Path
    """JSON Lines file for the rows."""
    split: str | None = None
    """Use only this split."""
    columns: str | None = field(default=None, metadata=READABLE_AS_MAPPING)
    """Names of columns: prompt=question,chosen=good; ignore=COLUMN leaves one out."""
    on_error: OnError = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT.rejects.jsonl and go on."""


@dataclass(frozen=True, slots=True)
class _Converted:
    """A row's pair, and what of the row is not in it."""

    written: Written
    as_text: bool
    has_others: bool
    left_out: frozenset[str]


def convert(options: ConvertOptions) -> dict[str, Any]:
    """Write the rows; returns a JSON-able summary.

    Returns:
        ``rows`` written, ``rejected`` and ``ties`` left out; ``beside``: the columns besides the trainer's
        own; and ``lost``: by what is not in the output any more, or is there and the trainer passes it over,
        how many rows have it (of columns their names, of which ``split`` is one; ``rejected.NAME`` is one of
        the worse answer's row, where two rows were joined). For LLaMA-Factory
        ``dataset_info``, the entry of its ``dataset_info.json``.

    Raises:
        DataError: a bad row, or one that the form cannot hold; nothing but ties.
        ConfigError: the output is the input.
    """
    rejects = path_beside(options.output, after=".rejects.jsonl")
    skips = options.on_error == "skip"
    with claimed_files([options.output], [rejects] if skips else [], Reads(data=[options.input])):
        found = read_as(
            options.input,
            lambda row: [_converted(row, options.to)],
            split=options.split,
            on_error=options.on_error,
            rejects=rejects if skips else None,
            columns=options.columns,
            join=True,
        )
        kept = [item for item in found.examples if item.written.preference.p_a != 0.5]
        if not kept:
            raise NoRowsError("every pair is a tie, and there is nothing to write", file=options.input)
        names = _columns_beside(item.written for item in kept)
        with atomic_write(options.output) as file:
            for item in kept:
                others = beside(item.written.preference)
                row = item.written.row | {name: others[name] for name in names}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    summary: dict[str, Any] = {
        "output": str(options.output),
        "to": options.to,
        "rows": len(kept),
        "rejected": found.rejected,
        "unpaired": found.unpaired,
        "ties": len(found.examples) - len(kept),
        "beside": names,
        "lost": _lost(kept, options.to),
    }
    if options.to == "llama-factory":
        summary["dataset_info"] = dataset_info(options.output)
    return summary


def dataset_info(output: Path) -> dict[str, Any]:
    """The entry of LLaMA-Factory's ``dataset_info.json`` for a file that was written for it.

    Example:
        >>> dataset_info(Path("runs/pairs.jsonl"))["pairs"]["ranking"]
        True
    """
    columns = {"messages": "conversations", "system": "system", "chosen": "chosen", "rejected": "rejected"}
    entry = {"file_name": output.name, "ranking": True, "formatting": "sharegpt", "columns": columns}
    return {output.stem: entry}


def _converted(row: Row, target: Target) -> _Converted:
    preference = to_preference(row)
    example = parse(row)
    has_others = isinstance(example, Rated) and len(example.contest.responses) > 2
    return _Converted(
        written(preference, target), _has_fields(row.values), has_others, _left_out(row, preference)
    )


def _left_out(row: Row, preference: Preference) -> frozenset[str]:
    """The columns that say nothing in ``preference``: without them the row means the same.

    Tried are those that rows of this form do not read, and those that any row may have, such as ``split`` or
    a second question beside ``prompt``.
    """
    given = {name for name, value in row.values.items() if value is not None}
    unread = given - columns_of(row)
    rest = {name: value for name, value in row.values.items() if name not in unread}
    for name in _ANYWHERE:
        if rest.get(name) not in (None, "", [], {}) and _means_the_same(rest, name, preference):
            del rest[name]
    return frozenset(given - rest.keys())


_ANYWHERE = (*reversed(QUESTIONS), *sorted(BESIDE - {*QUESTIONS, *PLAIN}))
"""Of two questions that agree the first is the one read, so that the last is tried first."""


def _means_the_same(values: Mapping[str, Any], name: str, preference: Preference) -> bool:
    return read_again({other: value for other, value in values.items() if other != name}) == preference


def _has_fields(values: Mapping[str, Any]) -> bool:
    """Whether a message of the row has thoughts or tool calls in a field of their own."""
    turns = [turn for value in values.values() if isinstance(value, list) for turn in value]
    turns += [value for value in values.values() if isinstance(value, Mapping)]
    messages = [turn for turn in turns if isinstance(turn, Mapping)]
    fields = [turn.get(name) for turn in messages for name in (*THOUGHTS, *CALLS)]
    return any(value and not is_null(value) for value in fields)


def _columns_beside(rows: Iterable[Written]) -> list[str]:
    """The columns in which some row has something to say; they stand in all rows, as trainers want them."""
    found = {name for row in rows for name, value in beside(row.preference).items() if value != PLAIN[name]}
    return [name for name in PLAIN if name in found]


def _lost(kept: list[_Converted], target: Target) -> dict[str, Any]:
    soft = sum(item.written.preference.p_a < 1 for item in kept)
    margins = sum(item.written.preference.margin != 0 for item in kept)
    counts = {
        "label read as certain by the trainer (kept in p_chosen)": soft,
        "margin not read by the trainer (kept in margin)": 0
        if "margin" in _READ_BY_TRAINERS[target]
        else margins,
        "white space around turns": sum(item.written.stripped for item in kept),
        "thoughts or tool calls in fields of their own (now in the text)": sum(item.as_text for item in kept),
        "candidates besides the best and the worst": sum(item.has_others for item in kept),
    }
    lost: dict[str, Any] = {what: count for what, count in counts.items() if count}
    if columns := sorted(frozenset().union(*(item.left_out for item in kept))):
        lost["columns"] = columns
    return lost
