"""The renderer of a loaded model: its template, its longest prompt, and what happens to control tokens.

Training and scoring both get their renderer here, so that a model is asked with the prompts of its training.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gram.asking import LONGEST_PROMPT, Asking
from gram.errors import CheckpointError
from gram.modeling.checks import embedded_tokens
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import FILE, Manifest, completed
from gram.rendering import (
    DATE,
    ChatSettings,
    FanRenderer,
    JudgeTemplate,
    Renderer,
    load_template,
    stored_template,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def renderer_for(
    loaded: LoadedModel, asking: Asking, *, source: str | Path, readable: int | None = None
) -> Renderer:
    """The renderer for a model that is asked as ``asking`` says.

    Args:
        source: the model's folder or name, for errors.
        readable: most tokens of a prompt, where that is less than the model's own limit.

    Raises:
        TemplateError: no such template, or a wrong one.
        CheckpointError: the template in ``gram.json`` was edited.
        ConfigError: the tokenizer is not a fast one, or a length that is not positive.
    """
    limit = loaded.context if readable is None else min(readable, loaded.context)
    rows = embedded_tokens(loaded.model)
    embedded = rows if len(loaded.tokenizer) > rows else None
    tokenizer, manifest = loaded.tokenizer, loaded.manifest
    return renderer_of(tokenizer, manifest, asking, source=source, readable=limit, embedded=embedded)


def renderer_of(
    tokenizer: PreTrainedTokenizerBase,
    manifest: Manifest | None,
    asking: Asking,
    *,
    source: str | Path,
    readable: int,
    embedded: int | None = None,
) -> Renderer:
    """The renderer of a model whose weights need not be there.

    Args:
        readable: most tokens that the model reads.
        embedded: how many tokens the model embeds, where the tokenizer has more.

    Raises:
        TemplateError, CheckpointError, ConfigError: as ``renderer_for``.
    """
    max_length = LONGEST_PROMPT if asking.max_length is None else asking.max_length
    of_layout: dict[str, Any] = {}
    kind: type[Renderer] = Renderer
    if completed(asking, manifest).layout == "fan":
        kind = FanRenderer
        of_layout = {"looking": manifest.looking} if manifest and manifest.looking else {}
    return kind(
        tokenizer,
        template_for(asking, manifest, source=source),
        min(max_length, readable),
        neutralise=completed(asking, manifest).neutralise is not False,
        whole=manifest is None and completed(asking, None).kind == "scalar",  # another's model
        chat=None if manifest is None else chat_settings(manifest, source=source),
        embedded=embedded,
        **of_layout,
    )


def chat_settings(manifest: Manifest, *, source: str | Path) -> ChatSettings:
    """The settings of the chat format that ``manifest`` keeps; those of earlier models where it has none.

    Raises:
        CheckpointError: naming the field that has a wrong value.
    """
    kept = {"thoughts": "text", "switch": "always", "html": "control", **manifest.chat}
    choices = {"thoughts": ("template", "text"), "switch": ("cue", "always"), "html": ("text", "control")}
    for name, words in choices.items():
        if kept[name] not in words:
            raise CheckpointError(
                f"{source}/{FILE}: field 'chat.{name}' is {kept[name]!r}, must be {' or '.join(words)}"
            )
    try:
        day = datetime.date.fromisoformat(kept.get("date", DATE)).isoformat()
    except (TypeError, ValueError):
        raise CheckpointError(
            f"{source}/{FILE}: field 'chat.date' is {kept['date']!r}, must be a day such as {DATE}"
        ) from None
    return {"date": day, "thoughts": kept["thoughts"], "switch": kept["switch"], "html": kept["html"]}


def template_for(asking: Asking, manifest: Manifest | None, *, source: str | Path) -> JudgeTemplate:
    """The judge template that ``asking`` names; without one the checkpoint's, else the built-in one."""
    if asking.template is not None or manifest is None:
        return load_template(asking.template)
    return stored_template(manifest.template, manifest.template_hash, source=f"{source}/{FILE}")
