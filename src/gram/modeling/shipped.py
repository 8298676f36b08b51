"""What a model's name refers to: a folder, a model that comes with the package, or one on the Hub.

Knows names and folders only.
"""

from __future__ import annotations

from pathlib import Path

from gram.modeling.manifest import FILE
from gram.paths import at_home

_FOLDER = Path(__file__).parents[1] / "shipped"


def shipped_models() -> tuple[str, ...]:
    """The names of the models that come with the package.

    Example:
        >>> "gram-small" in shipped_models()
        True
    """
    return tuple(sorted(path.parent.name for path in _FOLDER.glob(f"*/{FILE}")))


def model_folder(reference: str | Path) -> Path | None:
    """The local folder a model reference stands for; None if it has to be a Hub name.

    A folder of that name comes before a model that comes with the package.
    """
    path = at_home(reference)
    if path.is_dir():
        return path
    return _FOLDER / str(reference) if str(reference) in shipped_models() else None


def named_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """A Hub name without its revision, and the revision: ``revision``, else that in ``owner/name@revision``.

    Example:
        >>> named_revision("owner/name@v1.0"), named_revision("owner/name")
        (('owner/name', 'v1.0'), ('owner/name', None))
    """
    bare, _, suffix = name.partition("@")
    return bare, revision or suffix or None
