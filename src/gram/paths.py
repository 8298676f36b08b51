"""Paths as people write them, and names beside them. Knows nothing of what the files hold."""

from __future__ import annotations

import os
from pathlib import Path

from gram.errors import ConfigError


def at_home(path: str | Path) -> Path:
    """``path`` with a leading ``~`` expanded as in a shell; ``~name`` stays if there is no such user.

    Example:
        >>> at_home("~/data") == Path.home() / "data"
        True
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user, or no home folder
        return Path(path)


def path_beside(path: Path, before: str = "", after: str = "") -> Path:
    """The path in the same folder whose name is that of ``path`` with something before and after it.

    ``.`` and ``..`` are called as the folders that they stand for.

    Raises:
        ConfigError: the root, which stands in no folder.

    Example:
        >>> path_beside(Path("runs/scores.jsonl"), after=".partial").as_posix()
        'runs/scores.jsonl.partial'
        >>> path_beside(Path("."), after=".rejects.jsonl").parent == Path.cwd().parent
        True
    """
    named = path if path.name not in ("", "..") else Path(os.path.realpath(path))
    if not named.name:
        raise ConfigError(f"output {path}: is the root of all folders; name another place")
    return named.with_name(f"{before}{named.name}{after}")
