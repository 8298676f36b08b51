"""Sources -> examples: every row is either used or accounted for.

Knows the order of work (read, convert, sample, fingerprint) and what happens to bad rows. Does not know file
formats (``sources`` does) nor what a row means (``rows`` does). Holds the examples in memory, not the rows.

All readers take the same ``Options``, and raise ``DataError``: for a bad row (``on_error="raise"``), and
always for a missing or unreadable source; ``NoRowsError``, which is one, for an empty source, an unknown
split, and a source all of whose rows are bad.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeAlias, TypedDict, TypeVar, Unpack

from gram.claims import Reads, refuse_overlap
from gram.data.columns import Columns, ColumnsLike, parse_columns
from gram.data.pairing import pairs_of
from gram.data.partners import Joined
from gram.data.rejects import OnError, rejecting
from gram.data.row import Rejected, RejectSink, Row
from gram.data.rows import COLUMNS, Language, Scorable, to_contest, to_language, to_preference, to_scorable
from gram.data.sampling import Sample
from gram.data.sources import parse_source, read_rows
from gram.errors import ConfigError, DataError, NoRowsError
from gram.types import Contest, Preference

T = TypeVar("T")
Sources: TypeAlias = str | Path | Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What one source gave.

    Attributes:
        rows: rows of the split, bad ones included.
        records: examples kept.
        sha256: fingerprint of the kept examples' content, in order; independent of where the file lies.
    """

    name: str
    split: str | None
    rows: int
    records: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ExampleSet(Generic[T]):
    """Examples in the order of their sources, where all came from, and what is not among them.

    Attributes:
        rejected: rows that could not be used.
        unpaired: judged answers without another one to the same prompt, where labeled pairs were wanted.
        beyond_limit: records that ``max_per_source`` left out.
    """

    examples: tuple[T, ...]
    rejected: int
    sources: tuple[SourceInfo, ...]
    unpaired: int = 0
    beyond_limit: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many rows and records are not among the examples, by reason; and how many of these are ties."""
        ties = sum(isinstance(example, Preference) and example.p_a == 0.5 for example in self.examples)
        return {
            "rejected": self.rejected,
            "unpaired": self.unpaired,
            "beyond_limit": self.beyond_limit,
            "ties": ties,
        }


class Options(TypedDict, total=False):
    """What every reader can be asked.

    Attributes:
        split: the split to take; a source's own ``::split`` wins.
        on_error: "raise" (default) stops at the first bad row; "skip" writes it to ``rejects`` and goes on.
        rejects: the rejects file, JSON Lines of ``{"file", "line", "field", "reason", "row"}``. It appears
            when reading is over, and only if a row was rejected. One call, one file, and none that is read.
        max_per_source: keep a uniform random sample of this many records of each source, in their order.
        seed: of that sample, and of pairing; default 0.
        columns: which columns stand for which: ``{"prompt": "question"}``, or "prompt=question,chosen=good";
            ``ignore`` leaves one out.
        check: called with every record; its ``DataError`` makes the row a bad one.
    """

    split: str | None
    on_error: OnError
    rejects: Path | None
    max_per_source: int | None
    seed: int
    columns: ColumnsLike | None
    check: Callable[[object], None] | None


def read_preferences(sources: Sources, **options: Unpack[Options]) -> ExampleSet[Preference]:
    """Labeled pairs; of a chosen and a rejected answer, ``pair.a`` is the chosen one.

    Rows that hold one judged answer each become pairs where their prompt has a better and a worse one.

    Example:
        >>> _ = Path("pairs.jsonl").write_text('{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}')
        >>> [preference] = read_preferences("pairs.jsonl").examples
        >>> preference.pair.a, preference.pair.b, preference.p_a
        ('4', '5', 1.0)
    """
    return read_as(sources, lambda row: [to_preference(row)], join=True, **options)


def read_language(
    sources: Sources, *, pairs_per_prompt: int = 1, **options: Unpack[Options]
) -> ExampleSet[Language]:
    """Unlabeled pairs, answers and texts; of several responses ``pairs_per_prompt`` pairs are drawn.

    Example:
        >>> _ = Path("texts.jsonl").write_text('{"text": "Salt dissolves in water."}')
        >>> read_language("texts.jsonl").examples
        (Text(text='Salt dissolves in water.', id=''),)
    """
    pairing = partial(pairs_of, count=pairs_per_prompt, seed=options.get("seed", 0))
    return read_as(sources, lambda row: to_language(row, pairing), **options)


def read_contests(sources: Sources, **options: Unpack[Options]) -> ExampleSet[Contest]:
    """Prompts with their candidate answers.

    Example:
        >>> _ = Path("contests.jsonl").write_text('{"prompt": "2 + 2?", "responses": ["4", "5"]}')
        >>> read_contests("contests.jsonl").examples[0].responses
        ('4', '5')
    """
    return read_as(sources, lambda row: [to_contest(row)], **options)


def read_scorables(sources: Sources, **options: Unpack[Options]) -> ExampleSet[Scorable]:
    """Pairs, candidates and single answers to score, each with its row's id; labels are not looked at.

    Example:
        >>> _ = Path("answers.jsonl").write_text('{"id": 7, "prompt": "2 + 2?", "response": "4"}')
        >>> [scorable] = read_scorables("answers.jsonl").examples
        >>> scorable.id, scorable.item.response
        ('7', '4')
    """
    return read_as(sources, lambda row: [to_scorable(row)], **options)


def read_as(
    sources: Sources,
    convert: Callable[[Row], Sequence[T]],
    *,
    split: str | None = None,
    on_error: OnError = "raise",
    rejects: Path | None = None,
    max_per_source: int | None = None,
    seed: int = 0,
    columns: ColumnsLike | None = None,
    check: Callable[[object], None] | None = None,
    join: bool = False,
) -> ExampleSet[T]:
    """The examples that ``convert`` returns for every row; ``Options`` explains the options.

    Args:
        join: let ``convert`` see a pair where two rows hold one judged answer each (``partners``).

    Raises:
        ConfigError: an option that makes no sense.
    """
    renaming = parse_columns(columns, COLUMNS)
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    if max_per_source is not None and max_per_source < 1:
        raise ConfigError(f"max_per_source must be at least 1, got {max_per_source}")
    names = [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]
    records: list[T] = []
    infos: list[SourceInfo] = []
    unpaired: list[int] = []
    beyond_limit = 0
    if on_error == "skip" and rejects is not None:
        refuse_overlap([rejects], Reads(data=names))
    with rejecting(on_error, rejects) as bad:
        # All sources are opened first: a missing last one is noticed before an hour of reading the others.
        streams = [read_rows(name, split, bad.reject_unread) for name in names]
        for source, rows in zip(names, streams, strict=True):
            name, _, own_split = parse_source(source)
            sample: Sample[T] = Sample(max_per_source, seed)
            counted = _Counted(_watched(rows, name))
            unread_before = bad.unread
            renamed = _renamed(counted, renaming, bad.reject) if renaming else counted
            joined = Joined(renamed, bad.reject) if join else None
            for record in _records(joined or renamed, convert, check, bad.reject):
                sample.add(record)
            sampled = sample.records()
            total = counted.count + bad.unread - unread_before
            infos.append(SourceInfo(name, own_split or split, total, len(sampled), _fingerprint(sampled)))
            records += sampled
            unpaired.append(joined.unpaired if joined else 0)
            beyond_limit += sample.left_out
    # The rejects file has been written by now, so that the user can look into it.
    for info, alone in zip(infos, unpaired, strict=True):
        if not info.records:
            raise NoRowsError(_unusable(info.rows, alone, rejects), file=info.name)
    return ExampleSet(tuple(records), bad.count, tuple(infos), sum(unpaired), beyond_limit)


def _records(
    rows: Iterable[Row],
    convert: Callable[[Row], Sequence[T]],
    check: Callable[[object], None] | None,
    reject: RejectSink,
) -> Iterator[T]:
    for row in rows:
        try:
            records = _checked(convert, check, row)
        except DataError as error:
            reject(Rejected(error, row.values))
            continue
        yield from records


def _checked(
    convert: Callable[[Row], Sequence[T]], check: Callable[[object], None] | None, row: Row
) -> Sequence[T]:
    """What ``convert`` makes of a row, if ``check`` has nothing against it; errors name the row's place."""
    try:
        records = convert(row)
        if check is not None:
            for record in records:
                check(record)
    except DataError as error:
        raise error if error.file else row.error(error.reason, error.field) from error
    return records


