"""``gram eval``: a model measured on benchmarks and preference data, with intervals, biases and floors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gram.cli.options import ModelOptions
from gram.errors import ConfigError

if TYPE_CHECKING:
    from gram.evaluation import Item, Record
    from gram.evaluation.sources import Questions
    from gram.files import Journal
    from gram.types import Preference

_FLOOR_ROWS = 5000  # training rows per source for the bag of words; more do not help it


@dataclass(frozen=True, kw_only=True)
class Config(ModelOptions):
    """Measure a model: benchmarks by their official rules, with 95% intervals, biases, and beside the floors.

    Benchmarks: rewardbench, rewardbench-prior, rewardbench2, rm-bench, judgebench, best-of-k, hhh, llmbar; by
    name from the Hub, or NAME=FILE. Any other file is preference data. Writes records.jsonl (one line per
    comparison), results.json, report.html, report.md and *_outputs.jsonl. A killed run goes on where it
    stopped when the same command is given again.
    """

    bench: list[str] = field(default_factory=list)
    """What to measure on: NAME, NAME=FILE (or NAME=FILE,FILE), or preference data; several at once."""
    data: list[str] = field(default_factory=list)
    """Preference data: files, dataset folders or Hub names. The same as --bench FILE."""
    output: Path
    """Folder for the records and the report."""
    split: str | None = None
    """Use only this split of preference data."""
    limit: int | None = None
    """Take at most this many items of each (a seeded sample; of RM-Bench and Ties whole units)."""
    seed: int = 0
    """Seed of that sample."""
    perturb: list[str] = field(default_factory=list)
    """Ask again with the worse answers dressed up: whitespace, markdown, filler. Each costs a whole run."""
    shard: str = "1/1"
    """i/n: ask only the i-th of n parts; the run that finds all n in OUTPUT merges them and reports."""
    calibrate: str | None = None
    """Fit a temperature on this preference file, and store it in the model's gram.json for gram.load."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT/NAME.rejects.jsonl and go on."""


def run(config: Config) -> dict[str, Any]:
    """Evaluate; returns the overall numbers."""
    from gram.data import check_rejects
    from gram.evaluation import Stamp, evaluate, sources
    from gram.evaluation.texts import perturbed
    from gram.files import make_folder
    from gram.scoring.calibrated import storable

    began = time.monotonic()
    place = _shard(config.shard)
    if config.calibrate and config.ensemble_with:
        raise ConfigError(
            "--calibrate fits one model: a temperature of an ensemble has no gram.json to go to"
        )
    if config.calibrate and (config.bench or config.data or place != (1, 1)):
        raise ConfigError("--calibrate takes one file, and neither --bench, --data nor --shard")
    specs = [config.calibrate] if config.calibrate else [*config.bench, *config.data]
    if not specs:
        raise ConfigError("give --bench (or --data) something to measure on, or --calibrate a file")
    make_folder(config.output)
    asked = {source: config.output / f"{source.name}.rejects.jsonl" for source in sources.parse(specs)}
    if config.on_error == "skip":
        read = [*(file for source in asked for file, _ in source.files), config.centre_on]
        for rejects in asked.values():
            check_rejects(rejects, read)
    questions = [
        sources.load(
            source,
            limit=config.limit,
            split=config.split,
            on_error=config.on_error,
            rejects=rejects,
            seed=config.seed,
        )
        for source, rejects in asked.items()
    ]
    train = {} if config.calibrate else _training_rows(config, questions)
    items = [item for found in questions for item in found.items]
    items += perturbed(items, config.perturb)
    header = _header(config, questions)
    stamp = Stamp(sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:16], seed=config.seed)
    records = _kept(config.output / "records.jsonl", items, stamp.run)
    resumed = len(records) if records else 0
    model: Any = config.load_model() if config.calibrate or not records else None
    if config.calibrate:
        storable(Path(config.model), model, config.options)  # before an hour of asking
        model.temperature = 1.0
    if not records:
        stamp = Stamp(stamp.run, model.template.hash if model.template else "", config.seed)
        journal = _journal(config.output, place, header)
        resumed = journal.done
        records = evaluate(
            model, items, stamp=stamp, journal=journal, both_orders=config.options.both_orders, shard=place
        )
        journal.finish()
        if place[1] > 1:
            records, missing = _merged(config.output, place[1], items)
            if missing:
                return {"output": str(config.output), "shard": config.shard, "waiting_for": missing}
    if config.calibrate:
        return _calibrated(config, model, records, began)
    return _report(config, questions, train, items, records, resumed, began)


