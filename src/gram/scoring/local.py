"""A judge's backend on a model in memory: renders the prompts, and reads the labels off the model."""

from __future__ import annotations

from collections.abc import Sequence

from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.engine.segments import forked
from gram.rendering import JudgeTemplate, Renderer, usage_of
from gram.scoring.judge import LabelLogprobs
from gram.scoring.tokens import read_tokens
from gram.tokens import TokenLogprobs
from gram.types import Pair, PromptLike, Usage


class LocalBackend:
    """A ``JudgeBackend`` that renders judge prompts and runs them through a local model."""

    def __init__(self, renderer: Renderer, runner: Runner) -> None:
        self._renderer = renderer
        self._runner = runner

    def label_logprobs(self, pairs: Sequence[Pair], template: JudgeTemplate) -> LabelLogprobs:
        assert template.hash == self._renderer.template.hash
        prompts = self._renderer.judge(pairs)
        rows = [forked(TokenRow(item.ids), item.branches, item.looking) for item in prompts]
        return LabelLogprobs(
            self._runner.next_logprobs(rows, self._renderer.label_ids),  # (n, 2)
            usage_of(prompts),
        )

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int]:
        return [prompt.tokens_cut for prompt in self._renderer.judge(pairs)]

    def token_logprobs(self, prompt: PromptLike, response: str) -> tuple[TokenLogprobs, Usage]:
        """The tokens of one answer as the assistant's turn after the prompt, and the usage for them."""
        return read_tokens(self._renderer, self._runner, prompt, response)