def _unusable(rows: int, unpaired: int, rejects: Path | None) -> str:
    """Why not one of these rows made a record."""
    if not unpaired:
        return f"no usable row: all {rows} were rejected, see {rejects}"
    why = f"{unpaired} judged answers have no partner, a better or a worse answer to the same prompt"
    others = f"; the others were rejected, see {rejects}" if rows > unpaired else ""
    return f"no usable row of {rows}: {why}{others}"


class _Counted:
    """Rows, counted as they are read."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row


def _renamed(rows: Iterable[Row], columns: Columns, reject: RejectSink) -> Iterator[Row]:
    for row in rows:
        try:
            renamed = columns.of(row)
        except DataError as error:
            reject(Rejected(error, row.values))
            continue
        yield renamed


def _fingerprint(records: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr(record).encode() + b"\n")  # repr escapes line breaks inside of a record
    return digest.hexdigest()


def _watched(rows: Iterable[Row], name: str) -> Iterator[Row]:
    """``rows``, counted on the terminal while they are read, if there is one."""
    if not sys.stderr.isatty():
        yield from rows
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("reading {task.description}"), BarColumn(), TextColumn("{task.completed:,} rows"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(Path(name).name, total=None)
        for number, row in enumerate(rows, 1):
            if number % 256 == 0:
                progress.update(task, completed=number)
            yield row
