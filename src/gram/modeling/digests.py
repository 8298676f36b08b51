"""Digests of a model's files, so that a copy of a model in another folder counts as the same model.

Knows which files decide what a model says; ``gram.json`` keeps their digests, and loading compares.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from gram.errors import CheckpointError, ConfigError
from gram.files import is_ours
from gram.modeling.adapter_folder import base_of
from gram.modeling.manifest import FILE
from gram.modeling.on_hub import file_of, is_absent
from gram.modeling.shipped import ADAPTER_CONFIG, Place, find_place, model_folder
from gram.modeling.strict_json import read_object

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*", "adapter_model.bin")
_DECIDING = (
    *_WEIGHTS,
    "config.json",
    ADAPTER_CONFIG,
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "decision.json",
    "decision_template.jinja",
    "vocab.*",
    "merges.txt",
    "*.model",  # of sentencepiece
    "*.tiktoken",
    "tekken.json",
    "*.py",  # code of the model's own
)
_TRACES = ("gram-train.json", "adapt.json")
_VOLATILE = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "peft_version", "use_cache"}
"""Keys of a configuration that its library writes anew, and that change no score."""
_OF_A_LOAD = {"is_local", "local_files_only"}
"""Keys that transformers adds to tokenizer_config.json when it saves a tokenizer that it has loaded."""
_RESULTS = (".jsonl", ".partial", ".md", ".html", "results.json")  # decide no score
_MIB = 2**20
_WHOLE = 64 * _MIB  # files up to this size are read whole: a tenth of a second
_STEP, _SAMPLE = 16 * _MIB, _MIB // 16  # of larger ones 64 KiB in every 16 MiB


def content_of(name: str, base: str | Path | None = None, revision: str | None = None) -> Any:
    """A digest of each file of a local file or folder; any other name (Hub, built-in template) as it is.

    Of a model on the Hub with a ``gram.json``, its digest beside the name. Of an adapter, the content of its
    base too.

    Args:
        base: the base of an adapter, in place of the one that it names.
        revision: of a model on the Hub.

    Raises:
        CheckpointError: a file cannot be read.

    Example:
        >>> _ = Path("one.txt").write_text("same"), Path("two.txt").write_text("same")
        >>> list(content_of("one.txt").values()) == list(content_of("two.txt").values())
        True
        >>> content_of("owner/on-the-hub")
        'owner/on-the-hub'
    """
    place = model_folder(name) or Path(name)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    if place.is_dir():  # a run may write into the folder of its model, and is the same run when it goes on
        files = [path for path in files if not is_ours(path.name) and not path.name.endswith(_RESULTS)]
    content: dict[str, Any] = {path.name: _digest(path) for path in files if path.is_file()}
    beside: dict[str, Any] = {}
    if not content and (manifest := _manifest_on_hub(name, revision)):
        beside[FILE] = _digest(manifest)
    if below := base_of(name, base, revision):
        beside["base of the adapter"] = content_of(below)
    return (content or {"name": name}) | beside if beside else content or name


def _manifest_on_hub(name: str, revision: str | None) -> Path | None:
    try:
        return file_of(find_place(name, revision), FILE)
    except (CheckpointError, ConfigError):  # the name of a template, or told where the model is opened
        return None


def deciding_files(folder: Path, *, weights_only: bool = False) -> dict[str, str]:
    """The digests of the files in a model's folder that decide what it says, by name.

    Configurations count by their content, without what a library writes anew whenever it saves.

    Args:
        weights_only: only the files that hold weights, as of an adapter's base.

    Raises:
        CheckpointError: a file cannot be read.
    """
    kinds = _WEIGHTS if weights_only else _DECIDING
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {
        name: _digest_of_settings(folder / name)
        if name in ("config.json", ADAPTER_CONFIG)
        else _digest(folder / name)
        for name in names
        if any(fnmatch(name, kind) for kind in kinds)
    }


def tell_lost_manifest(folder: Path) -> None:
    """Warn where a folder without ``gram.json`` has another file that only we write."""
    if traces := [name for name in _TRACES if (folder / name).is_file()]:
        warnings.warn(
            f"{folder}: has {traces[0]} of gram and no {FILE}: that was lost, or never written, and the "
            "folder is read as a raw model, not as it was trained",
            stacklevel=2,
        )


def check_files(folder: Path, recorded: Mapping[str, str]) -> None:
    """Compare a model's folder with what ``gram.json`` says that it was saved with.

    A file that is gone is an error: nobody takes away a chat template on purpose and means to keep the
    scores. What has changed, or came to it, is told in one warning, as people do edit their models. Weights
    that were saved again under other names count as changed.

    Args:
        recorded: ``Manifest.files``; empty for folders of earlier versions, which are not compared.

    Raises:
        CheckpointError: naming the files that are gone.
    """
    if not recorded:
        return
    found = deciding_files(folder)
    gone, new = sorted(set(recorded) - set(found)), sorted(set(found) - set(recorded))
    changed = sorted(
        name
        for name in set(recorded) & set(found)
        if recorded[name] != found[name] and not _only_saved_again(folder / name, recorded[name])
    )
    if any(_holds_weights(name) for name in new):
        changed, gone = (
            sorted([*changed, *(name for name in gone if _holds_weights(name))]),
            [name for name in gone if not _holds_weights(name)],
        )
    how = f"where that is meant, take its entry out of 'files' in {FILE}"
    if gone:
        raise CheckpointError(
            f"{folder}: cannot be loaded as a model: it was saved with {', '.join(gone)}, and without it "
            f"would give other scores; put it back, or {how}"
        )
    if changed or new:
        parts = [
            f"{', '.join(names)} {what}" for names, what in ((changed, "changed"), (new, "came new")) if names
        ]
        warnings.warn(
            f"{folder}: not as it was saved, so that its scores may be others: {'; '.join(parts)}; {how}",
            stacklevel=2,
        )


def check_files_at(place: Place, recorded: Mapping[str, str]) -> None:
    """``check_files`` of a folder, or of a whole model on the Hub: whoever pushes one can forget a file.

    Of the Hub that is compared which is on this machine. No weights are brought for it: ask once the model
    is opened.

    Raises:
        CheckpointError: as ``check_files``.
    """
    if place.folder is not None:
        check_files(place.folder, recorded)
    elif (config := file_of(place, "config.json")) is not None:
        folder = config.parent
        for name in recorded:
            if not (_holds_weights(name) or (folder / name).is_file()):
                file_of(place, name)
        here = [name for name in recorded if (folder / name).is_file() or is_absent(place, name)]
        check_files(folder, {name: recorded[name] for name in here})


def _only_saved_again(path: Path, digest: str) -> bool:
    """Whether a tokenizer's settings differ from those with this digest by what loading adds alone."""
    if path.name != "tokenizer_config.json":
        return False
    content = {key: value for key, value in read_object(path).items() if key not in _OF_A_LOAD}
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"  # as transformers does
    data = text.encode()
    return sha256(str(len(data)).encode() + data).hexdigest() == digest


def _holds_weights(name: str) -> bool:
    return any(fnmatch(name, kind) for kind in _WEIGHTS)


def _digest_of_settings(path: Path) -> str:
    content = {key: value for key, value in read_object(path, constants=True).items() if key not in _VOLATILE}
    if path.name == ADAPTER_CONFIG:  # where the base stands may change; its content is compared by itself
        content = {k: v for k, v in content.items() if k not in ("base_model_name_or_path", "inference_mode")}
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    """Digest of a file's size and content; large files are sampled, as reading many GB takes minutes."""
    try:
        size = path.stat().st_size
        digest = sha256(str(size).encode())
        with path.open("rb") as file:
            for start, length in [(0, size)] if size <= _WHOLE else _samples(size):
                file.seek(start)
                digest.update(file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _samples(size: int) -> list[tuple[int, int]]:
    """(start, length), in bytes, of the parts that tell two trainings of one model apart.

    The first MiB mostly holds names and shapes, which are equal. But training changes nearly every number, so
    64 KiB out of every 16 MiB show it. A last layer that was trained alone lies at an end of the file, and
    both ends are read.
    """
    return [(0, _MIB), *((start, _SAMPLE) for start in range(_STEP, size, _STEP)), (size - _MIB, _MIB)]
