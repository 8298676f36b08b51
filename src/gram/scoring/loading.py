"""A folder, a name or a Hub name becomes a model that can be asked: ``gram.load`` of what is here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from gram.asking import Asking, LoadOptions, Precision, Running
from gram.decisions.decider import Decider
from gram.decisions.folder import DecisionFiles, read_decision_files
from gram.decisions.local import local_decider
from gram.engine.runner import Runner
from gram.errors import CheckpointError, ConfigError
from gram.modeling.loading import LoadedModel, choose_device, load_model
from gram.modeling.manifest import Manifest, completed
from gram.modeling.on_hub import manifest_of
from gram.modeling.precision import TORCH, precision_of
from gram.modeling.reference import asking_where, check_reference, load_reference
from gram.modeling.renderers import renderer_for
from gram.rendering import Renderer
from gram.scoring.calibrated import put_on
from gram.scoring.judge import JudgeModel
from gram.scoring.local import LocalBackend
from gram.scoring.remote.address import refuse_elsewhere
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel

LocalModel: TypeAlias = JudgeModel | LikelihoodModel | ScalarHeadModel


def load_with(path: str | Path, options: LoadOptions) -> LocalModel:
    """The model at ``path``; raises as ``gram.load``."""
    loaded = loaded_with(path, options)
    files = partial(read_decision_files, path, options.revision)
    return wrap(loaded, options, options, source=path, decision_files=files)


def loaded_with(path: str | Path, options: LoadOptions) -> LoadedModel:
    """The model that ``load_with`` asks, with the head of its kind, on its device and in its precision.

    Raises:
        CheckpointError, ConfigError, FetchError: as ``load``.
    """
    refuse_elsewhere(path)
    kind = completed(options, manifest_of(path, options.revision)).kind
    if kind != "likelihood" and options.of_likelihoods != (None, None, "none", None):
        raise ConfigError(
            f"context, length_power, baseline and reference are for likelihoods, and this is a {kind}"
        )
    if kind != "judge" and options.layout is not None:
        raise ConfigError(f"layout is for judges, and this is a {kind}")
    device = choose_device(options.device)
    precision = precision_with(path, options)
    return load_model(
        path,
        "score" if kind == "scalar" else "lm",
        revision=options.revision,
        base=options.base,
        trust_remote_code=options.trust_remote_code,
        device=device,
        dtype=TORCH[precision],
    )


def precision_with(path: str | Path, options: LoadOptions) -> Precision:
    """The precision in which ``load_with`` loads the model.

    Raises:
        CheckpointError, ConfigError: as ``load``.
    """
    return precision_of(
        path,
        options.dtype,
        options.device,
        revision=options.revision,
        base=options.base,
        trust_remote_code=options.trust_remote_code,
    )


def wrap(
    loaded: LoadedModel,
    asking: Asking | None = None,
    running: Running | None = None,
    *,
    source: str | Path = "the model",
    decision_files: Callable[[], DecisionFiles | None] = lambda: None,
) -> LocalModel:
    """Make a model in memory ready to be asked, as ``load`` does with one from a folder.

    Args:
        asking: how the model is asked; by default as it was trained.
        running: its engine and token budget, and the precision of its products where weights are fp32.
        source: the name of the model in errors.
        decision_files: reads what the model brings for typed questions, when the first are asked.

    Raises:
        CheckpointError, TemplateError, ConfigError: as ``load``.
    """
    asking, running = asking or Asking(), running or Running()
    full_asking = completed(asking, loaded.manifest)
    other = _reference(asking, full_asking, running, loaded)
    renderer = renderer_for(loaded, asking, source=source, readable=other.context if other else None)
    bf16 = None if running.dtype == "auto" else running.dtype == "bf16"
    how: dict[str, Any] = {"token_budget": running.token_budget, "engine": running.engine, "bf16": bf16}
    fans = full_asking.kind == "judge" and full_asking.layout == "fan"
    if fans and running.engine == "plain":
        raise ConfigError("layout fan has an engine of its own: leave out engine plain")
    runner = Runner(loaded.model, **how, layout="fan" if fans else "sequence")
    model: LocalModel
    match full_asking.kind:
        case "scalar":
            model = ScalarHeadModel(renderer, runner, unread=loaded.unread)
        case "likelihood":
            model = LikelihoodModel(
                renderer,
                runner,
                context=full_asking.context or "chat",
                length_power=full_asking.length_power or 0.0,
                baseline=full_asking.baseline,
                reference=Runner(other.model, **how) if other else None,
                beta=loaded.manifest.beta if loaded.manifest else 1.0,
            )
        case _:
            check_labels(source, renderer, loaded.manifest)
            temperatures = loaded.manifest.decisions.get("temperature", {}) if loaded.manifest else {}

            def decider() -> Decider:
                return local_decider(renderer, runner, decision_files(), temperatures)

            model = JudgeModel(
                LocalBackend(renderer, runner),
                renderer.template,
                both_orders=full_asking.both_orders,
                dtype=runner.dtype,
                decider=decider,
                taught=loaded.manifest is not None and loaded.manifest.taught(renderer.template.hash),
            )
    put_on(model, loaded.manifest, asking)
    return model


def check_labels(path: str | Path, renderer: Renderer, manifest: Manifest | None) -> None:
    """Refuse label ids other than those of training: every verdict would be read from the wrong words.

    Raises:
        CheckpointError: they differ.
        TemplateError: a label is not one token in its place.
    """
    ids = list(renderer.label_ids)
    same_template = manifest is not None and renderer.template.hash == manifest.template_hash
    if manifest is not None and same_template and manifest.label_ids and ids != manifest.label_ids:
        raise CheckpointError(
            f"{path}: trained with label ids {manifest.label_ids}, its tokenizer gives {ids}"
        )


def _reference(
    asking: Asking, full_asking: Asking, running: Running, loaded: LoadedModel
) -> LoadedModel | None:
    """The reference model that is asked for, or that the model was trained against."""
    if full_asking.reference is None:
        return None
    chosen = asking.reference is not None
    with asking_where(chosen):
        check_reference(full_asking.reference, loaded.manifest, chosen=chosen)
        return load_reference(
            full_asking.reference,
            loaded,
            device=loaded.model.device.type,
            trust_remote_code=running.trust_remote_code,
        )
