"""The model that is subtracted from a likelihood: loaded beside it, told in ``gram.json``, and compared.

Knows models and their files; knows no scores.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gram.errors import CheckpointError, ConfigError
from gram.modeling.adapters import adapter_base
from gram.modeling.digests import deciding_files
from gram.modeling.loading import LoadedModel, load_model
from gram.modeling.manifest import Manifest
from gram.modeling.shipped import find_place, shipped_models
from gram.paths import at_home


def load_reference(
    reference: str | Path,
    loaded: LoadedModel,
    *,
    device: str,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """A second language model, in the precision of ``loaded``, from whose scores its own are subtracted.

    Raises:
        CheckpointError: as ``load_model``.
        ConfigError: it has another vocabulary.
    """
    how: dict[str, Any] = {"device": device, "dtype": loaded.model.dtype}
    other = load_model(reference, "lm", trust_remote_code=trust_remote_code, **how)
    if other.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
        raise ConfigError(f"reference {reference}: its vocabulary differs from that of the model")
    return other


def recorded(reference: str) -> dict[str, Any]:
    """What ``Manifest.objective`` tells of a reference: a name that leads to it from anywhere, and digests.

    Of a model on the Hub the name has the commit that was read.
    """
    found = adapter_base(reference, None)
    name = f"{found['name']}@{found['revision']}" if found["revision"] else found["name"]
    if reference in shipped_models() and not at_home(reference).is_dir():
        name = reference
    return {"reference": name, "reference_files": found["files"]}


def check_reference(reference: str | Path, manifest: Manifest | None, *, chosen: bool) -> None:
    """Compare a reference with the one that ``gram.json`` says the model was trained against.

    Args:
        chosen: whether an option named it in place of what ``gram.json`` says.

    Raises:
        CheckpointError: it is not there, or holds other weights. Where it was chosen the latter is a warning:
            it may be the same model in another precision.
    """
    place = find_place(reference)
    files = manifest.objective.get("reference_files") if manifest else None
    if not files or place.folder is None:
        return
    found = deciding_files(place.folder, weights_only=True)
    if found == files:
        return
    names = ", ".join(sorted(name for name in {*found, *files} if found.get(name) != files.get(name)))
    message = f"reference {reference}: its weights are not those of the training ({names} differ)"
    if not chosen:
        raise CheckpointError(message)
    warnings.warn(f"{message}; scores may be others", stacklevel=2)


@contextmanager
def asking_where(chosen: bool) -> Iterator[None]:
    """Adds to errors about a reference that ``gram.json`` names which option names another place."""
    try:
        yield
    except CheckpointError as error:
        if chosen:
            raise
        raise CheckpointError(
            f"{error}; the model was trained against this reference: say with --reference (reference=) "
            "where it is now"
        ) from error
