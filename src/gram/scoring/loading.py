"""``gram.load``: a folder, a name or a Hub name becomes a model that can be asked."""

from __future__ import annotations

from pathlib import Path

import torch

from gram.engine.choose import EngineName
from gram.engine.runner import Runner
from gram.errors import CheckpointError, ConfigError
from gram.modeling.loading import Loaded, choose_device, load_model
from gram.modeling.manifest import FILE, KINDS, Kind, Manifest, read_manifest
from gram.modeling.shipped import model_folder
from gram.rendering import Context, JudgeTemplate, Renderer, load_template, stored_template
from gram.scoring.calibrated import put_on
from gram.scoring.judge import JudgeModel
from gram.scoring.local import LocalBackend
from gram.scoring.scalar import Baseline, LikelihoodModel, ScalarHeadModel

LONGEST = 8192


def load(
    path: str | Path,
    kind: Kind | None = None,
    template: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    max_length: int | None = None,
    token_budget: int | None = None,
    engine: EngineName = "tree",
    neutralise: bool | None = None,
    both_orders: bool = True,
    context: Context | None = None,
    length_power: float | None = None,
    baseline: Baseline = "none",
    reference: str | Path | None = None,
) -> JudgeModel | LikelihoodModel | ScalarHeadModel:
    """Load a model for scoring.

    A folder with ``gram.json`` says itself what it is. A raw causal language model is a zero-shot judge, or
    a likelihood scorer with ``kind="likelihood"``.

    Args:
        path: model folder, ``gram-small`` (comes with the package), or Hub name.
        kind: ``judge``, ``likelihood`` or ``scalar``; by default what the checkpoint was trained as.
        template: judge template, a built-in name or a JSON file; by default the checkpoint's own.
        device: ``cpu`` or ``cuda``; by default cuda where there is one.
        dtype: of the weights; by default fp32 on a CPU, the checkpoint's own on a GPU.
        max_length: most tokens per prompt; by default what the model can read, at most 8192.
        token_budget: most tokens read in one forward pass; by default chosen from the free memory.
        engine: ``tree`` reads prefixes that prompts share once, ``plain`` reads each prompt by itself.
        neutralise: make control tokens inside prompts and answers harmless; by default as in training, or
            yes where the folder does not say.
        both_orders: judge: ask each pair in both orders.
        context, length_power, baseline, reference: likelihood: see ``LikelihoodModel``; by default as in
            training, the reference of a DPO-style model among it.

    Raises:
        CheckpointError: nothing there, broken, or not of that kind.
        TemplateError: a wrong template, or labels that are not one token in their place.
        ConfigError: an option that makes no sense.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"kind must be one of {', '.join(KINDS)}, got '{kind}'")
    folder = model_folder(path)
    manifest = read_manifest(folder) if folder else None
    chosen: Kind = kind or (manifest.kind if manifest else "judge")
    if chosen != "likelihood" and (context, length_power, baseline, reference) != (None, None, "none", None):
        raise ConfigError(
            f"context, length_power, baseline and reference are for likelihoods, and this is a {chosen}"
        )
    place = choose_device(device)
    precision = dtype or (torch.float32 if place == "cpu" else "auto")
    loaded = load_model(path, "score" if chosen == "scalar" else "lm", device=place, dtype=precision)
    return wrap(
        loaded,
        kind,
        template,
        source=path,
        max_length=max_length,
        token_budget=token_budget,
        engine=engine,
        neutralise=neutralise,
        both_orders=both_orders,
        context=context,
        length_power=length_power,
        baseline=baseline,
        reference=reference,
        dtype=precision,
    )


def wrap(
    loaded: Loaded,
    kind: Kind | None = None,
    template: str | Path | None = None,
    *,
    source: str | Path = "the model",
    max_length: int | None = None,
    token_budget: int | None = None,
    engine: EngineName = "tree",
    neutralise: bool | None = None,
    both_orders: bool = True,
    context: Context | None = None,
    length_power: float | None = None,
    baseline: Baseline = "none",
    reference: str | Path | None = None,
    dtype: str | torch.dtype = torch.float32,
) -> JudgeModel | LikelihoodModel | ScalarHeadModel:
    """A model in memory, made ready to be asked as ``load`` does it; the options are those of ``load``.

    Args:
        source: named in errors.
        dtype: of the weights of a reference model.

    Raises:
        CheckpointError, TemplateError, ConfigError: as ``load``.
    """
    manifest = loaded.manifest
    chosen: Kind = kind or (manifest.kind if manifest else "judge")
    place = loaded.model.device.type
    judge_template = _template(source, template, manifest)
    trained_against = manifest.objective.get("reference") if manifest and chosen == "likelihood" else None
    other = _reference(reference or trained_against, loaded, place, dtype, given=reference is not None)
    readable = min(model.context for model in (loaded, other) if model is not None)
    longest = min(LONGEST if max_length is None else max_length, readable)
    if neutralise is None:
        neutralise = manifest.neutralise if manifest else True
    renderer = Renderer(loaded.tokenizer, judge_template, longest, neutralise=neutralise)
    runner = Runner(loaded.model, token_budget=token_budget, engine=engine)
    model: JudgeModel | LikelihoodModel | ScalarHeadModel
    match chosen:
        case "judge":
            _check_labels(source, renderer, manifest)
            model = JudgeModel(LocalBackend(renderer, runner), judge_template, both_orders=both_orders)
        case "scalar":
            model = ScalarHeadModel(renderer, runner)
        case "likelihood":
            model = LikelihoodModel(
                renderer,
                runner,
                context=context or (manifest.context if manifest else "chat"),
                length_power=length_power
                if length_power is not None
                else (manifest.length_power if manifest else 0.0),
                baseline=baseline,
                reference=Runner(other.model, token_budget=token_budget, engine=engine) if other else None,
                beta=manifest.beta if manifest else 1.0,
            )
    asked = {"context": context, "length_power": length_power, "baseline": baseline, "reference": reference}
    put_on(model, manifest, asked | {"kind": kind})
    return model


def _template(path: str | Path, wanted: str | Path | None, manifest: Manifest | None) -> JudgeTemplate:
    if wanted is not None or manifest is None:
        return load_template(wanted)
    return stored_template(manifest.template, manifest.template_hash, source=f"{path}/{FILE}")


def _check_labels(path: str | Path, renderer: Renderer, manifest: Manifest | None) -> None:
    """The label ids now must be those of training, or every verdict would be read from other words."""
    ids = list(renderer.label_ids)
    same_template = manifest is not None and renderer.template.hash == manifest.template_hash
    if manifest is not None and same_template and manifest.label_ids and ids != manifest.label_ids:
        raise CheckpointError(
            f"{path}: trained with label ids {manifest.label_ids}, its tokenizer gives {ids}"
        )


def _reference(
    reference: str | Path | None, loaded: Loaded, device: str, dtype: str | torch.dtype, *, given: bool
) -> Loaded | None:
    if reference is None:
        return None
    try:
        other = load_model(reference, "lm", device=device, dtype=dtype)
    except CheckpointError as error:
        if given:
            raise
        raise CheckpointError(
            f"{error}; the model was trained against this reference: say with --reference (reference=) "
            "where it is now"
        ) from error
    if other.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
        raise ConfigError(f"reference {reference}: its vocabulary differs from that of the model")
    return other
