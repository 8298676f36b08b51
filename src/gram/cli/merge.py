"""``gram merge``: an adapter and its base as one ordinary model folder."""

from __future__ import annotations

from gram.modeling.merging import MergeOptions as Config
from gram.modeling.merging import merge
from gram.modeling.quiet import quietly

__all__ = ["Config", "run"]
run = quietly(merge)
