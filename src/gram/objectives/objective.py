"""The shape every objective shares: examples to samples, samples to one batch, a batch to sums.

A sample is a few token rows that belong together (both orders of a pair, both answers to a prompt), the
spans of them that are scored, and one target. Knows no formula.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from gram.engine.base import Batch, Engine, TokenRow
from gram.engine.plain import Plain
from gram.rendering import Encoded

PLAIN = Plain()
Example = TypeVar("Example")


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows of one example.

    Attributes:
        target: probability that the first answer is better (0.5 where there is no label).
        margin: how much better the better answer is, in the unit of the data set; 0 where that is not given.
        cut: tokens that truncation removed.
        collapsed: truncation has made the two answers equal, so that training leaves the sample out.

    Example:
        >>> Sample((TokenRow([1, 2, 3]), TokenRow([1, 4])), target=1.0).length
        3
    """

    rows: tuple[TokenRow, ...]
    target: float = 0.5
    margin: float = 0.0
    cut: int = 0
    collapsed: bool = False

    @property
    def length(self) -> int:
        """Tokens in the longest row."""
        return max(row.length for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(row.length for row in self.rows)


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the ``Objective.count`` units of a batch, all 0-dim: the loss, and metrics by name."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(ABC, Generic[Example]):
    """Something to train on.

    Args:
        engine: how rows are run through the model; it changes the speed and no number.

    Class attributes:
        name: as in ``--objective``.
        unit: what is counted, ``token`` or ``pair``; the loss is a mean over these.
        head: the kind of model it needs, ``lm`` or ``score``.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    head: ClassVar[str] = "lm"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def engine(self) -> str:
        """Name of the engine that rows are run with."""
        return self._engine.name

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
        """One batch of the engine, the rows of a sample next to each other.

        With m samples of r rows: what the engine lays out for m*r rows; ``target`` and ``margin`` (m,).
        """
        return self._engine.lay_out([row for sample in samples for row in sample.rows]) | {
            "target": torch.tensor([sample.target for sample in samples], dtype=torch.float32),
            "margin": torch.tensor([sample.margin for sample in samples], dtype=torch.float32),
        }

    def micro_batches(self, samples: Sequence[Sample], budget: int) -> Iterator[Batch]:
        """``samples`` in batches of the engine that read at most ``budget`` tokens, or hold a single sample.

        Samples that begin alike come together; those of a batch keep their order.
        """
        for pack in self._engine.cut_groups([sample.rows for sample in samples], budget):
            yield self.collate([samples[place] for place in sorted(pack)])


def cut_tokens(*encoded: Encoded) -> int:
    """Tokens that truncation removed from these prompts."""
    return sum(item.tokens_cut for item in encoded)


def correct_sum(log_odds: Tensor, target: Tensor) -> Tensor:
    """0-dim number of correct verdicts; a tie of the model, or in the label, counts one half.

    Args:
        log_odds: (n,) of ``a`` over ``b``.
        target: (n,) probability that ``a`` is better.

    Example:
        >>> correct_sum(torch.tensor([2.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, 1.0])).item()
        1.5
    """
    verdict, label = log_odds.sign(), (target - 0.5).sign()  # (n,) each: 1 for a, -1 for b, 0 for a tie
    return (0.5 + 0.5 * verdict * label).sum()


def lead_sum(log_odds: Tensor, target: Tensor) -> Tensor:
    """0-dim sum of the leads of the better answers over the worse ones, in nats; a tie in the label counts 0.

    Args:
        log_odds: (n,) of ``a`` over ``b``.
        target: (n,) probability that ``a`` is better.

    Example:
        >>> lead_sum(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])).item()
        3.0
    """
    return (log_odds * (target - 0.5).sign()).sum()


def collapsed(first: Encoded, second: Encoded) -> bool:
    """Whether truncation has made two answers equal: training on their label would teach noise."""
    return bool(first.cut or second.cut) and first.ids == second.ids
