"""The shape every objective shares: examples to samples, samples to one padded batch, a batch to sums.

A sample is a few token rows that belong together (both orders of a pair, both answers to a prompt), the
spans of them that are scored, and one target. Knows no formula.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from gram.rendering import Encoded
from gram.tree.padded import left_pad

Batch: TypeAlias = dict[str, Tensor]
Span: TypeAlias = tuple[int, int]
Example = TypeVar("Example")


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence; ``spans`` are the half-open token ranges whose log-probability counts."""

    ids: list[int]
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows of one example.

    Attributes:
        target: probability that the first answer is better (0.5 where there is no label).
        margin: how much better, in the data's unit.
        cut: tokens that truncation removed.
        collapsed: truncation has made the two answers equal; not fit to train on.
    """

    rows: tuple[Row, ...]
    target: float = 0.5
    margin: float = 0.0
    cut: int = 0
    collapsed: bool = False

    @property
    def length(self) -> int:
        """Tokens in the longest row."""
        return max(len(row.ids) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Sums:
    """What a batch adds up to: the loss, and metrics by name, each over ``Objective.count`` units."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(ABC, Generic[Example]):
    """Something to train on.

    Class attributes:
        name: as in ``--objective``.
        unit: what is counted, ``token`` or ``pair``; the loss is a mean over these.
        head: the kind of model it needs, ``lm`` or ``score``.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    head: ClassVar[str] = "lm"

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[Sample]:
        """Samples of ``examples``; one example may make several (windows of a long text)."""

    @abstractmethod
    def count(self, batch: Batch) -> Tensor:
        """Number of units in the batch, as a 0-dim tensor."""

    @abstractmethod
    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        """Sum of the loss, and of the metrics, over the units of the batch."""

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """One left-padded batch, the rows of a sample next to each other.

        With m samples of r rows: ``input_ids``, ``attention_mask``, ``position_ids`` and ``scored``
        (m*r, T); ``target`` and ``margin`` (m,).
        """
        rows = [row for sample in samples for row in sample.rows]
        batch = left_pad([row.ids for row in rows])
        width = batch["input_ids"].shape[1]
        scored = torch.zeros(len(rows), width, dtype=torch.bool)
        for place, row in enumerate(rows):
            shift = width - len(row.ids)
            for start, stop in row.spans:
                scored[place, shift + start : shift + stop] = True
        batch["scored"] = scored
        batch["target"] = torch.tensor([sample.target for sample in samples], dtype=torch.float32)
        batch["margin"] = torch.tensor([sample.margin for sample in samples], dtype=torch.float32)
        return batch


def scored_span(encoded: Encoded, slot: str) -> Span:
    """The tokens of an answer and of its end; a first token has nothing before it to be predicted from."""
    start, stop = encoded.scored(slot)
    return max(start, 1), stop


def scored_columns(scored: Tensor) -> int:
    """How many last columns of a left-padded batch predict a scored token; 0 when none is scored."""
    columns = scored.any(dim=0).nonzero()
    return 0 if len(columns) == 0 else int(scored.shape[1] - columns[0].item() + 1)


def cut_tokens(*encoded: Encoded) -> int:
    """Tokens that truncation removed from these prompts."""
    return sum(sum(item.cut.values()) for item in encoded)


def correct_sum(log_odds: Tensor, target: Tensor) -> Tensor:
    """Sum of correct verdicts: half for a tie of the model, and half for a tie in the label."""
    said, label = log_odds.sign(), (target - 0.5).sign()
    return (0.5 + 0.5 * said * label).sum()


def collapsed(first: Encoded, second: Encoded) -> bool:
    """Whether truncation has made two different answers equal: such a pair would teach noise."""
    return bool(first.cut or second.cut) and first.ids == second.ids
