"""From a configuration to the objective it names: renderer, template, engine and reference model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gram.asking import Asking, Context, LoadOptions
from gram.engine.base import Engine
from gram.engine.choose import choose_engine
from gram.engine.choose_fan import choose_fan
from gram.engine.neighbours import refuse_unlike_rows
from gram.errors import ConfigError
from gram.modeling.loading import LoadedModel
from gram.modeling.presets import is_preset
from gram.modeling.reference import load_reference
from gram.modeling.renderers import renderer_for
from gram.modeling.showing import showing
from gram.objectives.language import Language
from gram.objectives.likelihood import Likelihood
from gram.objectives.objective import Objective
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Renderer
from gram.training.config import TrainConfig, check_layout
from gram.training.record import KINDS
from gram.types import ResponsePair


def make_objective(
    config: TrainConfig, loaded: LoadedModel, context: Context, device: str
) -> tuple[Objective[Any], Renderer]:
    """The objective that ``config`` names, on an engine for the loaded model; and its renderer."""
    if config.max_length and config.max_length > loaded.context:
        raise ConfigError(f"max_length {config.max_length}: the model reads at most {loaded.context} tokens")
    renderer = renderer_for(loaded, asking_of(config, loaded), source=config.model)
    reference, bf16 = None, config.dtype == "bf16"
    if config.reference:
        trust = config.trust_remote_code
        reference = load_reference(config.reference, loaded, device=device, trust_remote_code=trust).model
        reference = reference.bfloat16() if bf16 else reference
    engine = _engine(config, loaded, renderer)
    if reference is not None and choose_engine(reference, config.engine).name != engine.name:
        engine = choose_engine(loaded.model, "plain", training=True, bf16=bf16)
    match config.objective_name:
        case "language":
            return Language(renderer, engine=engine), renderer
        case "preference":
            return Judge(renderer, label_smoothing=config.smoothing, engine=engine), renderer
        case "scalar":
            scalar = Scalar(
                renderer,
                centring=config.centring,
                margin=config.margin,
                text_regulariser=config.text_regulariser,
                text_form=config.text_form,
                engine=engine,
            )
            return scalar, renderer
        case "likelihood":
            objective = Likelihood(
                renderer,
                label_smoothing=config.label_smoothing,
                beta=config.beta,
                length_power=config.length_power,
                form=config.likelihood_form,
                context=context,
                reference=reference,
                engine=engine,
            )
            return objective, renderer


def _engine(config: TrainConfig, loaded: LoadedModel, renderer: Renderer) -> Engine:
    """The engine that reads the rows of the objective."""
    bf16 = config.dtype == "bf16"
    refuse_unlike_rows(loaded.model, renderer.max_length)
    if renderer.layout == "fan" and config.objective_name == "preference":
        check_layout(renderer.layout, config.engine)
        return choose_fan(loaded.model, training=True, bf16=bf16)
    return choose_engine(loaded.model, config.engine, training=True, bf16=bf16)


def asking_of(config: TrainConfig, loaded: LoadedModel) -> Asking:
    """How the model is asked in training; options missing in ``config`` stay as in its earlier training."""
    earlier_limit = loaded.manifest.max_length if loaded.manifest else None  # tokens per prompt
    return Asking(
        template=config.template,
        max_length=config.max_length or earlier_limit,
        layout=config.layout,
        neutralise=False if config.raw_control_tokens else None,
    )


def answer_context(config: TrainConfig, loaded: LoadedModel, records: Sequence[object]) -> Context:
    """Where an answer stands when its likelihood is asked: by default where it stood in stage 1."""
    if config.context:
        return config.context
    if config.stage == "pretrain" and any(isinstance(record, ResponsePair) for record in records):
        return "judge"
    return loaded.manifest.context if loaded.manifest else "chat"


def check_of(config: TrainConfig) -> Callable[[object], None] | None:
    """The check of rows for the model to train; pairs that stage 1 may show to the judge are left to it."""
    if is_preset(config.model):
        return None
    asking = LoadOptions(
        KINDS[config.objective_name],
        context=config.context,
        revision=config.revision,
        base=config.base,
        trust_remote_code=config.trust_remote_code,
    )
    check = showing([config.model], asking)
    if check is None or config.context or config.stage != "pretrain":
        return check
    return lambda row: None if isinstance(row, ResponsePair) else check(row)
