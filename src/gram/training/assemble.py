"""From a configuration to the objective it names: renderer, template, engine and reference model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
from gram.training.dropout import without_dropout
from gram.training.record import KINDS
from gram.types import Answer, ResponsePair

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def make_objective(
    config: TrainConfig, loaded: LoadedModel, context: Context, device: str
) -> tuple[Objective[Any], Renderer]:
    """The objective that ``config`` names, on an engine for the loaded model; and its renderer.

    Raises:
        ConfigError: ``max_length`` is more than the model or its reference reads; or as ``load_reference``.
    """
    other = _reference(config, loaded, device)
    readable = min(model.context for model in (loaded, other) if model is not None)
    if config.max_length and config.max_length > readable:
        reader = "model" if readable == loaded.context else "reference"
        raise ConfigError(f"max_length {config.max_length}: the {reader} reads at most {readable} tokens")
    renderer = renderer_for(loaded, asking_of(config, loaded), source=config.model, readable=readable)
    reference = None if other is None else other.model
    engine = _engine(config, loaded.model, reference, renderer)
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


def _reference(config: TrainConfig, loaded: LoadedModel, device: str) -> LoadedModel | None:
    """The model whose score is subtracted, in the precision of the products."""
    if not config.reference:
        return None
    other = load_reference(
        config.reference, loaded, device=device, trust_remote_code=config.trust_remote_code
    )
    return replace(other, model=other.model.bfloat16()) if config.dtype == "bf16" else other


def _engine(
    config: TrainConfig, model: PreTrainedModel, reference: PreTrainedModel | None, renderer: Renderer
) -> Engine:
    """The engine that reads the rows of the objective, with the model and with the reference."""
    bf16 = config.dtype == "bf16"
    for reader in (model, *([] if reference is None else [reference])):
        refuse_unlike_rows(reader, renderer.max_length)
    with without_dropout(model):  # as it will be trained
        if renderer.layout == "fan" and config.objective_name == "preference":
            check_layout(renderer.layout, config.engine)
            return choose_fan(model, training=True, bf16=bf16)
        engine = choose_engine(model, config.engine, training=True, bf16=bf16)
        if reference is not None and choose_engine(reference, config.engine).name != engine.name:
            engine = choose_engine(model, "plain", training=True, bf16=bf16)
    return engine


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
    """Where an answer stands when its likelihood is asked: by default where it stood in stage 1.

    Raises:
        ConfigError: stage 1 is to teach it in the judge prompt, and no record stands there.
    """
    stage_1 = config.stage == "pretrain"
    paired = stage_1 and any(isinstance(record, ResponsePair) for record in records)
    if stage_1 and config.context == "judge" and not paired:
        raise ConfigError(
            "context judge: in pretrain only pairs stand in the judge prompt, and the data have none; "
            "leave it out"
        )
    if config.context:
        return config.context
    if paired:
        return "judge"
    if stage_1 and any(isinstance(record, Answer) for record in records):
        return "chat"
    return loaded.manifest.context if loaded.manifest else "chat"


def check_of(config: TrainConfig) -> Callable[[object], None] | None:
    """The check of rows for the model to train.

    In stage 1 single answers stand in the chat format, whatever the context; a judge prompt takes any pair.
    """
    if is_preset(config.model):
        return None
    stage_1 = config.stage == "pretrain"
    asking = LoadOptions(
        KINDS[config.objective_name],
        context="chat" if stage_1 else config.context,
        revision=config.revision,
        base=config.base,
        trust_remote_code=config.trust_remote_code,
    )
    check = showing([config.model], asking)
    if check is None or not stage_1:
        return check
    return lambda row: None if isinstance(row, ResponsePair) else check(row)
