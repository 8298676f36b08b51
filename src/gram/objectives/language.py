"""Stage 1: the autoregressive loss on answers (or on plain text); prompt tokens are not scored.

An unlabeled pair is laid out in the judge template, as it will be judged in stage 2, and both answers are
scored: log p(y_a, y_b given x) (arXiv 2506.14175, pre-training). Single answers stand in the chat format.
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
        encoded_pairs = self._renderer.judge(pairs)
        encoded_answers = self._renderer.answers([e.prompt for e in answers], [e.response for e in answers])
        return [
            *(_sample(item, "a", "b") for item in encoded_pairs),
            *(_sample(item, "a") for item in encoded_answers),
            *(_sample(item, "text") for item in self._renderer.texts(texts)),
        ]

    def count(self, batch: Batch) -> Tensor:
        return batch["scored"].sum()

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        return Sums(self._engine.language_loss(model, batch))


def _sample(item: Encoded, *slots: str) -> Sample:
    spans = tuple(item.scored(slot) for slot in slots)
    return Sample((TokenRow(item.ids, spans),), cut=cut_tokens(item))
