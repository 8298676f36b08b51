"""``gram serve``: a model behind HTTP, for trainers, rerank clients and people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gram.asking import NoCalling
from gram.cli.options import ModelOptions
from gram.errors import ConfigError
from gram.scoring.remote.address import is_elsewhere
from gram.serving.options import ServeOptions

if TYPE_CHECKING:
    from gram.serving.facts import About
    from gram.types import RewardModel


@dataclass(frozen=True, kw_only=True)
class Config(ServeOptions, NoCalling, ModelOptions):
    """Serve a model over HTTP: compare, rank, reward, and the shapes that OpenRLHF and rerank clients speak.

    Stops at SIGTERM or an interrupt, when what it has taken is answered. docs/serving.md has the endpoints.
    """

    model: str
    """Model folder, gram-135m (comes with the package), smollm2-135m (is fetched), or Hub name."""

    def about(self, model: RewardModel) -> About:
        """What a server says of the model."""
        from gram.scoring.asked import kind_of
        from gram.serving.facts import About

        depends = json.dumps(self.source.fingerprint(), sort_keys=True, default=str)
        fingerprint = sha256(depends.encode()).hexdigest()
        return About(kind_of(model), str(self.source.precision), self.source.both_orders, fingerprint)


def run(config: Config) -> dict[str, Any]:
    """Serve until told to stop; returns counts."""
    from gram.serving.server import serve

    if is_elsewhere(config.model):
        raise ConfigError(f"{config.model} is a server already")
    return serve(config.load_model, config.about, config.model, config, config.workers)
