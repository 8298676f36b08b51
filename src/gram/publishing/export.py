"""``gram export``: which form a model is written in for other tools.

Knows the forms by name; ``decisions.export`` and ``gguf_file`` write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from gram.asking import Precision
from gram.errors import ConfigError
from gram.modeling.source import ModelSource


@dataclass(frozen=True, kw_only=True)
class ExportOptions(ModelSource):
    """Write a judge for other tools: transformers' decision pipeline, or llama.cpp. Adapters are merged.

    decision: weights, tokenizer, decision.json and decision_template.jinja. The pipeline then gives the
    probabilities of gram.decide with one order of the options. gguf: OUTPUT/model.gguf, of Llama, Qwen 2 and
    Qwen 3 with byte-level tokenizers; gram.json stands in the file.
    """

    what: tyro.conf.Positional[Literal["decision", "gguf"]]
    """decision: for transformers.pipeline("decision", model=OUTPUT), and for what serves /v1/systemone with
    it. gguf: for llama.cpp."""
    model: str
    """A judge, or a language model without gram.json: a folder, or a Hub name."""
    output: Path
    """A new folder."""
    dtype: Precision | None = None
    """gguf: precision of the matrices. Default: bf16 for a model whose weights are, else fp32."""


def export(options: ExportOptions) -> dict[str, Any]:
    """Write the model; returns what the writer of the form does.

    Raises:
        ConfigError: a precision for a decision folder, which keeps the model's own; as the writers.
        CheckpointError, TemplateError: as the writers.
    """
    if options.what == "gguf":
        from gram.publishing.gguf_file import export_gguf

        return export_gguf(options, options.output, options.dtype)
    from gram.decisions.export import export_decision

    if options.dtype is not None:
        raise ConfigError("dtype is for gguf: a decision folder keeps the model's own precision")
    return export_decision(
        options.model,
        options.output,
        revision=options.revision,
        base=options.base,
        trust_remote_code=options.trust_remote_code,
    )
