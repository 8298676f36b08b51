"""``gram export``: a model in the form that other tools load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from gram.modeling.source import ModelSource


@dataclass(frozen=True, kw_only=True)
class Config(ModelSource):
    """Write a judge for transformers.pipeline("decision", model=OUTPUT), which asks it typed questions.

    OUTPUT gets the weights, the tokenizer, decision.json and decision_template.jinja; the pipeline then gives
    the probabilities of gram.decide with one order of the options. Adapters are merged.
    """

    what: tyro.conf.Positional[Literal["decision"]]
    """decision: for transformers' decision pipeline, and for what serves /v1/systemone with it."""
    model: str
    """A judge, or a language model without gram.json: a folder, or a Hub name."""
    output: Path
    """A new folder."""


def run(config: Config) -> dict[str, Any]:
    """Export; returns where to, and what can be asked."""
    from gram.decisions.export import export_decision
    from gram.modeling.quiet import quiet_libraries

    quiet_libraries()
    return export_decision(
        config.model,
        config.output,
        revision=config.revision,
        base=config.base,
        trust_remote_code=config.trust_remote_code,
    )
