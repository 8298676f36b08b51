"""Which model a run of ``gram eval`` measured, and how it was asked: in ``results.json``, for a push.

A copy of a model in another folder is the same model, and another one at the same path is not. Knows folders,
``gram.json`` and options; knows no card and asks no model.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gram.asking import Asking, Kind, LoadOptions, given
from gram.errors import ConfigError
from gram.modeling.digests import deciding_files
from gram.modeling.kinds import kind_of_folder
from gram.modeling.manifest import FILE, Manifest, completed, read_manifest
from gram.modeling.shipped import model_folder

RESULTS, REPORT = "results.json", "report.md"
_SETTINGS = (
    *("kind", "template_hash", "label_ids", "max_length", "neutralise", "chat", "context", "layout"),
    *("looking", "beta", "length_power"),
)
"""Fields of ``gram.json`` that change numbers; the others tell where a model comes from."""
_ASKED = ("template", "max_length", "neutralise", "layout", "both_orders", "context", "length_power")
_ASKED += ("baseline", "reference", "base")
"""Options of ``gram.load`` that change numbers, beside ``kind``."""


@dataclass(frozen=True)
class Run:
    """What a run of ``gram eval`` says of a model.

    Attributes:
        results: the content of ``results.json``.
        report: the text of ``report.md``.
        kind: as what the model was asked.
        asked: options of ``gram.load`` with which it was asked otherwise than by default.
    """

    results: Mapping[str, Any]
    report: str
    kind: Kind
    asked: Mapping[str, Any]


def measured(model: str, options: LoadOptions) -> dict[str, Any] | None:
    """What ``results.json`` keeps of the model that is measured; None for one that is in no folder here.

    Returns:
        ``files``: digests of the files that decide the scores; ``settings``: what ``gram.json`` says of how
        it is asked (None without one); ``asked``: the options that ask it otherwise.

    Raises:
        CheckpointError: a file of the model cannot be read.

    Example:
        >>> found = measured("gram-135m", LoadOptions(both_orders=False, device="cpu"))
        >>> found["settings"]["kind"], found["asked"]
        ('judge', {'both_orders': False})
    """
    folder = model_folder(model)
    if folder is None:
        return None
    manifest = read_manifest(folder)
    return {
        "files": deciding_files(folder),
        "settings": _settings(manifest),
        "asked": _asked(options, manifest, kind_of_folder(folder, manifest)),
    }


def read_run(folder: Path, model: Path) -> Run:
    """The run in ``folder``, if it measured the model in the folder ``model``.

    Runs of earlier versions keep no digests: of these the path, kind and template are compared, and a warning
    says so.

    Raises:
        ConfigError: no finished run there, one of another version, or one of another model.
        CheckpointError: a file of the model cannot be read.
    """
    path = folder / RESULTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        report = (folder / REPORT).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"evaluation {folder}: no finished run of gram eval: {error}") from error
    if not isinstance(content, dict) or content.get("version") != 1 or "benchmarks" not in content:
        raise ConfigError(f"{path}: not the results of gram eval in version 1")
    manifest = read_manifest(model)
    kind = kind_of_folder(model, manifest)
    about = content.get("measured")
    asked: dict[str, Any] = {}
    if about is None:
        _compare_names(content, folder, model)
        _compare_prompts(content, folder, model, manifest, kind)
        asked |= {"both_orders": False} if content.get("single_order") else {}
    else:
        _compare_content(about, folder, model, manifest)
        asked |= about["asked"]
    if manifest and content.get("template_hash") == manifest.template_hash:
        asked.pop("template", None)  # a file or another name with the same words
    return Run(content, report, asked.get("kind", kind), asked)


def _settings(manifest: Manifest | None) -> dict[str, Any] | None:
    if manifest is None:
        return None
    told = {name: getattr(manifest, name) for name in _SETTINGS}
    told["temperature"] = manifest.calibration.get("temperature")
    return told | {"reference": manifest.objective.get("reference")}


def _asked(options: LoadOptions, manifest: Manifest | None, kind: Kind) -> dict[str, Any]:
    """The options that were given and say something else than leaving them out would."""
    usual = completed(Asking(kind), manifest)
    as_usual = {"max_length": manifest.max_length if manifest else None}
    found: dict[str, Any] = {}
    for name in ("kind", *_ASKED):
        value = getattr(options, name)
        if name in given(options) and value != as_usual.get(name, getattr(usual, name, None)):
            found[name] = str(value) if isinstance(value, Path) else value
    return found


def _compare_content(about: Mapping[str, Any], folder: Path, model: Path, manifest: Manifest | None) -> None:
    then, now = about["files"], deciding_files(model)
    other = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    old, new = about["settings"], _settings(manifest)
    if old is None or new is None:
        other += [FILE] if old != new else []
    else:
        changed = [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
        other += [f"{FILE} ({', '.join(changed)})"] if changed else []
    if other:
        raise ConfigError(
            f"evaluation {folder}: measured another model than {model} is now: {', '.join(other)} changed; "
            f"give a run of gram eval --model {model}"
        )


def _compare_names(content: Mapping[str, Any], folder: Path, model: Path) -> None:
    measured_there, others = Path(str(content.get("model"))), bool(content.get("ensemble"))
    if measured_there.resolve() != model.resolve() or others or "measured" in content:
        raise ConfigError(
            f"evaluation {folder}: measured {measured_there}{' and others' * others}, not {model}; give a "
            f"run of gram eval --model {model}"
        )


def _compare_prompts(
    content: Mapping[str, Any], folder: Path, model: Path, manifest: Manifest | None, kind: Kind
) -> None:
    """Compare what a run of an earlier version tells beside the path, and say what it does not."""
    template = content.get("template_hash") or ""
    if manifest and kind == "judge":
        same = template == manifest.template_hash
    else:
        same = bool(template) == (kind == "judge")
    if content.get("kind") not in (None, kind) or not same:
        raise ConfigError(
            f"evaluation {folder}: measured a model of another kind or template than {model} has now; give "
            f"a run of gram eval --model {model}"
        )
    warnings.warn(
        f"evaluation {folder}: is of an earlier version, which kept no digests: path, kind and template are "
        f"those of {model}, and its weights could not be compared. The same gram eval command again writes "
        "digests, and asks nothing anew if the model is the same",
        stacklevel=2,
    )
