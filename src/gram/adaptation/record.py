"""What an adaptation tells of itself: the numbers behind its decision, in ``adapt.json`` and as its result.

Knows configurations and outcomes; adapts nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from gram.adaptation.adapt import Adaptation
from gram.adaptation.config import AdaptConfig
from gram.data import ExampleSet
from gram.files import finite
from gram.modeling.saving import library_versions
from gram.training.folder import RESULT, read_result
from gram.training.record import described
from gram.types import Preference

REPORT = "adapt.json"


def facts_of(config: AdaptConfig, rows: ExampleSet[Preference], outcome: Adaptation) -> dict[str, Any]:
    """The facts about the adaptation that the checkpoint stores and the command returns."""
    decision = outcome.decision
    return {
        "adopted": outcome.adopted,
        "reason": decision.reason,
        "from": config.model,
        "method": config.method,
        "learning_rate": outcome.chosen.learning_rate,
        "steps": outcome.chosen.steps,
        "temperature": decision.choice.temperature,
        "rows": outcome.rows,
        "ties": outcome.ties,
        "truncated": outcome.truncated,
        "questions": outcome.questions,
        "folds": outcome.folds,
        "before": asdict(decision.before),
        "before_fitted": asdict(decision.before_fitted),
        "after": asdict(decision.after),
        "log_loss_gain": asdict(decision.gain),
        "accuracy_gain": asdict(decision.accuracy_gain),
        "seed": config.seed,
        "dtype": config.dtype,
        "data": [described(source, "adapt") for source in rows.sources],
    }


def files_beside(
    config: AdaptConfig, outcome: Adaptation, facts: dict[str, Any], result: dict[str, Any]
) -> dict[str, str]:
    """What stands beside the model: the report and, until the run is over, its result."""
    losses = outcome.decision.choice.losses.tolist()
    candidates = [
        {**asdict(candidate), "log_loss": loss}
        for candidate, loss in zip(outcome.candidates, losses, strict=True)
    ]
    report = {**facts, "candidates": candidates, "settings": _plain(config), "versions": library_versions()}
    return {
        REPORT: json.dumps(finite(report), indent=2, ensure_ascii=False) + "\n",
        RESULT: json.dumps(finite(result)),
    }


def finished_before(config: AdaptConfig) -> dict[str, Any] | None:
    """The result of this very run, if it was killed when the new model was there already."""
    if config.overwrite or (result := read_result(config.output)) is None:
        return None
    report = json.loads((config.output / REPORT).read_text(encoding="utf-8"))
    return result if report["settings"] == json.loads(json.dumps(_plain(config))) else None


def _plain(config: AdaptConfig) -> dict[str, Any]:
    return {**asdict(config), "output": str(config.output)}
