"""Which model a command makes something of: four options that ``merge`` and ``export`` share.

Knows names only; ``loading`` finds and opens what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model by its name, and how it is found and opened."""

    model: str
    """Model folder, adapter (a PEFT folder), or Hub name."""
    revision: str | None = None
    """Branch, tag or commit of a model on the Hub. Default: the newest."""
    base: str | None = None
    """Of a model that is an adapter (a PEFT folder): its base, in place of the one that it names."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Default: such a model is refused."""
