"""Sources -> examples: every row is either used or accounted for.

Knows the order of work (read, convert, sample, fingerprint) and what happens to bad rows. Does not know file
formats (``sources`` does) nor what a row means (``rows`` does). Holds the examples in memory, not the rows.

All readers take the same ``Options``, and raise ``DataError``: for a bad row (``on_error="raise"``), and
always for a missing or unreadable source; ``NoRowsError``, which is one, for an empty source, an unknown
split, and a source all of whose rows are bad.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Generic, Literal, TextIO, TypeAlias, TypedDict, TypeVar, Unpack

from gram.data.pairing import pairs_of
from gram.data.rows import Language, Scorable, to_contest, to_language, to_preference, to_scorable
from gram.data.sources import Rejected, Row, is_file_of, parse_source, read_rows
from gram.errors import ConfigError, DataError, NoRowsError
from gram.files import atomic_write, make_folder
from gram.types import Contest, Preference

T = TypeVar("T")
Sources: TypeAlias = str | Path | Sequence[str | Path]
OnError: TypeAlias = Literal["raise", "skip"]


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
    """Examples in the order of their sources, how many rows were rejected, and where all came from."""

    examples: tuple[T, ...]
    rejected: int
    sources: tuple[SourceInfo, ...]


class Options(TypedDict, total=False):
    """What every reader can be asked.

    Attributes:
        split: the split to take; a source's own ``::split`` wins.
        on_error: "raise" (default) stops at the first bad row; "skip" writes it to ``rejects`` and goes on.
        rejects: the rejects file, JSON Lines of ``{"file", "line", "field", "reason", "row"}``. It appears
            when reading is over, and only if a row was rejected. One call, one file, and none that is read.
        max_per_source: keep a uniform random sample of this many records of each source, in their order.
        seed: of that sample, and of pairing; default 0.
    """

    split: str | None
    on_error: OnError
    rejects: Path | None
    max_per_source: int | None
    seed: int


def read_preferences(sources: Sources, **options: Unpack[Options]) -> ExampleSet[Preference]:
    """Labeled pairs; of a chosen and a rejected answer, ``pair.a`` is the chosen one.

    Example:
        >>> _ = Path("pairs.jsonl").write_text('{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}')
        >>> [preference] = read_preferences("pairs.jsonl").examples
        >>> preference.pair.a, preference.pair.b, preference.p_a
        ('4', '5', 1.0)
    """
    return read_as(sources, lambda row: [to_preference(row)], **options)


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
) -> ExampleSet[T]:
    """The examples that ``convert`` returns for every row; ``Options`` explains the options."""
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    if max_per_source is not None and max_per_source < 1:
        raise ConfigError(f"max_per_source must be at least 1, got {max_per_source}")
    names = [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]
    records: list[T] = []
    infos: list[SourceInfo] = []
    if on_error == "skip" and rejects is not None:
        check_rejects(rejects, names)
    with _rejecting(on_error, rejects) as bad:
        # All sources are opened first: a missing last one is noticed before an hour of reading the others.
        streams = [read_rows(name, split, bad.reject) for name in names]
        for source, rows in zip(names, streams, strict=True):
            name, _, own_split = parse_source(source)
            sample: _Sample[T] = _Sample(max_per_source, seed)
            good, bad_before = 0, bad.count
            for row in _watched(rows, name):
                try:
                    records_of_row = convert(row)
                except DataError as error:
                    bad.reject(Rejected(error, row.values))
                    continue
                good += 1
                for record in records_of_row:
                    sample.add(record)
            sampled = sample.records()
            total = good + bad.count - bad_before
            infos.append(SourceInfo(name, own_split or split, total, len(sampled), _fingerprint(sampled)))
            records += sampled
    for info in infos:  # after the rejects file has been written, so that the user can look into it
        if not info.records:
            raise NoRowsError(f"no usable row: all {info.rows} were rejected, see {rejects}", file=info.name)
    return ExampleSet(tuple(records), bad.count, tuple(infos))


def check_output(output: Path, source: str) -> None:
    """Refuse an output that could not be written, or would replace the input, before any work is done.

    Its folder is made.

    Raises:
        ConfigError: ``output`` is a folder or can lie in none, or is the file that ``source`` names.
    """
    if output.is_dir():
        raise ConfigError(f"output {output}: is a folder; name a file")
    if is_file_of(source, output):
        raise ConfigError(f"output {output}: is the input; name another file")
    make_folder(output.parent)


def check_rejects(rejects: Path, sources: Iterable[str | None]) -> None:
    """Refuse a rejects file that would replace a file of ``sources``; for runs that read more than once.

    Raises:
        ConfigError: naming the file.
    """
    if any(source and is_file_of(source, rejects) for source in sources):
        raise ConfigError(f"the rejects file {rejects}: is an input; rename that, or name another output")


class _Sample(Generic[T]):
    """A uniform sample without replacement of a stream, in its order (reservoir sampling, Vitter 1985)."""

    def __init__(self, limit: int | None, seed: int) -> None:
        self._limit = limit
        self._rng = Random(seed)
        self._sample: list[tuple[int, T]] = []
        self._count = 0

    def add(self, record: T) -> None:
        self._count += 1
        if self._limit is None or len(self._sample) < self._limit:
            self._sample.append((self._count, record))
        elif (slot := self._rng.randrange(self._count)) < self._limit:
            self._sample[slot] = (self._count, record)

    def records(self) -> list[T]:
        return [record for _, record in sorted(self._sample, key=lambda item: item[0])]


def _fingerprint(records: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr(record).encode() + b"\n")  # repr escapes line breaks inside of a record
    return digest.hexdigest()


class _Rejects:
    """Counts bad rows, and writes them down or raises the first."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.count = 0

    def reject(self, rejected: Rejected) -> None:
        error = rejected.error
        if self._stream is None:
            raise error
        entry = {"file": error.file, "line": error.line, "field": error.field, "reason": error.reason}
        print(json.dumps(entry | {"row": rejected.raw}, default=str), file=self._stream)
        self.count += 1


@contextmanager
def _rejecting(on_error: OnError, path: Path | None) -> Iterator[_Rejects]:
    if on_error == "raise":
        yield _Rejects(None)
        return
    if path is None:
        raise ConfigError("on_error='skip' needs a rejects file: rows are never dropped silently")
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(atomic_write(path, skip_empty=True))
        except OSError as error:
            raise ConfigError(f"the rejects file {path} cannot be written: {error}") from error
        bad = _Rejects(stream)
        yield bad
    if bad.count:
        rows = "row" if bad.count == 1 else "rows"
        print(f"warning: {bad.count} bad {rows} rejected, see {path}", file=sys.stderr)


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
