"""``gram adapt`` from beginning to end: a checkpoint and a file of labels in, a checkpoint out.

Chooses the parts of an adaptation from its configuration. Knows no command line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from gram.adaptation.adapt import Adaptation, adapt, check_rows
from gram.adaptation.config import AdaptConfig
from gram.adaptation.learner import AdaptSettings
from gram.adaptation.record import facts_of, files_beside, finished_before
from gram.asking import Asking, Kind, LoadOptions, Running
from gram.claims import Reads, claimed_folder, refuse_overlap
from gram.data import ExampleSet, read_preferences
from gram.errors import ConfigError, DataError
from gram.files import finite, replaced_folder
from gram.modeling.adapter_folder import base_of
from gram.modeling.adapters import adapter_base, base_to_name, check_can_be_named
from gram.modeling.loading import Head, LoadedModel, choose_device, load_model
from gram.modeling.manifest import Manifest
from gram.modeling.on_hub import manifest_of, on_disk
from gram.modeling.precision import precision_of
from gram.modeling.reference import asking_where, check_reference, recorded
from gram.modeling.saving import copy_checkpoint, library_versions, save_checkpoint
from gram.modeling.shipped import find_place, is_on_hub
from gram.modeling.showing import showing
from gram.objectives.objective import Objective
from gram.paths import path_beside
from gram.rendering import Renderer
from gram.scoring.loading import wrap
from gram.training.assemble import make_objective
from gram.training.config import ObjectiveName, TrainConfig
from gram.training.folder import RESULT, check_output
from gram.types import Preference

_STORED = {"label_smoothing", "reference", "margin", "centring"}  # options taken over from the old model
_OBJECTIVES: dict[Kind, ObjectiveName] = {
    "judge": "preference",
    "likelihood": "likelihood",
    "scalar": "scalar",
}


def adapt_checkpoint(config: AdaptConfig) -> dict[str, Any]:
    """Run ``config``; a complete checkpoint is in ``config.output``: the adapted model, or the old one.

    Returns:
        A JSON-able summary: ``adopted`` and why, what was chosen, and the numbers before and after.

    Raises:
        GramError: the class says whether the options, the data or the model is at fault; nothing is written.
    """
    began = time.monotonic()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("gram adapt runs in one process; start it without torchrun")
    dtype = precision_of(config.model, config.dtype, config.device, **_of_model(config))
    config = replace(config, dtype=dtype)  # from here on it is what it is, wherever it is told
    settings = _settings(config)
    models = [config.model, base_of(config.model, config.base, config.revision), config.reference]
    reads = Reads([*models, config.template], config.data)
    rejects = [_rejects(config)] if config.on_error == "skip" else []
    with claimed_folder(config.output, reads=reads, beside=rejects, whole=True):
        result = finished_before(config)
        if result is None:
            check_output(config.output, overwrite=config.overwrite)
            with replaced_folder(config.output) as fresh:
                result = _adapt(config, settings, fresh, began)
    (config.output / RESULT).unlink(missing_ok=True)  # the very last step, see ``finished_before``
    return result


def _adapt(config: AdaptConfig, settings: AdaptSettings, fresh: Path, began: float) -> dict[str, Any]:
    """Put the outcome into the folder ``fresh``; returns the summary, which is in it too."""
    if config.adapter == "kept":
        check_can_be_named(config.model, config.revision, config.base)
    rows = _read(config)
    manifest = _with_reference(config, manifest_of(config.model, config.revision))
    kind = _kind(config, manifest)
    device = choose_device(config.device)
    head: Head = "score" if kind == "scalar" else "lm"
    loaded = load_model(config.model, head, device=device, **_of_model(config))
    loaded = replace(loaded, manifest=manifest or loaded.manifest)
    how = _training(config, kind, manifest)
    objective, renderer = make_objective(
        how, loaded, loaded.manifest.context if loaded.manifest else "chat", device
    )
    usable = _usable(objective, rows.examples, config.on_error)
    running = Running(
        dtype=config.dtype,
        engine=config.engine,
        token_budget=config.token_budget,
        trust_remote_code=config.trust_remote_code,
    )
    asking = Asking(kind, config.template, layout=config.layout)
    reward_model = wrap(loaded, asking, running, source=config.model)
    is_asked_otherwise = manifest is not None and (
        manifest.kind != kind
        or config.layout not in (None, manifest.layout)
        or (reward_model.template is not None and reward_model.template.hash != manifest.template_hash)
    )
    before = wrap(loaded, running=running, source=config.model) if is_asked_otherwise else None
    outcome = adapt(loaded.model, objective, reward_model, usable, settings, before=before)
    facts = facts_of(config, rows, outcome)
    result = {
        "output": str(config.output),
        **rows.counts,
        **facts,
        "kind": kind if outcome.adopted or manifest is None else manifest.kind,
        "collapsed": len(rows.examples) - len(usable),
        "seconds": round(time.monotonic() - began, 1),
    }
    beside = files_beside(config, outcome, facts, result)
    _write(fresh, config, kind, loaded, renderer, how, outcome, facts, reward_model.temperature, beside)
    return result


def _rejects(config: AdaptConfig) -> Path:
    return path_beside(config.output, after=".rejects.jsonl")


def _settings(config: AdaptConfig) -> AdaptSettings:
    shared = {item.name for item in fields(AdaptSettings)} - {"learning_rates", "keep_adapters"}
    values = {name: getattr(config, name) for name in shared}
    keep_adapters = config.adapter == "kept"
    return AdaptSettings(learning_rates=tuple(config.learning_rates), keep_adapters=keep_adapters, **values)


def _of_model(config: AdaptConfig) -> dict[str, Any]:
    """The options that say which model is meant, as ``load_model`` takes them."""
    return {name: getattr(config, name) for name in ("revision", "base", "trust_remote_code")}


def _read(config: AdaptConfig) -> ExampleSet[Preference]:
    rows = read_preferences(
        config.data,
        split=config.split,
        columns=config.columns,
        on_error=config.on_error,
        rejects=_rejects(config),
        max_per_source=config.max_per_source,
        seed=config.seed,
        check=showing([config.model], LoadOptions(config.kind, **_of_model(config))),
    )
    try:
        check_rows(rows.examples)
    except DataError as error:
        raise DataError(error.reason, file=", ".join(source.name for source in rows.sources)) from None
    return rows


def _usable(objective: Objective[Preference], rows: Sequence[Preference], on_error: str) -> list[Preference]:
    """The rows whose answers differ after truncation, too; all rows if ``on_error`` is "raise"."""
    if on_error == "raise":
        return list(rows)
    samples = objective.encode(rows)
    return [row for row, sample in zip(rows, samples, strict=True) if not sample.collapsed]


def _kind(config: AdaptConfig, manifest: Manifest | None) -> Kind:
    """The kind of model that the adaptation makes.

    Raises:
        ConfigError: a scalar model has no language-model head left, and others have no scalar head.
    """
    if manifest is None:
        default: Kind = "judge"
    else:
        default = "judge" if manifest.objective.get("name") == "language" else manifest.kind
    kind: Kind = config.kind or default
    if (kind == "scalar") != (manifest is not None and manifest.kind == "scalar"):
        what = f"a {manifest.kind} model" if manifest else "a raw language model"
        raise ConfigError(f"{config.model}: is {what} and cannot be adapted as kind '{kind}'")
    return kind


def _with_reference(config: AdaptConfig, manifest: Manifest | None) -> Manifest | None:
    """``manifest``, naming the reference that the old model was trained against as what it is now.

    Raises:
        CheckpointError: it is not there, or another model.
        ConfigError: the old model has none, or the run would write into its folder.
    """
    stored = manifest.objective.get("reference") if manifest else None
    if manifest is None or not stored:
        if config.reference:
            raise ConfigError(f"reference {config.reference}: {config.model} was trained against none")
        return manifest
    reference = config.reference or stored
    refuse_overlap([], Reads([reference]), whole=config.output)
    chosen = config.reference is not None
    with asking_where(chosen):
        check_reference(reference, manifest, chosen=chosen)
    return replace(manifest, objective={**manifest.objective, **recorded(reference)})


def _training(config: AdaptConfig, kind: Kind, manifest: Manifest | None) -> TrainConfig:
    """The configuration of the objective: as in the model's own training, unless ``config`` overrides it."""
    stored: dict[str, Any] = {}
    if manifest is not None and manifest.kind == kind:
        stored = {name: value for name, value in manifest.objective.items() if name in _STORED}
        if kind == "likelihood":
            stored |= {"beta": manifest.beta, "length_power": manifest.length_power}
            stored["likelihood_form"] = manifest.objective.get("form", "ranking")
    if config.label_smoothing is not None:
        stored["label_smoothing"] = config.label_smoothing
    return TrainConfig(
        model=config.model,
        data=config.data,
        output=config.output,
        objective=_OBJECTIVES[kind],
        template=config.template,
        layout=config.layout,
        dtype=config.dtype,
        engine=config.engine,
        trust_remote_code=config.trust_remote_code,
        **stored,
    )


