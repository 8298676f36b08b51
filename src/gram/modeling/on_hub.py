"""What a model on the Hub brings beside its weights: single files, its ``gram.json``, an adapter's folder.

Files come from huggingface_hub's cache, or over the network where that is allowed. Opens no model.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from gram.errors import CheckpointError
from gram.modeling.manifest import FILE, Manifest, read_manifest
from gram.modeling.shipped import Place, find_place

_OF_AN_ADAPTER = (
    "adapter_*",
    "*.json",
    "*.jinja",
    "*.txt",
    "tokenizer*",
    "*.model",  # of sentencepiece
    "*.tiktoken",
    "*.py",  # code of the tokenizer, run only where that is allowed
)


def file_of(place: Place, name: str) -> Path | None:
    """A file of a model, in its folder or in the cache of the Hub.

    None where there is none, or where the Hub cannot be asked: a model that is not there is told where its
    weights are opened.
    """
    if place.folder is not None:
        path = place.folder / name
        return path if path.is_file() else None
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(
            place.name,
            name,
            revision=place.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # no such model, or no such revision of it
        return None
    return None if found is None else Path(found)


def is_absent(place: Place, name: str) -> bool:
    """Whether the Hub has said that a model there has no file of this name."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(place.name, name, revision=place.revision)
    return found is not None and not isinstance(found, str)


def manifest_at(place: Place) -> Manifest | None:
    """The manifest of a model; None when it has none (a raw model).

    Raises:
        CheckpointError: as ``read_manifest``.
    """
    path = file_of(place, FILE)
    return None if path is None else read_manifest(path.parent)


def manifest_of(reference: str | Path, revision: str | None = None) -> Manifest | None:
    """The manifest of the model of this name; None when it has none, or where there is no such model.

    Raises:
        CheckpointError: as ``read_manifest``.
        ConfigError: a revision of something that is not on the Hub.
        FetchError: as ``find_place``.

    Example:
        >>> manifest = manifest_of("gram-135m")
        >>> manifest.kind, manifest_of("preset:tiny")
        ('judge', None)
    """
    try:
        place = find_place(reference, revision)
    except CheckpointError:  # told where the model is opened
        return None
    return manifest_at(place)


def tell_unknown_manifest(place: Place) -> None:
    """Warn where nobody knows whether a model on the Hub has a ``gram.json``: it is asked as if it had none.

    So it is with a model that another program has downloaded, while the Hub cannot be asked.
    """
    if not is_absent(place, FILE):
        warnings.warn(
            f"{place.name}: {FILE} is not among its files here, and the Hub cannot be asked: read as a raw "
            "model. If it has one, its scores are others; load it once with a connection to the Hub",
            stacklevel=2,
        )


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
            allow_patterns=list(_OF_AN_ADAPTER),
            ignore_patterns=["checkpoint-*"],
        )
    except (OSError, ValueError):  # no such name, no network: said where the model itself is asked for
        return place
    return Place(folder, Path(folder))
