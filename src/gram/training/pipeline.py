"""``gram train`` from beginning to end: data, rendering, objective, fit, checkpoint.

The one place where the parts of training are chosen from a configuration. Knows no command line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from gram.claims import claimed_folder
from gram.data import ExampleSet, Options, find_leaks, read_language, read_preferences
from gram.errors import ConfigError, DataError
from gram.extras import need
from gram.files import finite
from gram.modeling.adapters import check_can_be_named
from gram.modeling.digests import content_of
from gram.modeling.language_head import drop_language_head
from gram.modeling.loading import LoadedModel, choose_device
from gram.modeling.lowered import Lowered
from gram.modeling.quantised import check_quantising
from gram.modeling.saving import save_checkpoint
from gram.modeling.trainable import merged
from gram.objectives.language import Unlabeled
from gram.objectives.objective import Objective, Sample
from gram.rendering import Renderer
from gram.training import sharding
from gram.training.arguments import check_settings, settings_of
from gram.training.assemble import answer_context, check_of, make_objective
from gram.training.config import TrainConfig
from gram.training.distil import with_verdicts
from gram.training.fit import FitResult, fit
from gram.training.folder import (
    CHECKPOINTS,
    REJECTS,
    RESULT,
    begin_output,
    claim_output,
    end_output,
    finished_before,
    reads_of,
)
from gram.training.record import sources_of, training_manifest
from gram.training.start import free_weights, load_start, precision
from gram.types import Preference

Example = Preference | Unlabeled


@dataclass(frozen=True)
class Samples:
    """Encoded examples.

    Attributes:
        usable: those to train on.
        truncated: how many of these were shortened.
        collapsed: how many were left out, since truncation made their answers equal.
    """

    usable: list[Sample]
    truncated: int
    collapsed: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many are usable, how many of these were shortened, and how many were left out."""
        return len(self.usable), self.truncated, self.collapsed


def train(config: TrainConfig) -> dict[str, Any]:
    """Run ``config``; the finished checkpoint is in ``config.output``.

    Returns:
        A JSON-able summary: output, steps, seconds, losses, and what was cut or rejected.

    Raises:
        GramError: of the kind whose fault it is.
    """
    start_time = time.monotonic()
    if config.lora:
        need("peft")
    chief = int(os.environ.get("RANK", "0")) == 0
    device = choose_device(config.device)
    if config.quantise:
        check_quantising(device)
    config = replace(config, dtype=precision(config))  # from here on it is what it is, wherever it is told
    processes = PartialState(cpu=device == "cpu")
    with ExitStack() as stack:
        if chief:
            names = REJECTS.values() if config.on_error == "skip" else ()
            claim = claimed_folder(config.output, names, reads_of(config), whole=True)
            stack.enter_context(claim)
        else:  # it would say the same; an error is said behind this block
            stack.enter_context(redirect_stderr(stack.enter_context(Path(os.devnull).open("w"))))
        processes.wait_for_everyone()  # the others write into the folder too, if they reject rows
        result = finished_before(config)
        processes.wait_for_everyone()
        if result is None:
            if chief:
                claim_output(config)
            processes.wait_for_everyone()
            result = _train(config, device, processes, chief, start_time)
        if chief:
            end_output(config.output)
    if chief:
        (config.output / RESULT).unlink(missing_ok=True)  # the very last step, see ``finished_before``
    return result


