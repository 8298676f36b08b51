"""The model that a training starts from: its precision, its weights, and which of them are free to train.

Knows the configuration of a run and models; knows no objective and trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from gram.asking import Precision
from gram.data import read_language
from gram.modeling.loading import LoadedModel, model_source
from gram.modeling.precision import TORCH, precision_of
from gram.modeling.quantised import quantise
from gram.modeling.trainable import LoraSettings, add_lora, freeze, freeze_beside_text
from gram.objectives.language import Unlabeled
from gram.rendering import load_template
from gram.training.config import TrainConfig
from gram.training.folder import REJECTS
from gram.training.record import KINDS
from gram.training.texts import texts_of
from gram.types import Preference

Example = Preference | Unlabeled


def precision(config: TrainConfig) -> Precision:
    """What ``dtype`` means for the model that training starts from."""
    return precision_of(
        config.model,
        config.dtype,
        config.device,
        revision=config.revision,
        base=config.base,
        trust_remote_code=config.trust_remote_code,
    )


def load_start(
    config: TrainConfig, examples: Sequence[Example], counts: dict[str, int], device: str
) -> LoadedModel:
    """The model that training starts from.

    Args:
        examples: of which a tokenizer that is made anew learns.
        counts: gets the number of rows for the tokenizer alone that could not be used.
    """
    loaded = model_source(
        config.model,
        lambda: _tokenizer_texts(config, examples, counts),
        seed=config.seed,
        head="score" if KINDS[config.objective_name] == "scalar" else "lm",
        vocab_size=config.vocab_size,
        device="cpu" if config.quantise else device,
        revision=config.revision,
        base=config.base,
        trust_remote_code=config.trust_remote_code,
        language_head=config.text_regulariser > 0,
        go_on=config.adapter == "continued",
    )
    if config.quantise:
        quantise(loaded.model, compute=TORCH[precision(config)])
        loaded.model.to(torch.device(device))  # type: ignore[arg-type]
    return loaded


def _tokenizer_texts(
    config: TrainConfig, records: Sequence[Example], counts: dict[str, int]
) -> Iterator[str]:
    """The texts a from-scratch tokenizer learns from: template, training data, and ``tokenizer_data``."""
    yield load_template(config.template).text
    yield from texts_of(records)
    if config.tokenizer_data:
        more = read_language(
            config.tokenizer_data,
            split=config.split,
            on_error=config.on_error,
            rejects=config.output / REJECTS["tokenizer_data"],
            seed=config.seed,
        )
        counts["tokenizer_rejected"] = more.rejected
        yield from texts_of(more.examples)


def free_weights(model: PreTrainedModel, config: TrainConfig, *, score_head: bool) -> PreTrainedModel:
    """``model`` with the right weights free to train: all, the last layers, or adapters on a frozen model."""
    if config.freeze:
        freeze(model, config.unfreeze_layers)
    elif not config.lora:
        freeze_beside_text(model)
    elif config.adapter != "continued":
        return add_lora(model, LoraSettings(config.lora_rank, config.lora_alpha), score_head=score_head)
    return model
