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

from gram.claims import Reads
from gram.errors import ConfigError
from gram.files import atomic_write, is_ours
from gram.modeling.adapter_folder import base_of
from gram.modeling.manifest import FILE, read_manifest
from gram.training.checkpoints import last_checkpoint
from gram.training.config import TrainConfig

CHECKPOINTS = "checkpoints"
SETTINGS = "gram-train.json"
REJECTS = {
    "data": "rejects.jsonl",
    "eval_data": "eval_rejects.jsonl",
    "tokenizer_data": "tokenizer_rejects.jsonl",
}
RESULT = ".gram.result.json"
"""What a run says at its end, beside its model; there only until the last of the run is tidied up."""
_SOURCES = "data.json"  # what the run has read; in the folder of the checkpoints
_OTHERS = {
    "model": "from another model",
    "distil": "after another judge",
    "reference": "against another reference",
    "template": "with another template",
    "tokenizer": "with a tokenizer from other data",
}


def reads_of(config: TrainConfig) -> Reads:
    """All that a run reads, as its configuration names it."""
    return Reads(
        [
            config.model,
            base_of(config.model, config.base, config.revision),
            config.reference,
            config.distil,
            config.template,
        ],
        [*config.data, *config.eval_data, *config.tokenizer_data],
    )


def claim_output(config: TrainConfig) -> None:
    """Make ``config.output`` the folder of this run, and remember its settings there.

    A folder in which the same run was interrupted is claimed as it is, to be continued. A folder that
    ``overwrite`` replaces loses its rejects now, and the rest in ``begin_output``.

    Raises:
        ConfigError: the folder cannot be made, or holds a finished model, an unfinished run with other
            settings, or something that is not ours.
    """
    output, settings = config.output, config.output / SETTINGS
    check_output(output, overwrite=config.overwrite)
    text = _settings(config)
    if config.overwrite and any(not is_ours(path.name) for path in output.iterdir()):
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
    with atomic_write(settings) as file:
        file.write(text)


def begin_output(config: TrainConfig, sources: Sequence[Mapping[str, Any]], read: Mapping[str, Any]) -> None:
    """Call when training begins: records its data; ``overwrite`` empties the folder, except for the rejects.

    Args:
        sources: of the rows that were read, with their fingerprints.
        read: what else decides what is learned, by its name in ``_OTHERS``, by its content.

    Raises:
        ConfigError: the run that would be continued had read others; names which.
    """
    output, text = config.output, json.dumps([*sources, read])
    if config.overwrite:
        with atomic_write(output / SETTINGS) as file:  # first: from here on the folder is that of this run
            file.write(_settings(config))
        kept = {SETTINGS, *REJECTS.values()}
        doomed = [path for path in output.iterdir() if path.name not in kept and not is_ours(path.name)]
        for path in sorted(doomed, key=lambda path: path.name != FILE):  # nor is it a finished one any more
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    record = output / CHECKPOINTS / _SOURCES
    if last_checkpoint(record.parent) and record.is_file():
        others = _others(json.loads(record.read_text(encoding="utf-8")), json.loads(text))
        if others:
            raise ConfigError(
                f"output {output}: holds an unfinished run {' and '.join(others)} of the same name; "
                "give it that again, or use --overwrite"
            )
    with atomic_write(record) as file:
        file.write(text)


def _others(before: list[Any], now: list[Any]) -> list[str]:
    """How what an unfinished run had read differs from what is read now; earlier versions recorded less."""
    pairs = zip(before[:-1], now[:-1], strict=False)
    same = len(before) == len(now) and all(new | old == new for old, new in pairs)
    data = [] if same else ["over other data"]
    names = [name for name, content in now[-1].items() if before[-1].get(name, content) != content]
    return [*data, *(_OTHERS[name] for name in names)]


def end_output(output: Path) -> None:
    """Remove the checkpoints of a run that is finished; what experiment trackers wrote beside them stays.

    Their files, such as ``runs`` of TensorBoard and ``emissions.csv`` of CodeCarbon, move into ``output``.
    """
    folder = output / CHECKPOINTS
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (path.name.startswith("checkpoint-") or path.name == _SOURCES or is_ours(path.name)):
            _move(path, output / path.name)
    shutil.rmtree(folder, ignore_errors=True)


def _move(path: Path, target: Path) -> None:
    """Move a file or folder; what a folder of that name holds already stays beside it."""
    if path.is_dir() and target.is_dir():
        for inner in path.iterdir():
            _move(inner, target / inner.name)
    else:
        path.replace(target)


def finished_before(config: TrainConfig) -> dict[str, Any] | None:
    """The result of this very run, if it was killed when the model was there and only had to tidy up."""
    settings = config.output / SETTINGS
    if config.overwrite or not (config.output / FILE).exists() or not settings.exists():
        return None
    if settings.read_text(encoding="utf-8") != _settings(config):
        return None
    result = read_result(config.output)
    if result is None and (config.output / CHECKPOINTS).is_dir():  # an earlier version left no result
        manifest = read_manifest(config.output)
        unknown = dict.fromkeys(("rejected", "unpaired", "leaked"))
        result = unknown | {"output": str(config.output)} | (manifest.training if manifest else {})
    return result


def read_result(output: Path) -> dict[str, Any] | None:
    """What a run wrote into ``RESULT`` beside its model, if that is still there."""
    try:
        return json.loads((output / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _settings(config: TrainConfig) -> str:
    return json.dumps({**asdict(config), "overwrite": False}, indent=2, default=str) + "\n"


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that does not belong to a run of ours, before any work is done.

    Raises:
        ConfigError: not a folder, something that is not ours, or a finished model without ``overwrite``.
    """
    finished = (output / FILE).exists()
    if not output.name or (output.exists() and not output.is_dir()):
        raise ConfigError(f"output {output}: must name a folder")
    is_empty = not output.exists() or all(is_ours(path.name) for path in output.iterdir())
    if not is_empty and not finished and not (output / SETTINGS).exists():
        raise ConfigError(
            f"output {output}: is not empty, and no run of gram began it; choose another folder"
        )
    if finished and not overwrite:
        raise ConfigError(f"output {output}: holds a finished model; use --overwrite, or another folder")
