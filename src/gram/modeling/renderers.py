"""The renderer of a loaded model: the one place that decides its template, its length and its care.

Training and scoring both come here, so that a model is asked in the prompts that it was trained on.
"""

from __future__ import annotations

from pathlib import Path

from gram.asking import LONGEST_PROMPT, Asking
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import FILE, Manifest, completed
from gram.rendering import JudgeTemplate, Renderer, load_template, stored_template


def renderer_for(
    loaded: LoadedModel, asking: Asking, *, source: str | Path, readable: int | None = None
) -> Renderer:
    """The renderer that ``asking`` means for a model.

    Args:
        source: of the model; named in errors.
        readable: most tokens that can be read, where that is less than the model's own limit.

    Raises:
        TemplateError: no such template, or a wrong one.
        CheckpointError: the template in ``gram.json`` was edited.
        ConfigError: the tokenizer is not a fast one, or a length that is not positive.
    """
    longest = LONGEST_PROMPT if asking.max_length is None else asking.max_length
    limit = loaded.context if readable is None else min(readable, loaded.context)
    return Renderer(
        loaded.tokenizer,
        template_for(asking, loaded.manifest, source=source),
        min(longest, limit),
        neutralise=completed(asking, loaded.manifest).neutralise is not False,
    )


def template_for(asking: Asking, manifest: Manifest | None, *, source: str | Path) -> JudgeTemplate:
    """The judge template that is asked for, else that of the checkpoint, else the default one."""
    if asking.template is not None or manifest is None:
        return load_template(asking.template)
    return stored_template(manifest.template, manifest.template_hash, source=f"{source}/{FILE}")
