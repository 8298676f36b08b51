"""``gram export``: a model in the form that other tools load."""

from __future__ import annotations

from gram.modeling.quiet import quietly
from gram.publishing.export import ExportOptions as Config
from gram.publishing.export import export

__all__ = ["Config", "run"]
run = quietly(export)
