"""What ``--bench`` names -> items: a benchmark on the Hub, a benchmark's local file, or any preference file.

Knows files and the list of benchmarks; knows no model and no records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gram.data import ColumnsLike, Options, Row, SourceInfo, read_as
from gram.data.formats import is_file_name
from gram.data.sources import parse_source
from gram.errors import ConfigError, DataError, NoRowsError
from gram.evaluation.benchmarks import BENCHMARKS, PREFERENCES, Benchmark
from gram.evaluation.items import Item, named, sample
from gram.types import Preference


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to measure on.

    Attributes:
        name: short and unique within a run; the records carry it.
        benchmark: its rule.
        files: sources of rows, each with the name of the subset of its rows (empty: the rows name it).
    """

    name: str
    benchmark: Benchmark
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """The items of one source, a ``SourceInfo`` per file, and what was left out, by reason."""

    source: Source
    items: tuple[Item, ...]
    infos: tuple[SourceInfo, ...]
    counts: Mapping[str, int]


def parse(specs: Sequence[str]) -> list[Source]:
    """``NAME`` (from the Hub), ``NAME=FILE`` (or ``FILE,FILE``), or any preference file, folder or Hub name.

    Raises:
        ConfigError: no such benchmark, or one that can only be read from a file.

    Example:
        >>> [(source.name, source.benchmark.name) for source in parse(["my/pairs.jsonl", "rewardbench2"])]
        [('pairs', 'preferences'), ('rewardbench2', 'rewardbench2')]
    """
    sources: list[Source] = []
    for spec in specs:
        name, mark, files = spec.partition("=")
        if mark and not Path(parse_source(spec)[0]).exists():
            source = Source(name, _benchmark(name), tuple((file, "") for file in files.split(",") if file))
            if not source.files:
                raise ConfigError(f"--bench {spec}: name a file after '='")
        elif spec in BENCHMARKS:
            source = Source(spec, BENCHMARKS[spec], BENCHMARKS[spec].hub)
            if not source.files:
                raise ConfigError(f"--bench {spec}: is on no hub that is known here; give {spec}=FILE")
        else:
            path = parse_source(spec)[0]
            if "/" not in path and not is_file_name(path) and not Path(path).exists():
                _benchmark(spec)
            name = Path(path).name.lstrip(".").partition(".")[0] or "data"  # of files in the output folder
            source = Source(name, PREFERENCES, ((spec, ""),))
        names = {other.name for other in sources}
        candidates = (source.name, *(f"{source.name}#{number}" for number in range(2, len(sources) + 2)))
        sources.append(replace(source, name=next(name for name in candidates if name not in names)))
    return sources


def load(
    source: Source,
    *,
    max_per_source: int | None = None,
    split: str | None = None,
    columns: ColumnsLike | None = None,
    **options: object,
) -> Questions:
    """The items of a source.

    Args:
        max_per_source: at most this many of its units (a seeded sample).
        split: of files that are no benchmark; the split of a benchmark is fixed.
        columns: of files that are no benchmark: which columns stand for which.
        options: ``on_error``, ``rejects`` and ``seed``, as everywhere; the rejects of a second file go to
            ``NAME.rejects.2.jsonl`` where those of the first go to ``NAME.rejects.jsonl``, and so on.

    Raises:
        DataError: a row that cannot be used, with file, line and field; an empty or missing file; no row in
            which one answer is better than another.
    """
    is_plain = source.benchmark is PREFERENCES
    items: list[Item] = []
    infos: list[SourceInfo] = []
    rejected = unpaired = 0
    rejects, count = options.get("rejects"), len(source.files)
    places = rejects_of(rejects, count) if isinstance(rejects, Path) else [None] * count
    for (file, subset), place in zip(source.files, places, strict=True):
        reading: Options = {**options, "rejects": place}  # type: ignore[typeddict-item]
        if is_plain:
            reading |= {"split": split, "columns": columns}
        examples = read_as(file, partial(_items, source, subset), join=is_plain, **reading)
        items += examples.examples
        infos += examples.sources
        rejected += examples.rejected
        unpaired += examples.unpaired
    seed = options.get("seed", 0)
    selection = sample(named(items), max_per_source, seed if isinstance(seed, int) else 0)
    if not any(item.gold_of(i) != item.gold_of(j) for item in selection for i, j in item.comparisons):
        names = ", ".join(file for file, _ in source.files)
        raise DataError("nothing to measure: in every row taken all answers have equal scores", file=names)
    counts = {"rejected": rejected, "unpaired": unpaired, "beyond_limit": len(items) - len(selection)}
    return Questions(source, tuple(selection), tuple(infos), counts)


def rejects_of(path: Path, files: int) -> list[Path]:
    """Where the rejected rows of each of ``files`` files go, if those of the first go to ``path``.

    Example:
        >>> [path.name for path in rejects_of(Path("pairs.rejects.jsonl"), 2)]
        ['pairs.rejects.jsonl', 'pairs.rejects.2.jsonl']
    """
    return [path, *(path.with_stem(f"{path.stem}.{number}") for number in range(2, files + 1))]


def training_rows(source: Source, split: str | None, most: int, **options: object) -> Sequence[Preference]:
    """Rows of the split ``train`` of a preference file, to train a floor; none if these are the test rows.

    Those of a configuration (``NAME::config:test``) are that configuration's own.

    Args:
        most: a sample of at most this many.
        options: ``on_error``, ``rejects`` and ``seed``, as everywhere.

    Raises:
        DataError: a row that cannot be used, with file, line and field.
    """
    if source.benchmark is not PREFERENCES:
        return ()
    from gram.data import read_preferences

    name, config, own = parse_source(source.files[0][0])
    if (own or split) in (None, "", "train"):
        return ()  # all rows are judged, or the training rows themselves: cross-validate on them
    reading: Options = {"max_per_source": most, **options}  # type: ignore[typeddict-item]
    try:
        return read_preferences(f"{name}::{config}:train" if config else f"{name}::train", **reading).examples
    except NoRowsError:
        return ()  # this source has no training rows


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise ConfigError(
            f"--bench {name}: no such benchmark or file; benchmarks are: {', '.join(BENCHMARKS)}"
        )
    return BENCHMARKS[name]


def _items(source: Source, subset: str, row: Row) -> list[Item]:
    values = {**row.values, "subset": subset} if subset else row.values
    try:
        item = source.benchmark.item(Row(values, row.file, row.line))
    except DataError as error:
        if error.file is not None:
            raise
        raise DataError(error.reason, file=row.file, line=row.line, field=error.field) from None
    return [replace(item, source=source.name)]
