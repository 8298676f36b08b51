"""GRAM: generative foundation reward models (arXiv 2506.14175).

The public surface. Importing it loads no library, not even numpy: every name arrives on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gram.version import __version__ as __version__

if TYPE_CHECKING:
    from gram.decisions import decide
    from gram.errors import GramError
    from gram.ranking import best_of_n, rank
    from gram.scoring import load
    from gram.scoring.ensemble import ensemble
    from gram.serving import RemoteModel
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

__all__ = [
    "Answer",
    "Chat",
    "Contest",
    "GramError",
    "Message",
    "Pair",
    "Preference",
    "PreferenceModel",
    "RemoteModel",
    "ResponsePair",
    "ScalarModel",
    "Text",
    "Verdicts",
    "best_of_n",
    "decide",
    "ensemble",
    "load",
    "rank",
]


_PLACES = {"GramError": "gram.errors", "ensemble": "gram.scoring.ensemble", "load": "gram.scoring"}
_PLACES |= {"decide": "gram.decisions", "RemoteModel": "gram.serving"}
_PLACES |= dict.fromkeys(("best_of_n", "rank"), "gram.ranking")


def __getattr__(name: str) -> Any:
    if name in __all__:
        from gram.extras import explained

        with explained():
            return getattr(import_module(_PLACES.get(name, "gram.types")), name)
    raise AttributeError(f"module 'gram' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
