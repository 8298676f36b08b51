"""What a server is sent for a pair: plain text, or the tokens of our own renderer.

Knows templates and renderers; knows no server. Loads torch only where a tokenizer is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gram.asking import LoadOptions
from gram.errors import ConfigError
from gram.rendering import JudgeTemplate, neutral_anywhere
from gram.types import Pair

if TYPE_CHECKING:
    from gram.modeling.manifest import Manifest
    from gram.rendering import Encoded, Renderer


def shown_text(pair: Pair, template: JudgeTemplate, neutralise: bool) -> str:
    """The judge prompt as text.

    Args:
        neutralise: make the usual control tokens in prompt and answers harmless.

    Example:
        >>> template = JudgeTemplate("short", "{prompt} A: {a} B: {b}", ("A", "B"))
        >>> shown_text(Pair("2 + 2?", "4", "5"), template, True)
        '2 + 2? A: 4 B: 5'
    """
    pieces = template.pieces(pair)
    return "".join(
        neutral_anywhere(piece.text) if neutralise and piece.slot else piece.text for piece in pieces
    )


@dataclass(frozen=True)
class Tokens:
    """Prompts as token ids, and the ids of the labels behind them, as the model here would be asked."""

    renderer: Renderer
    manifest: Manifest | None

    @property
    def label_ids(self) -> tuple[int, int]:
        return self.renderer.label_ids

    def of(self, pairs: Sequence[Pair]) -> list[Encoded]:
        return self.renderer.judge(pairs)


def tokens_with(options: LoadOptions) -> Tokens:
    """The renderer of the model that ``options.tokenizer`` names; its weights need not be there.

    Raises:
        CheckpointError, TemplateError, ConfigError: as ``gram.load``, but for the weights.
    """
    from gram.modeling.loading import load_tokenizer
    from gram.modeling.manifest import completed
    from gram.modeling.on_hub import manifest_of
    from gram.modeling.opening import context_of, open_config
    from gram.modeling.precision import whole_model
    from gram.modeling.renderers import renderer_of
    from gram.modeling.shipped import find_place
    from gram.scoring.loading import check_labels

    name = options.tokenizer
    assert name is not None
    manifest = manifest_of(name)
    asking = completed(options, manifest)
    if asking.kind != "judge":
        raise ConfigError(f"{name}: is a {asking.kind}; a judge's prompts need the folder of a judge")
    if asking.layout == "fan":
        raise ConfigError(f"{name}: reads answers apart (layout fan), as no other server does")
    tokenizer = load_tokenizer(name)
    config = open_config(whole_model(find_place(name)), trust_remote_code=False)
    context = context_of(config, tokenizer)
    readable = context - 1  # a server has room for the label only where the prompt leaves it
    renderer = renderer_of(tokenizer, manifest, options, source=name, readable=readable)
    check_labels(name, renderer, manifest)
    return Tokens(renderer, manifest)
