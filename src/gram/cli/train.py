"""``gram train``: stage 1 and stage 2."""

from __future__ import annotations

import os
import sys
from typing import Any

from gram.training.config import TrainConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> dict[str, Any] | None:
    """Train; only the first of several processes reports."""
    from gram.modeling.quiet import quiet_libraries
    from gram.training.pipeline import train
    from gram.training.record import left_out

    quiet_libraries()
    chief = os.environ.get("RANK", "0") == "0"
    result = train(config)
    if not chief:
        return None
    for line in left_out(result, result["samples"], "rejects.jsonl"):
        print(f"gram train: {line}", file=sys.stderr)
    return result
