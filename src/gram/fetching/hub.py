"""A model's folder as it stands on the Hub, at one commit. Knows huggingface_hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from gram.errors import FetchError
from gram.fetching.catalogue import HubModel

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "LICENSE*"]


def snapshot(model: HubModel, into: Path) -> None:
    """Download the model's files into the folder ``into``; huggingface_hub shows its own progress.

    Raises:
        FetchError: no network, no such model, or not all of it.
    """
    from huggingface_hub import snapshot_download

    where = f"{model.name}@{model.revision}"
    try:
        snapshot_download(
            model.name,
            revision=model.revision,
            local_dir=into,
            allow_patterns=_WANTED,
            ignore_patterns=["*/*"],  # the same weights for other programs
        )
    except Exception as error:  # of huggingface_hub and the libraries below it: OSError, ValueError, ...
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise FetchError(f"{where}: cannot be downloaded from the Hub: {reason}") from error
    shutil.rmtree(into / ".cache", ignore_errors=True)  # its notes on the download
    names = {path.name for path in into.iterdir()}
    if not ("config.json" in names and any(name.endswith(".safetensors") for name in names)):
        raise FetchError(
            f"{where}: what came from the Hub is no model: {', '.join(sorted(names)) or 'nothing'}"
        )
