"""``gram adapt``: a trained model and a few labels of a new task."""

from __future__ import annotations

import sys
from typing import Any

from gram.adaptation.config import AdaptConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> dict[str, Any]:
    """Adapt; says on stderr which model was kept, and why."""
    from gram.adaptation.checkpoint import adapt_checkpoint
    from gram.modeling.quiet import quiet_libraries

    quiet_libraries()
    result = adapt_checkpoint(config)
    for description, count in (
        (f"samples shortened, of {result['rows']}", result["truncated"]),
        ("pairs left out, equal when shortened", result["collapsed"]),
        (f"rows rejected, see {config.output}.rejects.jsonl", result["rejected"]),
        ("judged answers without a partner, left out", result["unpaired"]),
    ):
        if count:
            print(f"gram adapt: {description}: {count}", file=sys.stderr)
    outcome = "the adapted model" if result["adopted"] else "the old model, unchanged"
    print(f"gram adapt: {config.output} is {outcome}: {result['reason']}", file=sys.stderr)
    return result
