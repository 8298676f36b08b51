"""Paths as people write them. Knows nothing of the files behind them."""

from __future__ import annotations

from pathlib import Path


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
