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
    from gram.training.record import left_out

    quiet_libraries()
    result = adapt_checkpoint(config)
    for line in left_out(result, result["rows"], f"{config.output}.rejects.jsonl"):
        print(f"gram adapt: {line}", file=sys.stderr)
    outcome = "the adapted model" if result["adopted"] else "the old model, unchanged"
    print(f"gram adapt: {config.output} is {outcome}: {result['reason']}", file=sys.stderr)
    return result
