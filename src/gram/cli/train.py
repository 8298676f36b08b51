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

    quiet_libraries()
    chief = os.environ.get("RANK", "0") == "0"
    result = train(config)
    if not chief:
        return None
    for description, count in (
        (f"samples shortened, of {result['samples']}", result["truncated"]),
        ("pairs left out, equal when shortened", result["collapsed"]),
        ("rows rejected, see rejects.jsonl", result["rejected"]),
        ("judged answers without a partner, left out", result["unpaired"]),
        ("evaluation rows that are in the training data too", result["leaked"]),
    ):
        if count:
            print(f"gram train: {description}: {count}", file=sys.stderr)
    return result
