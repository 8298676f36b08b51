"""``gram push``: a model to the Hugging Face Hub."""

from __future__ import annotations

import sys
from typing import Any

from gram.publishing.push import PushOptions as Config
from gram.publishing.push import push

__all__ = ["Config", "run"]


def run(config: Config) -> dict[str, Any]:
    """Push; of a dry run the card goes to stderr."""
    result = push(config)
    if card := result.pop("card", None):
        print(card, file=sys.stderr)
    return result
