"""A PEFT folder without its weights: which base it names, what kind it is, what tensors it holds.

Knows ``adapter_config.json`` as peft writes it; loads no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gram.errors import CheckpointError, ConfigError
from gram.modeling.on_hub import on_disk
from gram.modeling.shipped import ADAPTER_CONFIG, Place, find_place
from gram.modeling.strict_json import TEXT, check, or_null, read_object, record
from gram.paths import at_home

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_MODEL_WEIGHTS = ("model*.safetensors", "model*.safetensors.index.json", "pytorch_model*.bin")
_RULE = record(
    {
        "base_model_name_or_path": or_null(TEXT),
        "revision": or_null(TEXT),
        "peft_type": TEXT,
        "task_type": or_null(TEXT),
    }
)


@dataclass(frozen=True)
class Adapter:
    """Small weights that go onto a base model.

    Attributes:
        folder: the PEFT folder.
        base: what it was trained on, or what ``--base`` names in its place.
        chosen: whether ``--base`` named the base.
        config: the content of ``adapter_config.json``.
    """

    folder: Path
    base: Place
    chosen: bool
    config: dict[str, Any]


def is_adapter(reference: str | Path, revision: str | None = None) -> bool:
    """Whether a model's name stands for an adapter: a PEFT folder on this machine, or one on the Hub.

    Raises:
        FetchError: as ``find_place``.
    """
    try:
        return holds_adapter(on_disk(find_place(reference, revision)))
    except (CheckpointError, ConfigError):
        return False


def holds_adapter(place: Place) -> bool:
    """Whether there is a PEFT folder at ``place``; one on the Hub counts once ``on_disk`` has brought it."""
    return place.folder is not None and (place.folder / ADAPTER_CONFIG).is_file()


def no_adapter(place: Place) -> str:
    """Why there is no adapter at ``place``, for a message; the Hub may not have been asked."""
    return "is a whole model" if place.folder else "is a whole model, or cannot be found here or on the Hub"


def read_adapter(place: Place, base: str | Path | None = None) -> Adapter | None:
    """The adapter at ``place``; None for a whole model.

    Args:
        base: a folder or Hub name to use in place of the base that the adapter names.

    Raises:
        CheckpointError: a broken ``adapter_config.json``, or a base that is nowhere.
        ConfigError: ``base`` for a whole model.
        FetchError: the base has to be fetched, and cannot be or must not.
    """
    folder = place.folder
    if folder is None or not holds_adapter(place):
        if base is not None:
            raise ConfigError(f"base {base}: {place.name} {no_adapter(place)}; only adapters have a base")
        return None
    path = folder / ADAPTER_CONFIG
    config = read_object(path, constants=True)
    check(config, _RULE, "", path)
    if base is not None:
        return Adapter(folder, find_place(base), True, config)
    return Adapter(folder, _named_base(folder, config), False, config)


def base_of(name: str, base: str | Path | None = None, revision: str | None = None) -> str | None:
    """The base of the adapter called ``name``, as a name that can be loaded; None for a whole model.

    What is wrong with an adapter is said when it is loaded, not here.

    Args:
        base: in place of the base that the adapter names; of a whole model passed over.
        revision: of an adapter on the Hub.

    Raises:
        FetchError: the base has to be fetched, and cannot be or must not.
    """
    if not is_adapter(name, revision):
        return None
    try:
        found = read_adapter(on_disk(find_place(name, revision)), base)
    except (CheckpointError, ConfigError):
        return str(base) if base else None
    assert found is not None
    where = found.base
    return f"{where.name}@{where.revision}" if where.revision else where.name


def _named_base(folder: Path, config: dict[str, Any]) -> Place:
    """The base that the adapter names: a path from here, a path from its folder, or a name on the Hub."""
    if (folder / "config.json").is_file() and any(any(folder.glob(name)) for name in _MODEL_WEIGHTS):
        raise CheckpointError(
            f"{folder}: holds the weights of a whole model and an adapter ({ADAPTER_CONFIG}): one of the two "
            "has to go into a folder of its own"
        )
    name = config.get("base_model_name_or_path")
    if not name:
        raise CheckpointError(
            f"{folder}/{ADAPTER_CONFIG}: names no base model; say which with --base (base=)"
        )
    beside = folder / at_home(name)
    if not at_home(name).is_dir() and beside.is_dir():
        return find_place(beside)
    try:
        found = find_place(name)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(
            f"{folder}: an adapter, and its base model is not there: {error}; "
            "say with --base (base=) where it is now"
        ) from error
    return found if found.folder else replace(found, revision=config.get("revision") or found.revision)
