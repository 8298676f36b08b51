"""Saving a checkpoint: an ordinary Hugging Face folder plus ``gram.json``, complete or not there at all."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gram.files import atomic_folder, is_ours, naming
from gram.modeling.adapters import name_base, save_adapter
from gram.modeling.digests import deciding_files
from gram.modeling.manifest import FILE, Manifest
from gram.modeling.pooling import save_whole
from gram.modeling.trainable import merged
from gram.version import __version__

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    manifest: Manifest,
    beside: Mapping[str, str] | None = None,
    *,
    merge: bool = True,
    brought: Sequence[str] = (),
) -> None:
    """Write the model, tokenizer and manifest into ``folder``; adapters are merged into ``model`` itself.

    Everything is written beside ``folder`` first and moved in at the end, ``gram.json`` last: a folder with
    ``gram.json`` is a finished checkpoint. The ``gram.json`` of an older checkpoint there goes first.

    Args:
        beside: text of further files to write into the folder, by file name.
        merge: False writes the adapters alone, a PEFT folder on the base that ``manifest.base`` names.
        brought: of an adapter that was trained on, the tensors that it held: ``LoadedModel.brought``.
    """
    manifest = replace(manifest, files={}, base={} if merge else manifest.base)
    with _draft(folder, manifest, beside or {}) as draft, naming(folder):
        if merge:
            save_whole(merged(model), draft)
        else:
            save_adapter(model, draft, manifest.base, brought)
        tokenizer.save_pretrained(draft)


def copy_checkpoint(
    source: Path,
    folder: Path,
    manifest: Manifest,
    beside: Mapping[str, str],
    base: Mapping[str, Any] | None = None,
) -> None:
    """Write a copy of the checkpoint in ``source``, as ``save_checkpoint`` would, with another manifest.

    Args:
        base: what the copy of an adapter names as its base, as of ``adapter_base``; None: what it names now.
    """
    manifest = replace(manifest, base=dict(base), files={}) if base else manifest
    with _draft(folder, manifest, beside) as draft:
        for path in source.iterdir():
            if path.is_file() and not is_ours(path.name):
                shutil.copyfile(path, draft / path.name)
        if base:
            name_base(draft, base)


@contextmanager
def _draft(folder: Path, manifest: Manifest, beside: Mapping[str, str]) -> Iterator[Path]:
    """A folder to write into; its files are moved into ``folder`` when the block ends.

    The manifest gets digests of them, unless it has those of the folder that they were copied from.
    """
    with atomic_folder(folder, last=FILE) as draft:
        yield draft
        for name, text in beside.items():
            with naming(folder / name):
                (draft / name).write_text(text, encoding="utf-8")
        replace(manifest, files=manifest.files or deciding_files(draft)).write(draft)


def library_versions() -> dict[str, str]:
    """Versions of gram, python and the libraries that write a checkpoint, for its manifest."""
    import torch
    import transformers

    return {
        "gram": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
