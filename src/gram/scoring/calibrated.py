"""The temperature stored in a checkpoint: put on the model when it is loaded, and put into ``gram.json``.

Knows manifests and models that have a ``temperature``; how one is fitted is evaluation's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gram.asking import Asking
from gram.errors import CheckpointError
from gram.modeling.manifest import FILE, Manifest, completed, read_manifest
from gram.modeling.shipped import model_folder
from gram.types import RewardModel


def put_on(model: RewardModel, manifest: Manifest | None, asking: Asking) -> None:
    """Give ``model`` the temperature of its checkpoint, if it was fitted for the way the model is asked.

    The temperature stays 1 where the checkpoint is asked as another kind, with another template, or for
    another likelihood than it was trained for.

    Args:
        asking: the options that ``model`` was loaded with.
    """
    if manifest is not None and manifest.calibration and _as_trained(model, manifest, asking):
        model.temperature = float(manifest.calibration["temperature"])


def storable(folder: Path, model: RewardModel, asking: Asking) -> Manifest:
    """The manifest that a temperature of ``model`` can be stored in; call it before fitting one.

    Args:
        asking: the options that ``model`` was loaded with.

    Raises:
        CheckpointError: the folder has no ``gram.json``, belongs to the package, or ``model`` is asked in
            another way than ``gram.json`` says: the temperature would be wrong for the model that loading
            the folder gives.
    """
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None and (within := model_folder(folder)):
        raise CheckpointError(
            f"{folder}: comes with gram and is not changed; copy {within}, and name the copy"
        )
    if manifest is None:
        raise CheckpointError(f"{folder}: no {FILE} to store a temperature in; name a trained model's folder")
    if not _as_trained(model, manifest, asking):
        raise CheckpointError(f"{folder}: is asked as another kind, template or likelihood than trained")
    return manifest


def store(
    folder: Path, model: RewardModel, temperature: float, about: Mapping[str, Any], asking: Asking
) -> None:
    """Write the temperature, and facts ``about`` its fit, into the folder's ``gram.json``.

    Raises:
        CheckpointError: it cannot be stored there, see ``storable``.
    """
    manifest = storable(folder, model, asking)
    replace(manifest, calibration={"temperature": temperature, **about}).write(folder)


def _as_trained(model: RewardModel, manifest: Manifest, asking: Asking) -> bool:
    """Whether log-odds mean what they meant when the temperature was fitted."""
    if model.template is not None:
        return manifest.kind == "judge" and model.template.hash == manifest.template_hash
    now, then = completed(asking, manifest), completed(Asking(), manifest)
    return now.kind == then.kind and now.of_likelihoods == then.of_likelihoods
