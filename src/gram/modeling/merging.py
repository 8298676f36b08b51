"""``gram merge``: an adapter and its base become one ordinary Hugging Face folder that scores the same.

The adapter is folded into the base in fp32 and rounded once, to what is saved. Knows folders; knows no prompt
but the renderer's settings, which ``gram.json`` keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gram.asking import Asking, Precision
from gram.claims import Reads, claimed_folder, refuse_full
from gram.errors import ConfigError, TemplateError
from gram.files import atomic_folder, naming
from gram.modeling.adapter_folder import Adapter, base_of, no_adapter, read_adapter
from gram.modeling.manifest import Manifest, read_manifest
from gram.modeling.on_hub import on_disk
from gram.modeling.shipped import Place, find_place, model_folder
from gram.modeling.source import ModelSource

if TYPE_CHECKING:
    from gram.modeling.loading import LoadedModel

_DECISION_FILES = ("decision.json", "decision_template.jinja")


@dataclass(frozen=True, kw_only=True)
class MergeOptions(ModelSource):
    """Merge an adapter (a PEFT folder, of gram or of others) into its base: one ordinary model folder.

    OUTPUT gets the weights, the tokenizer and gram.json. In fp32 it scores as the adapter on its base does;
    in bf16 every weight is rounded once. A scalar adapter that others trained gets no gram.json: that file
    would say that its scores are read where gram's own are.
    """

    model: str
    """The adapter: a PEFT folder, or a Hub name."""
    output: Path
    """A new folder."""
    dtype: Precision = "fp32"
    """Precision of the weights in OUTPUT. bf16: half the size, and scores that differ by its rounding."""


def merge(options: MergeOptions) -> dict[str, Any]:
    """Write the merged model; returns a JSON-able summary.

    Returns:
        ``output``, ``kind`` (judge, likelihood or scalar), ``base`` (what it was merged into), ``dtype`` and
        ``gram_json``: whether the folder has one.

    Raises:
        ConfigError: the model is no adapter, or ``output`` holds something.
        CheckpointError: as ``load_model``; an adapter of a kind that cannot be merged.
    """
    from gram.modeling.loading import load_model

    folder = model_folder(options.model)
    reads = Reads([folder or options.model, base_of(options.model, options.base, options.revision)])
    with claimed_folder(options.output, reads=reads, whole=True):
        refuse_full(options.output)
        place = on_disk(find_place(options.model, options.revision))
        adapter = _adapter_of(place, options.base)
        manifest = read_manifest(adapter.folder)
        scalar = _is_scalar(adapter, manifest)
        loaded = load_model(
            options.model,
            "score" if scalar else "lm",
            revision=options.revision,
            base=options.base,
            trust_remote_code=options.trust_remote_code,
        )
        manifest = manifest or (None if scalar else _as_it_is_asked(loaded, options.model))
        _save(options, loaded, manifest, adapter)
    kind = manifest.kind if manifest else "scalar"
    about = {"output": str(options.output), "kind": kind, "base": adapter.base.name, "dtype": options.dtype}
    return about | {"gram_json": manifest is not None}


def _adapter_of(place: Place, base: str | None) -> Adapter:
    adapter = read_adapter(place, base)
    if adapter is None:
        raise ConfigError(f"model {place.name}: {no_adapter(place)}; there is no adapter to merge")
    return adapter


def _is_scalar(adapter: Adapter, manifest: Manifest | None) -> bool:
    from gram.modeling.adapters import brings_score_head

    return manifest.kind == "scalar" if manifest else brings_score_head(adapter)


def _as_it_is_asked(loaded: LoadedModel, source: str) -> Manifest:
    """What ``gram.json`` says of a language model of others: that it is asked as it would be without one."""
    from gram.modeling.renderers import renderer_for

    renderer = renderer_for(loaded, Asking(), source=source)
    try:
        label_ids = list(renderer.label_ids)
    except TemplateError:  # no judge in our words; its likelihoods are asked without labels
        label_ids = []
    return Manifest("judge", **renderer.settings, label_ids=label_ids)


def _save(options: MergeOptions, loaded: LoadedModel, manifest: Manifest | None, adapter: Adapter) -> None:
    from gram.modeling.pooling import save_whole
    from gram.modeling.precision import TORCH
    from gram.modeling.saving import library_versions, save_checkpoint

    model: Any = loaded.model
    model.to(TORCH[options.dtype])
    beside = {
        name: (adapter.folder / name).read_text(encoding="utf-8")
        for name in _DECISION_FILES
        if (adapter.folder / name).is_file()
    }
    if manifest is not None:
        merged = {"adapter": options.model, "base": adapter.base.name}
        about = {**manifest.training, "merged": merged}
        versions = manifest.versions or library_versions()
        manifest = replace(manifest, training=about, versions=versions)
        save_checkpoint(options.output, model, loaded.tokenizer, manifest, beside)
        return
    # of others, so that it is read where they read it: the padding that loading took away comes back
    model.config.pad_token_id = model.config.get_text_config().pad_token_id = loaded.unread
    with atomic_folder(options.output, last="config.json") as draft, naming(options.output):
        save_whole(model, draft)
        loaded.tokenizer.save_pretrained(draft)
