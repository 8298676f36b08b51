"""Stage 1: the autoregressive loss on answers (or on plain text); prompt tokens are not scored.

An unlabeled pair is laid out in the judge template, as it will be judged in stage 2, and both answers are
scored: log p(y_a, y_b given x) (arXiv 2506.14175, pre-training); in the fan layout neither answer sees the
other: log p(y_a given x) + log p(y_b given x). Single answers stand in the chat format.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gram.engine.base import Engine
from gram.objectives.objective import (
    PLAIN,
    Batch,
    Objective,
    Sample,
    Sums,
    TokenRow,
    cut_tokens,
)
from gram.rendering import Encoded, Renderer
from gram.types import Answer, Pair, ResponsePair, Text

Unlabeled = ResponsePair | Answer | Text


class Language(Objective[Unlabeled]):
    """Mean negative log-likelihood per scored token."""

    name = "language"
    unit = "token"

    def __init__(self, renderer: Renderer, *, engine: Engine = PLAIN) -> None:
        super().__init__(engine)
        self._renderer = renderer

    def encode(self, examples: Sequence[Unlabeled]) -> list[Sample]:
        pairs = [Pair(e.prompt, e.first, e.second) for e in examples if isinstance(e, ResponsePair)]
        answers = [e for e in examples if isinstance(e, Answer)]
        texts = [e.text for e in examples if isinstance(e, Text)]
        encoded_answers = self._renderer.answers([e.prompt for e in answers], [e.response for e in answers])
        return [
            *self._of_pairs(pairs),
            *(_sample(item, "a") for item in encoded_answers),
            *(_sample(item, "text") for item in self._renderer.texts(texts)),
        ]

    def _of_pairs(self, pairs: Sequence[Pair]) -> list[Sample]:
        """Both answers of a pair in one row; in the fan layout each in its own, as it will be read."""
        if self._renderer.layout == "sequence":
            return [_sample(item, "a", "b") for item in self._renderer.judge(pairs)]
        prompts = [pair.prompt for pair in pairs]
        sides = ([pair.a for pair in pairs], [pair.b for pair in pairs])
        both = [self._renderer.answers(prompts, side, context="judge") for side in sides]
        return [
            Sample(tuple(_row(item, "a") for item in items), cut=cut_tokens(*items))
            for items in zip(*both, strict=True)
        ]

    def count(self, batch: Batch) -> Tensor:
        return batch["scored"].sum()

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        return Sums(self._engine.language_loss(model, batch))


def _sample(item: Encoded, *slots: str) -> Sample:
    return Sample((_row(item, *slots),), cut=cut_tokens(item))


def _row(item: Encoded, *slots: str) -> TokenRow:
    return TokenRow(item.ids, tuple(item.scored(slot) for slot in slots))
