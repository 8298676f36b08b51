"""GRAM: generative foundation reward models (arXiv 2506.14175).

The public surface. Importing it loads no torch: the names that need it arrive on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gram.errors import GramError
from gram.types import (
    Answer,
    Chat,
    Contest,
    Message,
    Pair,
    Preference,
    PreferenceModel,
    ResponsePair,
    ScalarModel,
    Text,
    Verdicts,
)

if TYPE_CHECKING:
    from gram.ranking import best_of_n, rank
    from gram.scoring import load
    from gram.scoring.ensemble import ensemble

__version__ = "0.1.0"

_LATE = {
    "ensemble": "gram.scoring.ensemble",
    "load": "gram.scoring",
    "rank": "gram.ranking",
    "best_of_n": "gram.ranking",
}

__all__ = [
    "Answer",
    "Chat",
    "Contest",
    "GramError",
    "Message",
    "Pair",
    "Preference",
    "PreferenceModel",
    "ResponsePair",
    "ScalarModel",
    "Text",
    "Verdicts",
    "best_of_n",
    "ensemble",
    "load",
    "rank",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'gram' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
