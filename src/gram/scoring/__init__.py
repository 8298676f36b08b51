"""Scoring: models that say which of two answers is better, or how good one is.

Knows renderings, models and manifests; knows no files of data, no benchmark and no ranking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gram.extras import explained

if TYPE_CHECKING:
    from gram.scoring.entry import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:  # what a model needs arrives with the first one, not with the import
    if name == "load":
        with explained():
            from gram.scoring.entry import load

        return load
    raise AttributeError(f"module 'gram.scoring' has no attribute {name!r}")
