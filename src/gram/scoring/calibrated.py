"""The temperature stored in a checkpoint: put on the model when it is loaded, and put into ``gram.json``.

Knows manifests and models that have a ``temperature``; how one is fitted is evaluation's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gram.asking import Asking
from gram.errors import CheckpointError
from gram.modeling.manifest import FILE, Manifest, completed, read_manifest
from gram.modeling.shipped import model_folder
from gram.types import RewardModel
from gram.workers import Share


def put_on(model: RewardModel, manifest: Manifest | None, asking: Asking) -> None:
    """Give ``model`` the temperature of its checkpoint, if it was fitted for the way the model is asked.

    The temperature stays 1 where the checkpoint is asked as another kind, with another template or layout, or
    for another likelihood than it was trained for: each of them gives every pair other log-odds. It stays
    where ``max_length`` or ``neutralise`` differ, which change few prompts, and in a single order.

    Args:
        asking: the options that ``model`` was loaded with.
    """
    if manifest is not None and manifest.calibration and _as_trained(_template(model), manifest, asking):
        model.temperature = float(manifest.calibration["temperature"])


def uncalibrated(
    load: Callable[[Share], RewardModel], folder: Path, asking: Asking, share: Share
) -> RewardModel:
    """The model that ``load`` gives, without its temperature: for fitting another.

    Args:
        folder: where that temperature is to be stored.
        asking: the options that the model is loaded with.
        share: for ``load``.

    Raises:
        CheckpointError: it cannot be stored there, see ``store``.
    """
    model = load(share)
    _storable(folder, _template(model), asking)
    model.temperature = 1.0
    return model


def store(folder: Path, template: str, temperature: float, about: Mapping[str, Any], asking: Asking) -> None:
    """Write the temperature, and facts ``about`` its fit, into the folder's ``gram.json``.

    Args:
        template: hash of the template that the model was asked with; empty where it was none.
        asking: the options that the model was loaded with.

    Raises:
        CheckpointError: the folder has no ``gram.json``, belongs to the package, or the model was asked in
            another way than ``gram.json`` says: the temperature would be wrong for the model that loading
            the folder gives.
    """
    manifest = _storable(folder, template, asking)
    replace(manifest, calibration={"temperature": temperature, **about}).write(folder)


def _storable(folder: Path, template: str, asking: Asking) -> Manifest:
    manifest = read_manifest(folder) if folder.is_dir() else None
    within = None if folder.is_dir() else model_folder(folder)
    if within is not None and (within / FILE).is_file():
        raise CheckpointError(
            f"{folder}: comes with gram and is not changed; copy {within}, and name the copy"
        )
    if manifest is None:
        raise CheckpointError(f"{folder}: no {FILE} to store a temperature in; name a trained model's folder")
    if not _as_trained(template, manifest, asking):
        raise CheckpointError(
            f"{folder}: is asked as another kind or likelihood, or in another template or layout than trained"
        )
    return manifest


def _template(model: RewardModel) -> str:
    return model.template.hash if model.template is not None else ""


def _as_trained(template: str, manifest: Manifest, asking: Asking) -> bool:
    """Whether log-odds mean what they meant when the temperature was fitted."""
    now, then = completed(asking, manifest), completed(Asking(), manifest)
    if template:
        return then.kind == "judge" and template == manifest.template_hash and now.layout == then.layout
    return now.kind == then.kind and now.of_likelihoods == then.of_likelihoods
