"""Paths as people write them. Knows nothing of what lies there."""

from __future__ import annotations

from pathlib import Path


def at_home(path: str | Path) -> Path:
    """``path`` with a leading ``~`` expanded, as shells do: the ``~name`` of nobody stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the home folder cannot be told
        return Path(path)
