"""What ``gram.json`` tells of a training: the kind of model, its loss, its data and how it went.

Knows the configuration of a run and its result; trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gram.asking import Context, Kind
from gram.data import ExampleSet, SourceInfo
from gram.modeling.adapter_folder import base_of
from gram.modeling.adapters import adapter_base
from gram.modeling.manifest import Manifest
from gram.modeling.reference import recorded
from gram.modeling.saving import library_versions
from gram.modeling.shipped import is_on_hub
from gram.paths import at_home
from gram.rendering import Renderer
from gram.training.config import ObjectiveName, TrainConfig
from gram.training.fit import FitResult

KINDS: dict[ObjectiveName, Kind] = {
    "language": "likelihood",
    "preference": "judge",
    "scalar": "scalar",
    "likelihood": "likelihood",
}


def training_manifest(
    config: TrainConfig,
    renderer: Renderer,
    context: Context,
    result: FitResult,
    counts: tuple[int, int, int],
    sources: list[dict[str, Any]],
) -> Manifest:
    """``gram.json`` of the model that a run made.

    Args:
        counts: samples trained on, those of them that were shortened, and those left out.
    """
    samples, truncated, collapsed = counts
    name = config.objective_name
    settings: dict[str, Any] = {"name": name}
    if name in ("preference", "likelihood"):
        settings["label_smoothing"] = config.smoothing
    if name == "likelihood":
        against = recorded(config.reference) if config.reference else {"reference": None}
        settings |= {"form": config.likelihood_form, **against}
    if name == "scalar":
        settings |= {"margin": config.margin, "centring": config.centring}
        if config.text_regulariser:
            settings |= {"text_regulariser": config.text_regulariser, "text_form": config.text_form}
    return Manifest(
        kind=KINDS[name],
        **renderer.settings,
        label_ids=list(renderer.label_ids) if KINDS[name] == "judge" else [],
        context=context,
        beta=config.beta if name == "likelihood" else 1.0,
        length_power=config.length_power if name == "likelihood" else 0.0,
        objective=settings,
        training={
            "stage": config.stage,
            "from": config.model,
            "from_hub": is_on_hub(config.model),
            **({"revision": config.revision} if config.revision else {}),
            **({"distilled": config.distil} if config.distil else {}),
            "trained": "lora" if config.lora else "head" if config.freeze else "all",
            **({"quantised": config.quantise} if config.quantise else {}),
            "samples": samples,
            "truncated": truncated,
            "collapsed": collapsed,
            "steps": result.steps,
            "seed": config.seed,
            "dtype": config.dtype,
            "train_loss": result.train_loss,
        },
        data=sources,
        versions=library_versions(),
        evaluation=result.evaluation,
        base=_base(config),
    )


def _base(config: TrainConfig) -> dict[str, Any]:
    """The base that an adapter of this run names; none where it is merged."""
    if config.adapter == "continued":
        below = base_of(config.model, config.base, config.revision)
        assert below is not None, "loading has refused what is no adapter"
        return adapter_base(below, None)
    return adapter_base(config.model, config.revision) if config.adapter == "kept" else {}


def sources_of(rows: ExampleSet[Any], held_out: ExampleSet[Any] | None) -> list[dict[str, Any]]:
    """The sources that a run trains on, and those it is evaluated on."""
    evaluation = held_out.sources if held_out else ()
    return [described(source, "train") for source in rows.sources] + [
        described(source, "evaluation") for source in evaluation
    ]


def described(source: SourceInfo, use: str) -> dict[str, Any]:
    """A source as an entry of ``Manifest.data``; ``hub`` tells a name of the Hub from a path of that form."""
    return {
        "use": use,
        "name": source.name,
        "hub": not at_home(source.name).exists(),
        "split": source.split,
        "rows": source.rows,
        "records": source.records,
        "sha256": source.sha256,
    }


def left_out(result: Mapping[str, Any], samples: int, rejects: str) -> list[str]:
    """What a training shortened or left out, in words, from the counts in its result; nothing that is 0.

    Args:
        samples: how many there are, of which some were shortened.
        rejects: name of the file with the rows that were rejected.

    Example:
        >>> left_out({"truncated": 2, "collapsed": 0, "rejected": 1, "unpaired": 0}, 9, "bad.jsonl")
        ['samples shortened, of 9: 2', 'rows rejected, see bad.jsonl: 1']
    """
    counts = {
        f"samples shortened, of {samples}": result["truncated"],
        "pairs left out, equal when shortened": result["collapsed"],
        f"rows rejected, see {rejects}": result["rejected"],
        "judged answers without a partner, left out": result["unpaired"],
        "evaluation rows that are in the training data too": result.get("leaked", 0),
    }
    return [f"{description}: {count}" for description, count in counts.items() if count]
