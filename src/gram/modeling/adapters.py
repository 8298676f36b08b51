"""Adapters as models: a PEFT folder and its base become one ordinary model, and a trained adapter a folder.

The adapter is merged into the base in memory, so that engines see a model like any other; that the merged
model says what peft's own forward pass says is proved on a few tokens, whatever the kind of adapter. Knows
peft; knows nothing of how a model is asked.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gram.errors import CheckpointError, ConfigError, GramError
from gram.fetching import other_copy
from gram.modeling.adapter_folder import WEIGHTS, Adapter, holds_adapter, no_adapter, read_adapter
from gram.modeling.attaching import PREFIX, attached, called, tensor_shapes
from gram.modeling.digests import deciding_files
from gram.modeling.on_hub import on_disk
from gram.modeling.opening import Head
from gram.modeling.shipped import ADAPTER_CONFIG, Place, find_place, portable_name
from gram.modeling.strict_json import read_object

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SAME = {torch.float32: 1e-4}  # merged against apart, as a share of the size
_SAME_HALF = 0.1
_TRIAL = 24  # tokens


def brings_score_head(adapter: Adapter) -> bool:
    """Whether the adapter holds the score head of a classifier; else it is one of a language model."""
    return any(key.split(".")[0] == "score" for key in tensor_shapes(adapter.folder))


def check_going_on(place: Place, adapter: Adapter | None, head: Head) -> None:
    """Refuse to go on training an adapter that is none, or one without the head that is wanted.

    Raises:
        ConfigError: saying which of the two.
    """
    if adapter is None:
        raise ConfigError(
            f"adapter continued: {place.name} {no_adapter(place)}; --adapter kept begins one on it"
        )
    if head == "score" and not brings_score_head(adapter):
        raise ConfigError(
            f"adapter continued: {place.name} is an adapter of a language model, without a score head; "
            "--adapter kept begins another on it"
        )


def merge_adapter(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """``model``, the base, changed by the adapter.

    Raises:
        CheckpointError: the adapter is of another base, of a kind that cannot be merged, or broken.
    """
    where = called(adapter)
    with _fitting(where):
        wrapped = attached(model, adapter, train=False).eval()
        apart = _trial(wrapped)
        merged: PreTrainedModel = wrapped.merge_and_unload()
    difference = float((_trial(merged) - apart).norm() / apart.norm().clamp(min=1e-12))
    if not difference <= _SAME.get(merged.dtype, _SAME_HALF):
        raise CheckpointError(
            f"{where}: of kind {adapter.config.get('peft_type')} it cannot be merged: the merged model would "
            f"say something else than peft does, by {difference:.2g} of its size"
        )
    return merged


def continue_adapter(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """``model``, the base, under the adapter, whose own weights are free to train, in fp32.

    Raises:
        CheckpointError: as ``merge_adapter``; or an adapter of another kind than LoRA.
    """
    where, kind = called(adapter), adapter.config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{where}: of kind {kind}; only LoRA is trained on (--adapter continued)")
    with _fitting(where):
        return attached(model, adapter, train=True)


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
    files = deciding_files(place.folder, weights_only=True)
    return {"name": portable_name(place.folder), "revision": None, "files": files}


def check_can_be_named(reference: str, revision: str | None, base: str | None) -> None:
    """Refuse to keep an adapter on one whose base is chosen and not the one that it names.

    Whoever reads the new adapter reads that one by its name, on the base that stands there.

    Raises:
        ConfigError: as said, with what can be done instead.
    """
    if base is None:
        return
    place = on_disk(find_place(reference, revision))
    if not holds_adapter(place):
        return
    try:
        named = read_adapter(place)
        is_named = named is not None and _is_same(named.base, find_place(base))
    except GramError:  # what it names is not there
        is_named = False
    if not is_named:
        raise ConfigError(
            f"base {base}: {reference} names another base, and an adapter that is kept on it would be read "
            "on that one; put the two together first (gram merge), or save a whole model (--adapter merged); "
            "gram train can also train the adapter itself on (--adapter continued)"
        )


def _is_same(one: Place, other: Place) -> bool:
    """Whether two places hold the same weights."""
    if one.folder is None or other.folder is None:
        return one == other
    return deciding_files(one.folder, weights_only=True) == deciding_files(other.folder, weights_only=True)


def _commit(place: Place) -> str | None:
    """The commit of a model on the Hub that this machine read last."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", ADAPTER_CONFIG):
        found = try_to_load_from_cache(place.name, name)
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def save_adapter(
    model: nn.Module, folder: Path, base: Mapping[str, Any], brought: Iterable[str] = ()
) -> None:
    """Write the adapter on ``model`` as peft does, naming its base.

    Args:
        brought: of an adapter that was trained on, the tensors that it held, as of ``tensor_shapes``. What
            was not trained, such as the embeddings of tokens that came with it, is written again.
    """
    peft_model: Any = model
    for settings in peft_model.peft_config.values():
        settings.base_model_name_or_path, settings.revision = base["name"], base["revision"]
        modules = vars(settings).get("target_modules")
        if isinstance(modules, set):  # whose order differs between processes, and the file with it
            settings.target_modules = sorted(modules)
    peft_model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form of peft's, not filled in
    if brought:
        path, state = folder / WEIGHTS[0], model.state_dict()
        tensors = load_file(path)
        frozen = {PREFIX + name for name in brought} & set(state) - set(tensors)
        tensors |= {name: state[name].cpu().contiguous().clone() for name in sorted(frozen)}
        save_file(tensors, path, metadata={"format": "pt"})


def name_base(folder: Path, base: Mapping[str, Any]) -> None:
    """Let the adapter in ``folder`` name another base: ``Manifest.base``."""
    path = folder / ADAPTER_CONFIG
    config = read_object(path, constants=True)
    config |= {"base_model_name_or_path": base["name"], "revision": base["revision"]}
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def base_to_name(place: Place, base: str | None) -> dict[str, Any] | None:
    """What a copy elsewhere of the adapter at ``place`` has to name as its base: ``Manifest.base``.

    Returns:
        None for a whole model, and where the adapter names that base already, in words that lead there from
        anywhere.
    """
    adapter = read_adapter(place, base)
    if adapter is None:
        return None
    folder = adapter.base.folder
    named = adapter.config.get("base_model_name_or_path")
    if not adapter.chosen and (folder is None or portable_name(folder) == named):
        return None
    return adapter_base(adapter.base.name, adapter.base.revision)


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
        other = other_copy(adapter.base.folder)
        fetch = f"'{other}' brings another copy, or " if other else ""
        raise CheckpointError(f"{message}; {fetch}say with --base (base=) where that model is")
    warnings.warn(f"{message}; its scores may be others", stacklevel=2)


@contextmanager
def _fitting(where: str) -> Iterator[None]:
    """What peft raises, as an error of ours: ValueError, RuntimeError, KeyError, TypeError and others."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            f"{where}: does not fit it, or cannot be merged into it: {reason}; say with --base (base=) what "
            "it was trained on"
        ) from error


def _trial(model: nn.Module) -> Tensor:
    """fp32 logits of a few tokens, none of them the padding."""
    config: Any = model.config  # type: ignore[union-attr]
    text = config.get_text_config()
    ids = [(7 * place + 3) % text.vocab_size for place in range(_TRIAL)]
    ids = [(token + 1) % text.vocab_size if token == text.pad_token_id else token for token in ids]
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits.float()
