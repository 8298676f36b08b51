"""From a configuration to the objective it names: renderer, template, engine and reference model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from gram.engine.choose import choose_engine
from gram.errors import ConfigError
from gram.modeling.loading import Loaded, load_model
from gram.modeling.manifest import FILE
from gram.objectives.base import Objective
from gram.objectives.language import Language
from gram.objectives.likelihood import Likelihood
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Context, Renderer, load_template, stored_template
from gram.training.config import TrainConfig
from gram.types import ResponsePair

_MOST_TOKENS = 2048


def make_objective(
    config: TrainConfig, loaded: Loaded, context: Context, device: str
) -> tuple[Objective[Any], Renderer]:
    """The objective that ``config`` names, rendering for the loaded tokenizer, on an engine that fits."""
    manifest = loaded.manifest
    if config.template is None and manifest is not None:
        template = stored_template(manifest.template, manifest.template_hash, source=f"{config.model}/{FILE}")
    else:
        template = load_template(config.template)
    longest = config.max_length or (manifest.max_length if manifest else _MOST_TOKENS)
    if config.max_length and config.max_length > loaded.context:
        raise ConfigError(f"max_length {config.max_length}: the model reads at most {loaded.context} tokens")
    neutralise = not config.raw_control_tokens and (manifest.neutralise if manifest else True)
    renderer = Renderer(loaded.tokenizer, template, min(longest, loaded.context), neutralise=neutralise)
    reference = _reference(config.reference, loaded, device) if config.reference else None
    engine = choose_engine(loaded.model, config.engine, training=True)
    if reference is not None and choose_engine(reference, config.engine).name != engine.name:
        engine = choose_engine(loaded.model, "plain")
    match config.objective_name:
        case "language":
            return Language(renderer, engine=engine), renderer
        case "preference":
            return Judge(renderer, label_smoothing=config.label_smoothing, engine=engine), renderer
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


def _reference(name: str, loaded: Loaded, device: str) -> PreTrainedModel:
    other = load_model(name, "lm", device=device)
    if other.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
        raise ConfigError(f"reference {name}: its vocabulary differs from that of the model")
    return other.model


def answer_context(config: TrainConfig, loaded: Loaded, records: Sequence[object]) -> Context:
    """Where this model's likelihood is asked: where stage 1 taught it to write answers."""
    if config.context:
        return config.context
    if config.stage == "pretrain" and any(isinstance(record, ResponsePair) for record in records):
        return "judge"
    return loaded.manifest.context if loaded.manifest else "chat"
