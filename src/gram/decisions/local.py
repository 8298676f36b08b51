"""The decider of a model in memory: its own prompts, or those of the decision template that it brings.

Knows a renderer and a runner, and chooses between the two kinds of prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gram.decisions.decider import Decider, Prompter
from gram.decisions.folder import DecisionFiles
from gram.decisions.foreign import ForeignPrompts
from gram.decisions.prompts import OwnPrompts
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.rendering import Renderer
from gram.rendering.questions import QuestionKind
from gram.types import FloatArray


def local_decider(
    renderer: Renderer,
    runner: Runner,
    files: DecisionFiles | None,
    temperatures: Mapping[QuestionKind, float],
) -> Decider:
    """Answers questions with the model behind ``runner``.

    Args:
        files: what the model brings; None: it is asked with our prompts.
        temperatures: of ``gram.json``, by type of question; those of ``files`` take their place.

    Raises:
        ConfigError, CheckpointError: files that cannot be followed.
    """

    def read(rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> FloatArray:
        return runner.next_logprobs([TokenRow(list(ids)) for ids in rows], tokens)

    prompter: Prompter = OwnPrompts(renderer, temperatures)
    if files is not None:
        prompter = ForeignPrompts(files, renderer.tokenizer, renderer.max_length)
    return Decider(prompter, read)
