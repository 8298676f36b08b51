"""``gram merge``: an adapter and its base as one ordinary model folder."""

from __future__ import annotations

from typing import Any

from gram.modeling.merging import MergeOptions as Config
from gram.modeling.merging import merge

__all__ = ["Config", "run"]


def run(config: Config) -> dict[str, Any]:
    """Merge; returns where to, and into what."""
    from gram.modeling.quiet import quiet_libraries

    quiet_libraries()
    return merge(config)
