"""``gram eval``: a model measured on benchmarks and preference data, with intervals, biases and floors."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gram.claims import Reads, claimed_files, claimed_folder
from gram.cli.options import ModelOptions
from gram.errors import ConfigError
from gram.evaluation.options import EvalOptions
from gram.paths import at_home
from gram.scoring.remote.address import is_elsewhere

if TYPE_CHECKING:
    from gram.evaluation import Selection, Shard


@dataclass(frozen=True, kw_only=True)
class Config(EvalOptions, ModelOptions):
    """Measure a model: benchmarks by their official rules, with 95% intervals, biases, and beside the floors.

    Benchmarks: rewardbench, rewardbench-prior, rewardbench2, rm-bench, judgebench, best-of-k, hhh, llmbar; by
    name from the Hub, or NAME=FILE. Any other file is preference data. Writes records.jsonl (one line per
    comparison), results.json, report.html, report.md and *_outputs.jsonl. A killed run goes on where it
    stopped when the same command is given again.
    """


def run(config: Config) -> dict[str, Any]:
    """Evaluate; returns the overall numbers."""
    from gram.evaluation import Shard
    from gram.report import run_files

    start_time = time.monotonic()
    shard = Shard.parse(config.shard)
    if config.calibrate and is_elsewhere(config.model):
        raise ConfigError(
            "--calibrate stores a temperature in the folder of the model: give that, not a server"
        )
    if config.calibrate and config.ensemble_with:
        raise ConfigError(
            "--calibrate fits one model: a temperature of an ensemble has no gram.json to go to"
        )
    selection = config.selection(config.source.check)
    names = selection.files(config.output, shard) + run_files([source.name for source in selection.sources])
    reads = Reads(config.source.reads.files, [*config.source.reads.data, *selection.reads.data])
    with claimed_folder(config.output, names, reads, shared=shard.of > 1):
        result = _calibrate(config, selection) if config.calibrate else _measure(config, selection, shard)
    return result | {"dtype": config.source.precision, "seconds": round(time.monotonic() - start_time, 2)}


def _measure(config: Config, selection: Selection, shard: Shard) -> dict[str, Any]:
    from gram.evaluation import Session
    from gram.publishing.measured import measured
    from gram.report import write_run

    fingerprint = config.source.fingerprint() | {"calibrating": False}
    about: dict[str, Any] = {"model": config.model, "kind": config.kind, "dtype": config.source.precision}
    about["measured"] = None if config.ensemble_with else measured(config.model, config.options)
    session = Session(selection, config.output, fingerprint, shard)
    train = session.training_rows()
    records, missing = session.on_file()
    resumed = len(records)
    if not records and not missing:
        with config.at_work(session.calls) as workers:
            records, resumed, missing = session.ask(workers, both_orders=config.source.both_orders)
    if missing:
        return {"output": str(config.output), "shard": config.shard, "waiting_for": missing}
    about["single_order"] = config.single_order
    if config.ensemble_with:
        about["ensemble"] = [config.ensemble, *config.ensemble_with]
    numbers = write_run(session, records, train, about)
    return {"output": str(config.output), **numbers, "resumed": resumed}


def _calibrate(config: Config, selection: Selection) -> dict[str, Any]:
    """Fit the temperature and store it; loading checks that it can be stored, as asking may take an hour."""
    from gram.evaluation import Session, fit_temperature
    from gram.modeling.manifest import FILE
    from gram.report import truncated_prompts
    from gram.scoring.calibrated import store, uncalibrated

    session = Session(selection, config.output, config.source.fingerprint() | {"calibrating": True})
    load = partial(uncalibrated, config.load_model, at_home(config.model), config.options)
    with config.at_work(session.calls, load) as workers, claimed_files([at_home(config.model) / FILE]):
        records = session.on_file()[0] or session.ask(workers, both_orders=config.source.both_orders)[0]
        calibration = asdict(fit_temperature([record for record in records if record.judged]))
        about = {**calibration, "data": Path(str(config.calibrate)).name, "seed": config.seed}
        store(at_home(config.model), records[0].template, about.pop("temperature"), about, config.options)
    return {"model": config.model, **calibration, "truncated_prompts": truncated_prompts(records)}