def _train(
    config: TrainConfig, device: str, processes: PartialState, chief: bool, start_time: float
) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    divided = sharding.asked_for() is not None
    if divided and config.quantise:
        raise ConfigError("quantise: a base in 4 bits is not divided among processes; leave out what does")
    if config.adapter == "kept":
        check_can_be_named(config.model, config.revision, config.base)
    rows, held_out = _read_all(config)
    if config.distil is not None:
        rows = with_verdicts(rows, config, device)
    check_settings(settings_of(config, len(rows.examples), device), evaluates=held_out is not None)
    beside: dict[str, int] = {}  # rows that nobody trains on, but that could not be used either
    loaded = load_start(config, rows.examples, beside, device)
    context = answer_context(config, loaded, rows.examples)
    objective, renderer = make_objective(config, loaded, context, device)
    samples = _encode(objective, rows.examples, config.on_error)
    eval_samples = _encode(objective, held_out.examples, config.on_error).usable if held_out else []
    model = free_weights(loaded.model, config, score_head=objective.head == "score")
    leaks = find_leaks(rows.examples, held_out.examples) if held_out and config.stage == "finetune" else []
    sources = sources_of(rows, held_out)
    if chief:
        begin_output(config, sources, _read_besides(config, loaded, renderer))
    processes.wait_for_everyone()
    # Weights that are divided among processes stay as they are: frozen ones take little room as it is.
    lowered = Lowered(model) if config.dtype == "bf16" and not divided else None
    result = fit(
        model,
        objective,
        samples.usable,
        settings_of(config, len(samples.usable), device),
        eval_samples=eval_samples,
        checkpoints=config.output / CHECKPOINTS,
        title=f"{config.stage} {config.objective_name}",
    )
    if lowered is not None:
        lowered.restore()
    model = result.model
    drop_language_head(model)
    if config.adapter == "merged":
        model = merged(model)
    summary = _summary(config, rows, held_out, samples, objective.engine, result) | {
        **beside,
        "leaked": len(leaks),
        "parameters": model.num_parameters(),
        "seconds": round(time.monotonic() - start_time, 1),
    }
    if chief:
        manifest = training_manifest(config, renderer, context, result, samples.counts, sources)
        files, merge = {RESULT: json.dumps(finite(summary))}, config.adapter == "merged"
        how: dict[str, Any] = {"merge": merge, "brought": loaded.brought}
        save_checkpoint(config.output, model, loaded.tokenizer, manifest, files, **how)
    PartialState().wait_for_everyone()
    return summary


def _read_besides(config: TrainConfig, loaded: LoadedModel, renderer: Renderer) -> dict[str, Any]:
    """What decides, besides the rows, what is learned, by its content: see ``begin_output``."""
    models = {"distil": config.distil, "reference": config.reference}
    read = {name: content_of(model) for name, model in models.items() if model is not None}
    read["model"] = content_of(config.model, config.base, config.revision)
    read["template"] = renderer.settings["template_hash"]
    if config.tokenizer_data:
        tokenizer: Any = loaded.tokenizer
        read["tokenizer"] = sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return read


def _summary(
    config: TrainConfig,
    rows: ExampleSet[Any],
    held_out: ExampleSet[Any] | None,
    samples: Samples,
    engine: str,
    result: FitResult,
) -> dict[str, Any]:
    return {
        "output": str(config.output),
        "stage": config.stage,
        "objective": config.objective_name,
        "examples": len(rows.examples),
        "samples": len(samples.usable),
        "truncated": samples.truncated,
        "collapsed": samples.collapsed,
        **rows.counts,
        **{f"eval_{reason}": count for reason, count in (held_out.counts if held_out else {}).items()},
        "steps": result.steps,
        "engine": engine,
        "dtype": config.dtype,
        "train_loss": result.train_loss,
        "evaluation": result.evaluation,
    }


def _read_all(config: TrainConfig) -> tuple[ExampleSet[Any], ExampleSet[Any] | None]:
    """The rows to train on, and those to evaluate on, if there are any."""
    folder = config.output
    rows = _read(config, config.data, config.split, config.max_per_source, folder / REJECTS["data"])
    if not config.eval_data:
        return rows, None
    limit, rejects = config.max_eval_per_source, folder / REJECTS["eval_data"]
    return rows, _read(config, config.eval_data, config.eval_split, limit, rejects)


def _read(
    config: TrainConfig, sources: Sequence[str], split: str | None, limit: int | None, rejects: Path
) -> ExampleSet[Any]:
    how: Options = {
        "split": split,
        "columns": config.columns,
        "on_error": config.on_error,
        "rejects": rejects,
        "max_per_source": limit,
        "seed": config.seed,
        "check": check_of(config),
    }
    if config.stage == "pretrain":
        return read_language(sources, pairs_per_prompt=config.pairs_per_prompt, **how)
    return read_preferences(sources, **how)


def _encode(objective: Objective[Any], examples: Sequence[Example], on_error: str) -> Samples:
    samples = objective.encode(examples)
    collapsed = [sample for sample in samples if sample.collapsed]
    if collapsed and on_error == "raise":
        raise DataError(
            f"{len(collapsed)} of {len(samples)} pairs have equal answers after truncation: "
            "raise --max-length, or leave them out with --on-error skip"
        )
    usable = [sample for sample in samples if not sample.collapsed]
    return Samples(usable, sum(sample.cut > 0 for sample in usable), len(collapsed))
