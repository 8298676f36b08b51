"""``gram convert``: labeled pairs in the form that a trainer reads."""

from __future__ import annotations

from gram.data.convert import ConvertOptions as Config
from gram.data.convert import convert as run

__all__ = ["Config", "run"]