def _report(
    config: Config,
    questions: Sequence[Questions],
    train: Mapping[str, Sequence[Preference]],
    items: Sequence[Item],
    records: Sequence[Record],
    resumed: int,
    began: float,
) -> dict[str, Any]:
    from gram.evaluation import card, floors, preferences_of, results, write_report
    from gram.evaluation.outputs import write_outputs
    from gram.report import write_page

    rules = {found.source.name: found.source.benchmark.name for found in questions}
    beside = {
        found.source.name: floors(preferences_of(found.items), train[found.source.name])
        for found in questions
    }
    made = results(records, rules, beside)
    about = _about(config, questions, records)
    names = ", ".join(rules)
    title = f"{Path(config.model).name} on {names if len(rules) < 4 else f'{len(rules)} benchmarks'}"
    summary = made.to_dict()
    written, report = write_report(config.output, {**about, **summary}, card(made, title))
    page = write_page(config.output / "report.html", made, records, about, title)
    for found in questions:
        mine = [record for record in records if record.source == found.source.name]
        write_outputs(config.output / f"{found.source.name}_outputs.jsonl", items, mine)
    return {
        "output": str(config.output),
        "report": str(page) if page else str(report),
        "results": str(written),
        "rows": len(records),
        "resumed": resumed,
        "scores": {part["source"]: part["scores"]["score"] for part in summary["benchmarks"]},
        "accuracy": summary["overall"]["accuracy"],
        "consistency": summary["overall"]["consistency"],
        "floors": summary["overall"]["floors"],
        "truncated_prompts": about["truncated_prompts"],
        "rejected": about["rejected"],
        "seconds": round(time.monotonic() - began, 2),
    }


def _about(config: Config, questions: Sequence[Questions], records: Sequence[Record]) -> dict[str, Any]:
    known = all(record.truncated is not None for record in records)
    return {
        "version": 1,
        "model": config.model,
        **({"ensemble": [config.ensemble, *config.ensemble_with]} if config.ensemble_with else {}),
        "kind": config.kind,
        "template_hash": records[0].template,
        "data": [
            {
                "source": found.source.name,
                "benchmark": found.source.benchmark.name,
                "items": len(found.items),
                "files": [
                    {"name": Path(s.name).name, "split": s.split, "records": s.records, "sha256": s.sha256}
                    for s in found.read
                ],
            }
            for found in questions
        ],
        "single_order": config.single_order,
        "seed": config.seed,
        "limit": config.limit,
        "truncated_prompts": sum(bool(record.truncated) for record in records) if known else None,
        "rejected": sum(found.rejected for found in questions),
    }


def _header(config: Config, questions: Sequence[Questions]) -> dict[str, Any]:
    """What makes this run this run; shards of one run share it."""
    asked = {"limit": config.limit, "seed": config.seed, "perturb": config.perturb}
    data = [[f.source.name, f.source.benchmark.name, *(s.sha256 for s in f.read)] for f in questions]
    return config.fingerprint() | asked | {"data": data, "calibrating": config.calibrate is not None}


def _shard(text: str) -> tuple[int, int]:
    i, mark, n = text.partition("/")
    if not (mark and i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise ConfigError(f"--shard {text}: expected i/n with 1 <= i <= n, such as 1/4")
    return int(i), int(n)


def _shard_file(output: Path, i: int, n: int) -> Path:
    return output / ("records.jsonl" if n == 1 else f"records-{i}-of-{n}.jsonl")


def _journal(output: Path, place: tuple[int, int], header: dict[str, Any]) -> Journal:
    from gram.files import Journal

    return Journal(_shard_file(output, *place), header)


def _kept(path: Path, items: Sequence[Item], run: str) -> list[Record]:
    """The records of this very run, if it was finished before; else nothing."""
    from gram.errors import DataError
    from gram.evaluation import merge, read_records

    try:
        records = read_records(path)
        return merge(items, [records]) if records[0].run == run else []
    except DataError:
        return []  # none there, or of another run: ask


def _merged(output: Path, n: int, items: Sequence[Item]) -> tuple[list[Record], list[str]]:
    """The records of all shards, written to records.jsonl; or which of the shards' files are missing."""
    from gram.evaluation import Record, merge
    from gram.files import atomic_write

    paths = [_shard_file(output, i, n) for i in range(1, n + 1)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        return [], missing
    # Bytes: the lines of a text also end at U+2028 and its like, which may stand in an id as they are.
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    found = [Record.from_dict(json.loads(line)) for line in lines]
    records = merge(items, [found])
    order = {record.place: line for record, line in zip(found, lines, strict=True)}
    with atomic_write(output / "records.jsonl") as file:
        file.writelines(order[record.place].decode() for record in records)
    return records, []


def _calibrated(config: Config, model: Any, records: Sequence[Record], began: float) -> dict[str, Any]:
    from gram.evaluation import fit_temperature
    from gram.scoring.calibrated import store

    fitted = fit_temperature([record for record in records if record.judged])
    about = {**asdict(fitted), "data": Path(str(config.calibrate)).name, "seed": config.seed}
    del about["temperature"]
    store(Path(config.model), model, fitted.temperature, about, config.options)
    return {"model": config.model, **asdict(fitted), "seconds": round(time.monotonic() - began, 2)}


def _training_rows(config: Config, questions: Sequence[Questions]) -> dict[str, Sequence[Preference]]:
    """What teaches the bag of words of each source: the source's own training rows, where it has any."""
    from gram.evaluation import preferences_of
    from gram.evaluation.sources import training_rows

    chosen = {}
    for found in questions:
        rows = training_rows(
            found.source,
            config.split,
            _FLOOR_ROWS,
            on_error=config.on_error,
            rejects=config.output / f"{found.source.name}.train.rejects.jsonl",
            seed=config.seed,
        )
        # A row without a split belongs to every split: to the training rows, and to those that are judged.
        judged = {_texts(row) for row in preferences_of(found.items)}
        chosen[found.source.name] = [row for row in rows if _texts(row) not in judged]
    return chosen


def _texts(row: Preference) -> tuple[object, frozenset[str]]:
    return row.pair.prompt, frozenset((row.pair.a, row.pair.b))
