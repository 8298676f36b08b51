"""Which weights may train: all of them, light adapters on a frozen model, or the head and the last layers.

Knows modules and parameter names; knows no objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from gram.engine.heads import LANGUAGE_HEAD, core
from gram.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on every linear layer (arXiv 2106.09685).

    Attributes:
        rank: of the two matrices of an adapter.
        alpha: the output of an adapter is multiplied by ``alpha / rank``.

    Example:
        >>> settings = LoraSettings(rank=8)
        >>> settings.alpha / settings.rank
        4.0
    """

    rank: int = 16
    alpha: int = 32


def freeze(model: PreTrainedModel, last_layers: int = 0) -> None:
    """Freeze ``model`` except its output head and its last ``last_layers`` decoder layers.

    A head tied to the input embedding gets a weight of its own first: training the shared one would change
    how inputs are read.

    Raises:
        ConfigError: the model has fewer layers, or no layers or head that can be found.

    Example:
        >>> from gram.modeling.loading import build_preset
        >>> model = build_preset("preset:tiny", ["the texts at hand"], seed=0).model
        >>> freeze(model)
        >>> [name for name, weight in model.named_parameters() if weight.requires_grad]
        ['lm_head.weight']
    """
    model.requires_grad_(False)
    head = _untied_head(model)
    head.requires_grad_(True)
    layers = decoder_layers(model)
    if not 0 <= last_layers <= len(layers):
        raise ConfigError(f"cannot unfreeze {last_layers} layers: the model has {len(layers)}")
    for layer in list(layers)[len(layers) - last_layers :]:
        layer.requires_grad_(True)


def freeze_beside_text(model: PreTrainedModel) -> None:
    """Freeze the parts of ``model`` that text does not go through: they get no gradient."""
    for part in beside_text(model):
        part.requires_grad_(False)


def add_lora(model: PreTrainedModel, settings: LoraSettings, *, score_head: bool) -> PreTrainedModel:
    """``model`` frozen, with LoRA adapters to train; a score head is trained without adapter.

    Parts that text does not go through get no adapters.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    unread = {module for part in beside_text(model) for module in part.modules()}
    excluded = [name for name, module in model.named_modules() if module in unread]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
        task_type=TaskType.SEQ_CLS if score_head else TaskType.CAUSAL_LM,
        modules_to_save=["score"] if score_head else None,
        exclude_modules=[*excluded, *([LANGUAGE_HEAD] if score_head else [])] or None,
    )
    return get_peft_model(model, config)  # type: ignore[return-value]


def merged(model: nn.Module) -> PreTrainedModel:
    """The model with its adapters folded into the weights: a plain Hugging Face model again."""
    merge = getattr(model, "merge_and_unload", None)
    return merge() if callable(merge) else model  # type: ignore[return-value]


def without_adapters(model: nn.Module) -> PreTrainedModel:
    """The model as it was before ``add_lora``, to the last bit."""
    unload = getattr(model, "unload", None)
    return unload() if callable(unload) else model  # type: ignore[return-value]


def _untied_head(model: PreTrainedModel) -> nn.Module:
    score = getattr(model, "score", None)
    if isinstance(score, nn.Module):
        return score
    head = model.get_output_embeddings()
    if head is None:
        raise ConfigError(f"{type(model).__name__} has no output head that could be trained alone")
    if head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.get_text_config().tie_word_embeddings = False
        model.config.tie_word_embeddings = False
    return head


def beside_text(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that text does not go through: those that read pictures or sounds.

    Example:
        >>> from gram.modeling.loading import build_preset
        >>> beside_text(build_preset("preset:tiny", ["the texts at hand"], seed=0).model)
        []
    """
    body, decoder = core(model).base_model, core(model).get_decoder()
    return [] if decoder is body else [part for part in body.children() if decoder not in {*part.modules()}]


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of a model, with or without adapters, in their order.

    Of a model that reads pictures too, those of its text.

    Raises:
        ConfigError: none can be found.
    """
    for module in core(model).get_decoder().modules():
        if isinstance(module, nn.ModuleList):
            return module
    raise ConfigError(f"{type(model).__name__}: no list of decoder layers found")
