"""``gram export``: a model in the form that other tools load."""

from __future__ import annotations

from typing import Any

from gram.publishing.export import ExportOptions as Config
from gram.publishing.export import export

__all__ = ["Config", "run"]


def run(config: Config) -> dict[str, Any]:
    """Export; returns where to, and what can be asked."""
    from gram.modeling.quiet import quiet_libraries

    quiet_libraries()
    return export(config)
