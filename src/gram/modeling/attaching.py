"""An adapter on its base, as peft has it: every tensor in its place, or an error that says which is not.

Knows peft's ways of losing tensors in silence; knows nothing of what becomes of the two.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gram.errors import CheckpointError
from gram.modeling.adapter_folder import WEIGHTS, Adapter
from gram.modeling.shipped import ADAPTER_CONFIG

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = "base_model.model."
"""What peft puts in front of the names of a model's weights."""
_WRAPPERS = re.compile(r"\.(base_layer|modules_to_save(\.default)?|original_module)(?=\.)")


def called(adapter: Adapter) -> str:
    """An adapter as error messages name it."""
    return f"{adapter.folder}: an adapter of {adapter.base.name}"


def attached(model: PreTrainedModel, adapter: Adapter, *, train: bool) -> Any:
    """The base under the adapter, as peft has it; with ``train`` the adapter's weights are fp32 and free.

    Raises:
        CheckpointError: a kind that cannot become weights, or tensors without a place in the base.
    """
    from peft import PeftModel

    shapes, where = tensor_shapes(adapter.folder), called(adapter)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        settings = _settings(adapter, where)
        _fit_vocabulary(model, adapter, shapes)
        _untie(model, shapes)
        wrapped = PeftModel.from_pretrained(
            model,
            str(adapter.folder),
            config=settings,
            torch_device="cpu",
            autocast_adapter_dtype=train,
            is_trainable=train,
        )
    _refuse_lost(wrapped, settings.peft_type, shapes, [str(warning.message) for warning in told], where)
    return wrapped


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of an adapter, without peft's prefix.

    Raises:
        CheckpointError: the file is missing or broken.
    """
    from safetensors import safe_open

    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder}: an adapter without weights (none of {', '.join(WEIGHTS)})")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        else:
            shapes = {key: tuple(value.shape) for key, value in torch.load(path, weights_only=True).items()}
    except Exception as error:  # of safetensors, pickle, or a file that is no state dictionary
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: cannot be loaded as an adapter: {reason}") from error
    return {key.removeprefix(PREFIX): shape for key, shape in shapes.items()}


def _settings(adapter: Adapter, where: str) -> Any:
    """peft's own configuration of the adapter; refuses kinds that cannot become weights."""
    from peft import PeftConfig, PeftType

    kind = adapter.config.get("peft_type")
    if kind not in set(PeftType):
        raise CheckpointError(
            f"{where}: {ADAPTER_CONFIG} says peft_type {kind!r}, which this version of peft does not know"
        )
    if adapter.config.get("megatron_config"):  # peft would import the module of that name
        raise CheckpointError(f"{where}: was made for layers of Megatron, and is not loaded here")
    settings: Any = PeftConfig.from_pretrained(str(adapter.folder))
    if settings.is_prompt_learning:
        raise CheckpointError(
            f"{where}: of kind {kind} it changes what the model reads and not its weights, so that it cannot "
            "be merged into them; train a LoRA, or another kind that can be merged"
        )
    return settings


def _refuse_lost(wrapped: Any, kind: object, shapes: Mapping[str, Any], told: list[str], where: str) -> None:
    """Tensors that found no place, which peft passes over in silence, or places that found no tensor."""
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.tuners.tuners_utils import BaseTunerLayer

    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[kind]  # type: ignore[index]
    layers = {_tail(name) for name, module in wrapped.named_modules() if isinstance(module, BaseTunerLayer)}
    weights = {_tail(name) for name, _ in wrapped.named_parameters()}
    lost = [
        key
        for key in shapes
        if "token_adapter" not in key and "." in key  # of kinds with tensors for the whole model
        if (_tail(key.split(f".{prefix}")[0]) not in layers)
        and (f".{prefix}" in key or _tail(key) not in weights)
    ]
    missing = [text for text in told if "missing adapter keys" in text]
    if missing or lost:
        what = f"{lost[0]} has no place in it" if lost else missing[0][:200]
        raise CheckpointError(
            f"{where}: does not fit it: {what}; say with --base (base=) what it was trained on"
        )


def _tail(name: str) -> str:
    """A name without peft's wrappers, from its list of layers on.

    What stands before the layers differs between versions of one model.
    """
    parts = _WRAPPERS.sub("", name.removeprefix(PREFIX)).split(".")
    numbered = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[-2:] if numbered is None else parts[max(numbered - 1, 0) :])


def _fit_vocabulary(model: PreTrainedModel, adapter: Adapter, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give the base as many embeddings as the adapter was trained with, where tokens had been added."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {name for name, module in model.named_modules() if module in (embedding, head)}
    rows = 0
    for key, shape in shapes.items():
        if any(key.startswith(f"{name}.") for name in names):
            if key.endswith(".weight") and not key.endswith(("lora_A.weight", "lora_B.weight")):
                rows = max(rows, shape[0])
            elif key.endswith("lora_embedding_A"):
                rows = max(rows, shape[1])
    added = adapter.config.get("trainable_token_indices") or adapter.config.get("token_indices") or []
    ids = [token for part in (added.values() if isinstance(added, dict) else [added]) for token in part]
    if not rows and ids and max(ids) >= embedding.num_embeddings:
        rows = max(ids) + 1
    if rows and rows != embedding.num_embeddings:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _untie(model: PreTrainedModel, shapes: Mapping[str, Any]) -> None:
    """Give a tied output layer a weight of its own where the adapter changes the input or the output.

    Of single tokens (``trainable_token_indices``) peft changes both.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    names = {name for name, module in model.named_modules() if module in (embedding, head)}
    if any(key.startswith(f"{name}.") and "token_adapter" not in key for name in names for key in shapes):
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False