def _write(
    fresh: Path,
    config: AdaptConfig,
    kind: Kind,
    loaded: LoadedModel,
    renderer: Renderer,
    how: TrainConfig,
    outcome: Adaptation,
    facts: dict[str, Any],
    temperature: float,
    beside: dict[str, str],
) -> None:
    """Put the adapted model, or a copy of the old one, into the folder ``fresh``."""
    labels = list(renderer.label_ids) if kind == "judge" else []
    manifest = loaded.manifest or Manifest(kind=kind, **renderer.settings, label_ids=labels)
    facts = finite(facts)
    if not outcome.adopted:
        _write_unchanged(fresh, config, replace(manifest, adaptation=facts), beside)
        return
    adapted = replace(
        manifest,
        kind=kind,
        **renderer.settings,
        label_ids=labels,
        objective=_objective(kind, manifest, how),
        training={
            "stage": "adapt",
            "from": config.model,
            "from_hub": is_on_hub(config.model),
            "trained": config.method,
            "samples": outcome.rows,
            "truncated": outcome.truncated,
            "steps": outcome.chosen.steps,
            "learning_rate": outcome.chosen.learning_rate,
            "seed": config.seed,
            "dtype": config.dtype,
            "train_loss": outcome.train_loss,
        },
        data=[*manifest.data, *facts["data"]],
        versions=library_versions(),
        evaluation={},
        calibration={"temperature": temperature, "n": outcome.rows, "on": "held-back rows of gram adapt"},
        adaptation=facts,
    )
    kept = config.adapter == "kept"
    if kept:
        adapted = replace(adapted, base=adapter_base(config.model, config.revision))
    model = outcome.model if kept else loaded.model
    save_checkpoint(fresh, model, loaded.tokenizer, adapted, beside, merge=not kept)


def _write_unchanged(fresh: Path, config: AdaptConfig, manifest: Manifest, beside: dict[str, str]) -> None:
    """Write the old model: a copy of its folder or, of a whole model on the Hub, the weights as published.

    Of an adapter that stands on another base than it names, or names it from where it stands, the copy names
    that base.
    """
    place = on_disk(find_place(config.model, config.revision))
    if place.folder is not None:
        copy_checkpoint(place.folder, fresh, manifest, beside, base_to_name(place, config.base))
        return
    head: Head = "score" if manifest.kind == "scalar" else "lm"
    again = load_model(config.model, head, dtype="auto", **_of_model(config))
    save_checkpoint(fresh, again.model, again.tokenizer, manifest, beside)


def _objective(kind: Kind, manifest: Manifest, how: TrainConfig) -> dict[str, Any]:
    """``Manifest.objective`` of the adapted model: stored values of the same objective, and the new ones."""
    name = _OBJECTIVES[kind]
    stored = manifest.objective if manifest.objective.get("name") == name else {}
    smoothing = {} if kind == "scalar" else {"label_smoothing": how.label_smoothing}
    return {**stored, "name": name, **smoothing}
