"""What a model's name refers to: a folder, a model of the package or the catalogue, or one on the Hub.

Knows names and folders only; a model of the catalogue is fetched when its folder is first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gram.errors import CheckpointError, ConfigError, GramError
from gram.fetching import fetchable, fetched_folder, named_by_catalogue
from gram.modeling.manifest import FILE
from gram.paths import at_home

ADAPTER_CONFIG = "adapter_config.json"
_FOLDER = Path(__file__).parents[1] / "shipped"


def shipped_models() -> tuple[str, ...]:
    """The names of the models that come with the package.

    Example:
        >>> "gram-135m" in shipped_models()
        True
    """
    return tuple(sorted(path.parent.name for path in _FOLDER.glob(f"*/{FILE}")))


def model_folder(reference: str | Path) -> Path | None:
    """The local folder a model reference stands for; None if it has to be a Hub name.

    A folder of that name comes before a model that comes with the package, and before one that is fetched.

    Raises:
        FetchError: a model of the catalogue is not on this machine, and cannot be fetched or must not.
    """
    path, name = at_home(reference), str(reference)
    if path.is_dir():
        return path
    if name in shipped_models():
        return _FOLDER / name
    return fetched_folder(name) if name in fetchable() else None


def portable_name(folder: Path) -> str:
    """How an adapter names this folder as its base: so that other machines find it, where they can.

    The name of a model that was fetched; of any other folder its path, without links.
    """
    return named_by_catalogue(folder) or str(folder.resolve())


def named_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """A Hub name without its revision, and the revision: ``revision``, else that in ``owner/name@revision``.

    Example:
        >>> named_revision("owner/name@v1.0"), named_revision("owner/name")
        (('owner/name', 'v1.0'), ('owner/name', None))
    """
    bare, _, suffix = name.partition("@")
    return bare, revision or suffix or None


@dataclass(frozen=True)
class Place:
    """Where a model is.

    Attributes:
        name: the folder's path, or the name on the Hub.
        folder: None for a model on the Hub.
        revision: on the Hub; None: the newest.
    """

    name: str
    folder: Path | None
    revision: str | None = None


def find_place(reference: str | Path, revision: str | None = None) -> Place:
    """The folder of a model (of the package or the catalogue too), or its name on the Hub.

    Args:
        revision: branch, tag or commit of a Hub name, which may bring its own (``owner/name@revision``).

    Raises:
        CheckpointError: no such folder, or one without a model.
        ConfigError: a revision of something that is not on the Hub.
        FetchError: as ``model_folder``.
    """
    folder = model_folder(reference)
    name, revision = (str(folder), revision) if folder else named_revision(str(reference), revision)
    if folder and revision is not None:
        raise ConfigError(f"revision {revision}: {name} is a folder; only models on the Hub have revisions")
    path = Path(name)
    looks_like_path = path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
    if folder and not ((folder / "config.json").is_file() or (folder / ADAPTER_CONFIG).is_file()):
        other = f" ({FILE} alone is not a model)" if (folder / FILE).is_file() else ""
        raise CheckpointError(f"{name}: no config.json in this folder{other}")
    if not folder and path.exists():
        raise CheckpointError(f"{name}: a model is a folder, this is a file")
    if not folder and looks_like_path:
        raise CheckpointError(
            f"{name}: no such folder; with gram come: {', '.join(shipped_models())}; it can fetch: "
            f"{', '.join(fetchable())}"
        )
    return Place(name, folder, revision)


def is_on_hub(reference: str) -> bool:
    """Whether this name of a model is read from the Hub: that of no folder here, and of no preset.

    Example:
        >>> is_on_hub("owner/name"), is_on_hub("preset:tiny")
        (True, False)
    """
    try:
        return find_place(reference).folder is None
    except GramError:
        return False
