"""The output folder of a run: claimed at the start, so that no other files in it are overwritten.

Files that may be replaced stay until everything that the run needs has been read. A folder with ``gram.json``
holds a finished model; one that has only the settings of a run holds an unfinished run. Knows files; knows
nothing of models or data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gram.data import check_rejects
from gram.data.sources import parse_source
from gram.errors import ConfigError
from gram.files import atomic_write, make_folder
from gram.modeling.adapter_folder import base_of
from gram.modeling.manifest import FILE
from gram.paths import at_home
from gram.training.config import TrainConfig
from gram.training.fit import last_checkpoint

CHECKPOINTS = "checkpoints"
SETTINGS = "gram-train.json"
REJECTS = {
    "data": "rejects.jsonl",
    "eval_data": "eval_rejects.jsonl",
    "tokenizer_data": "tokenizer_rejects.jsonl",
}
_SOURCES = "data.json"  # the sources of the run; in the folder of the checkpoints


def claim_output(config: TrainConfig) -> None:
    """Make ``config.output`` the folder of this run, and remember its settings there.

    A folder in which the same run was interrupted is claimed as it is, to be continued. A folder that
    ``overwrite`` replaces loses its rejects now, and the rest in ``begin_output``.

    Raises:
        ConfigError: the folder cannot be made, or holds a finished model, an unfinished run with other
            settings, something that is not ours, or, with ``overwrite`` or as a rejects file, something
            that this run reads.
    """
    output, settings = config.output, config.output / SETTINGS
    reads = [config.model, base_of(config.model, config.base), config.reference, config.template]
    reads += [*config.data, *config.eval_data, *config.tokenizer_data]
    check_output(output, reads, overwrite=config.overwrite)
    if config.on_error == "skip":
        for name in REJECTS.values():
            check_rejects(output / name, reads)
    text = _settings(config)
    if config.overwrite and output.exists() and any(output.iterdir()):
        for name in REJECTS.values():
            (output / name).unlink(missing_ok=True)
        return
    if settings.exists() and settings.read_text(encoding="utf-8") != text:
        if last_checkpoint(output / CHECKPOINTS):
            raise ConfigError(
                f"output {output}: holds an unfinished run with other settings; "
                "repeat its settings to continue it, or use --overwrite"
            )
        shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    make_folder(output)
    with atomic_write(settings) as file:
        file.write(text)


def begin_output(config: TrainConfig, data: Sequence[Mapping[str, Any]]) -> None:
    """Call when training begins: records its data; ``overwrite`` empties the folder, except for the rejects.

    Args:
        data: the sources that were read, and the model that training starts from, with their fingerprints.

    Raises:
        ConfigError: the run that would be continued had read others.
    """
    output, text = config.output, json.dumps(data)
    if config.overwrite:
        for path in output.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in REJECTS.values():
                path.unlink()
        with atomic_write(output / SETTINGS) as file:
            file.write(_settings(config))
    record = output / CHECKPOINTS / _SOURCES
    if last_checkpoint(record.parent) and record.is_file() and record.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"output {output}: holds an unfinished run over other data of the same name, or from another "
            "model; give it those again, or use --overwrite"
        )
    with atomic_write(record) as file:
        file.write(text)


def _settings(config: TrainConfig) -> str:
    return json.dumps({**asdict(config), "overwrite": False}, indent=2, default=str) + "\n"


def check_output(output: Path, reads: Sequence[str | None], *, overwrite: bool) -> None:
    """Refuse an output folder that does not belong to a run of ours, before any work is done.

    Args:
        reads: models, templates and data that the run reads; they must not be inside what is replaced.

    Raises:
        ConfigError: not a folder, something that is not ours, a finished model without ``overwrite``, or,
            with it, something that is read.
    """
    finished = (output / FILE).exists()
    if not output.name or (output.exists() and not output.is_dir()):
        raise ConfigError(f"output {output}: must name a folder")
    if output.exists() and any(output.iterdir()) and not finished and not (output / SETTINGS).exists():
        raise ConfigError(
            f"output {output}: is not empty, and no run of gram began it; choose another folder"
        )
    if finished and not overwrite:
        raise ConfigError(f"output {output}: holds a finished model; use --overwrite, or another folder")
    folder = output.resolve()
    for name in reads:
        path = at_home(parse_source(name)[0] if name else "").resolve()
        if overwrite and name and path.exists() and folder in (path, *path.parents):
            raise ConfigError(f"output {output}: holds {name}, which this run reads; choose another folder")
