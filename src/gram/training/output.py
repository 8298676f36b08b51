"""The output folder of a run: claimed at the start, so that nothing of anybody else is written over.

A folder with ``gram.json`` holds a finished model, one with only the settings of a run an unfinished run.
Knows files; knows nothing of models or data.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from gram.data.sources import parse_source
from gram.errors import ConfigError
from gram.modeling.manifest import FILE
from gram.training.config import TrainConfig
from gram.training.fit import last_checkpoint

CHECKPOINTS = "checkpoints"
SETTINGS = "gram-train.json"


def claim_output(config: TrainConfig) -> None:
    """Make ``config.output`` the folder of this run, and remember its settings there.

    A folder in which the same run was interrupted is claimed as it is, to be continued.

    Raises:
        ConfigError: the folder holds a finished model, an unfinished run with other settings, something
            that is not ours, or, with ``overwrite``, something that this run reads.
    """
    output, settings = config.output, config.output / SETTINGS
    finished = (output / FILE).exists()
    if not output.name or (output.exists() and not output.is_dir()):
        raise ConfigError(f"output {output}: must name a folder")
    if output.exists() and any(output.iterdir()) and not finished and not settings.exists():
        raise ConfigError(
            f"output {output}: is not empty, and no run of gram began it; choose another folder"
        )
    text = json.dumps({**asdict(config), "overwrite": False}, indent=2, default=str) + "\n"
    if config.overwrite:
        _check_nothing_needed_inside(config)
        shutil.rmtree(output, ignore_errors=True)
    elif finished:
        raise ConfigError(f"output {output}: holds a finished model; use --overwrite, or another folder")
    elif settings.exists() and settings.read_text(encoding="utf-8") != text:
        if last_checkpoint(output / CHECKPOINTS):
            raise ConfigError(
                f"output {output}: holds an unfinished run with other settings; "
                "repeat its settings to continue it, or use --overwrite"
            )
        shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    draft = settings.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(settings)


def _check_nothing_needed_inside(config: TrainConfig) -> None:
    folder = config.output.resolve()
    sources = [parse_source(name)[0] for name in (*config.data, *config.eval_data, *config.tokenizer_data)]
    for name in (config.model, config.reference, config.template, *sources):
        path = Path(name or "").resolve()
        if name and path.exists() and folder in (path, *path.parents):
            raise ConfigError(
                f"output {config.output}: holds {name}, which this run reads; choose another folder"
            )
