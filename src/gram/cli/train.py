"""``gram train``: stage 1 and stage 2."""

from __future__ import annotations

import os
import sys
from typing import Any

from gram.training.config import TrainConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> dict[str, Any] | None:
    """Train; only the first of several processes reports."""
    from gram.cli.progress import quiet_libraries
    from gram.training.run import train

    quiet_libraries()
    chief = os.environ.get("RANK", "0") == "0"
    result = train(config)
    if not chief:
        return None
    for name, what in (
        ("truncated", f"of {result['samples']} samples were shortened"),
        ("collapsed", "pairs were left out: equal when shortened"),
        ("rejected", "rows were rejected: see rejects.jsonl"),
    ):
        if result[name]:
            print(f"gram train: {result[name]} {what}", file=sys.stderr)
    return result
