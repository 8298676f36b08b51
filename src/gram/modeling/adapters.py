"""Adapters as models: a PEFT folder and its base become one ordinary model, and a trained adapter a folder.

The adapter is merged into the base in memory, so that engines see a model like any other; that the merged
model says what peft's own forward pass says is proved on a few tokens, whatever the kind of adapter. Knows
peft; knows nothing of how a model is asked.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gram.errors import CheckpointError, ConfigError
from gram.modeling.adapter_folder import WEIGHTS, Adapter
from gram.modeling.digests import deciding_files
from gram.modeling.shipped import ADAPTER_CONFIG, Place, find_place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PREFIX = "base_model.model."
_WRAPPERS = re.compile(r"\.(base_layer|modules_to_save(\.default)?|original_module)(?=\.)")
_SAME = {torch.float32: 1e-4}  # merged against apart, as a share of the size
_SAME_HALF = 0.1
_TRIAL = 24  # tokens


def on_disk(place: Place) -> Place:
    """An adapter on the Hub as a folder of its few files; any other model as it is."""
    if place.folder is not None:
        return place
    from huggingface_hub import snapshot_download
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        if find_adapter_config_file(place.name, revision=place.revision) is None:
            return place
        folder = snapshot_download(
            place.name,
            revision=place.revision,
            allow_patterns=["adapter_*", "*.json", "*.jinja", "*.txt", "tokenizer*"],
            ignore_patterns=["checkpoint-*"],
        )
    except (OSError, ValueError):  # no such name, no network: said where the model itself is asked for
        return place
    return Place(folder, Path(folder))


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
    return {key.removeprefix(_PREFIX): shape for key, shape in shapes.items()}


def brings_score_head(adapter: Adapter) -> bool:
    """Whether the adapter holds the score head of a classifier; else it is one of a language model."""
    return any(key.split(".")[0] == "score" for key in tensor_shapes(adapter.folder))


def merge_adapter(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """``model``, the base, changed by the adapter.

    Raises:
        CheckpointError: the adapter is of another base, of a kind that cannot be merged, or broken.
    """
    from peft import PeftModel

    shapes = tensor_shapes(adapter.folder)
    where = f"{adapter.folder}: an adapter of {adapter.base.name}"
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            settings = _settings(adapter, where)
            _fit_vocabulary(model, adapter, shapes)
            _untie(model, shapes)
            wrapped: Any = PeftModel.from_pretrained(
                model, str(adapter.folder), config=settings, torch_device="cpu", autocast_adapter_dtype=False
            )
            _refuse_lost(
                wrapped, settings.peft_type, shapes, [str(warning.message) for warning in told], where
            )
            wrapped.eval()
            apart = _trial(wrapped)
            merged: PreTrainedModel = wrapped.merge_and_unload()
    except CheckpointError:
        raise
    except (
        Exception
    ) as error:  # peft raises ValueError, RuntimeError, KeyError, TypeError, NotImplementedError, ...
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            f"{where}: does not fit it, or cannot be merged into it: {reason}; say with --base (base=) what "
            "it was trained on"
        ) from error
    difference = float((_trial(merged) - apart).norm() / apart.norm().clamp(min=1e-12))
    if not difference <= _SAME.get(merged.dtype, _SAME_HALF):
        raise CheckpointError(
            f"{where}: of kind {adapter.config.get('peft_type')} it cannot be merged: the merged model would "
            f"say something else than peft does, by {difference:.2g} of its size"
        )
    return merged


def adapter_base(reference: str, revision: str | None) -> dict[str, Any]:
    """What an adapter trained on this model tells of its base: ``Manifest.base``.

    Of a model on the Hub the commit that was read, where nobody named a revision: the newest moves.

    Raises:
        ConfigError: the model has no folder or name that an adapter could tell.
    """
    try:
        place = find_place(reference, revision)
    except CheckpointError as error:
        raise ConfigError(
            f"an adapter is kept beside a model that has a folder or a name: {error}"
        ) from error
    if place.folder is None:
        return {"name": place.name, "revision": place.revision or _commit(place), "files": {}}
    folder = place.folder.resolve()
    return {"name": str(folder), "revision": None, "files": deciding_files(folder, weights_only=True)}


def _commit(place: Place) -> str | None:
    """The commit of a model on the Hub that this machine read last."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", ADAPTER_CONFIG):
        found = try_to_load_from_cache(place.name, name)
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def save_adapter(model: nn.Module, folder: Path, base: Mapping[str, Any]) -> None:
    """Write the adapter on ``model`` as peft does, naming its base."""
    peft_model: Any = model
    for settings in peft_model.peft_config.values():
        settings.base_model_name_or_path, settings.revision = base["name"], base["revision"]
    peft_model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form of peft's, not filled in


def check_base(adapter: Adapter, recorded: Mapping[str, Any]) -> None:
    """Compare the base with the one that ``gram.json`` says the adapter was trained on.

    Raises:
        CheckpointError: the base that the adapter names holds other weights. Where ``--base`` chose the base,
            this is a warning: it may be the same model in another precision.
    """
    files = recorded.get("files")
    if not files or adapter.base.folder is None:
        return
    found = deciding_files(adapter.base.folder, weights_only=True)
    if found == files:
        return
    names = ", ".join(sorted(name for name in {*found, *files} if found.get(name) != files.get(name)))
    message = (
        f"{adapter.folder}: an adapter, and its base {adapter.base.name} is not the model that it was "
        f"trained on ({names} differ)"
    )
    if not adapter.chosen:
        raise CheckpointError(f"{message}; say with --base (base=) where that model is")
    warnings.warn(f"{message}; its scores may be others", stacklevel=2)


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
    parts = _WRAPPERS.sub("", name.removeprefix(_PREFIX)).split(".")
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


def _trial(model: nn.Module) -> Tensor:
    """fp32 logits of a few tokens, none of them the padding."""
    config: Any = model.config  # type: ignore[union-attr]
    text = config.get_text_config()
    ids = [(7 * place + 3) % text.vocab_size for place in range(_TRIAL)]
    ids = [(token + 1) % text.vocab_size if token == text.pad_token_id else token for token in ids]
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits.float()
