"""``gram push``: a model's folder to the Hugging Face Hub, with its card, as one commit.

Knows folders and huggingface_hub, which knows the Hub; ``HF_ENDPOINT`` names another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from gram.errors import CheckpointError, ConfigError, OutputError
from gram.files import is_ours
from gram.modeling.adapter_folder import read_adapter
from gram.modeling.digests import deciding_files
from gram.modeling.manifest import FILE, read_manifest
from gram.modeling.shipped import find_place
from gram.publishing.card import README, card_text
from gram.publishing.measured import read_run

_BESIDE = (FILE, "generation_config.json", "*.gguf", "LICENSE*", "NOTICE*", "MODEL_CARD.md")
"""What is pushed besides the files that decide the scores; anything else may be somebody's data."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Put a model on the Hugging Face Hub, with a model card and its results in the Hub's own form.

    The weights, the tokenizer, gram.json and README.md go there as one commit; other files of the folder
    stay. A README.md in the folder keeps its text; the licence and the results that are named here go into
    it. Log in with hf auth login, or set HF_TOKEN.
    """

    model: Path
    """Model folder: of gram train, gram merge or gram adapt, or of others."""
    to: str
    """owner/name on the Hub."""
    evaluation: Path | None = None
    """Folder of a run of gram eval on this model: its numbers go into the card and the metadata."""
    license: str | None = None
    """Licence of the model, as the Hub abbreviates it (apache-2.0, mit, ...), for the card."""
    private: bool = False
    """Make the repository private. Of one that is there already, this changes nothing."""
    update: bool = False
    """Allow a repository that is there already: files of the same name are replaced in a new commit."""
    dry_run: bool = False
    """Send nothing; print the card to stderr, and which files would go."""


def push(options: PushOptions) -> dict[str, Any]:
    """Push the model; returns a JSON-able summary.

    Returns:
        ``to``, ``files`` that were sent, ``left_out`` (other files of the folder), and ``url`` and ``commit``
        (None in a dry run).

    Raises:
        ConfigError: a wrong name, a repository that is there already, or a run of another model.
        CheckpointError: no model in the folder, or an adapter whose base only this machine has.
        OutputError: the Hub refuses it, or cannot be reached.
    """
    if not _NAME.fullmatch(options.to):
        raise ConfigError(f"to {options.to}: expected owner/name, as on the Hub")
    folder = find_place(options.model).folder
    if folder is None:
        raise CheckpointError(f"{options.model}: no such folder")
    _refuse_lone_adapter(folder)
    run = read_run(options.evaluation, folder) if options.evaluation else None
    card = card_text(folder, options.to, read_manifest(folder), run, options.license)
    names = files_to_push(folder)
    there = {path.name for path in folder.iterdir() if not is_ours(path.name)}
    summary: dict[str, Any] = {
        "to": options.to,
        "files": sorted({*names, README}),
        "left_out": sorted(there - {*names, README}),
        "url": None,
        "commit": None,
    }
    if options.dry_run:
        return summary | {"card": card}
    return summary | _send(options, folder, names, card)


def files_to_push(folder: Path) -> list[str]:
    """The names of the files that make up the model in ``folder``, without its card."""
    beside = [
        path.name
        for path in folder.iterdir()
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in _BESIDE)
    ]
    return sorted({*deciding_files(folder), *beside})


def _refuse_lone_adapter(folder: Path) -> None:
    """Refuse an adapter that names a folder of this machine as its base: nobody else could load it."""
    adapter = read_adapter(find_place(folder))
    if adapter is not None and adapter.base.folder is not None:
        raise CheckpointError(
            f"{folder}: an adapter whose base is not on the Hub ({adapter.base.name}): others could not "
            f"load it; push what 'gram merge --model {folder} --output FOLDER' makes"
        )


def _send(options: PushOptions, folder: Path, names: list[str], card: str) -> dict[str, Any]:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    additions = [CommitOperationAdd(name, str(folder / name)) for name in names]
    additions.append(CommitOperationAdd(README, card.encode()))
    try:
        api.create_repo(options.to, private=options.private or None, exist_ok=options.update)
        commit = api.create_commit(
            options.to, additions, commit_message=f"Push {folder.name} with gram", repo_type="model"
        )
    except Exception as error:  # of huggingface_hub, httpx and hf_xet: OSError, ValueError, HTTP errors, ...
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        if isinstance(error, HfHubHTTPError) and error.response.status_code == 409:
            raise ConfigError(f"to {options.to}: is there already; --update commits to it") from error
        raise OutputError(f"{options.to}: cannot be pushed to the Hub: {reason}") from error
    return {"url": f"{api.endpoint}/{options.to}", "commit": commit.oid}
