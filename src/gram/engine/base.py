"""The interface of an engine: token rows in, logits, log-probabilities, losses or scores out.

Two engines implement it, with the same numbers: ``plain.Plain`` reads every row by itself,
``tree.Tree`` reads shared prefixes once. Knows no template, label or loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Batch: TypeAlias = dict[str, Any]
"""Tensors by name, and what an engine adds for its own use; every value has ``.to(device)``."""

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One sequence of tokens.

    Attributes:
        ids: the token ids.
        spans: half-open ranges of the tokens whose log-probability counts.

    Example:
        >>> TokenRow([11, 12, 13, 14], spans=((2, 4),)).scored.tolist()
        [2, 3]
    """

    ids: Sequence[int]
    spans: tuple[Span, ...] = ()

    @property
    def length(self) -> int:
        """How many tokens there are."""
        return len(self.ids)

    @property
    def scored(self) -> NDArray[np.int64]:
        """(k,) positions of the tokens that count; never 0, as nothing predicts a first token."""
        parts = [np.arange(max(start, 1), stop) for start, stop in self.spans]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


class Engine(ABC):
    """A way to run rows through a decoder.

    In a batch of n rows, ``scored`` is an (n, T) mask of the tokens that count, in the columns of
    ``token_logprobs``. Results keep the order of the rows.
    """

    name: ClassVar[str]

    @abstractmethod
    def cut(self, rows: Sequence[TokenRow], budget: int) -> Iterator[list[int]]:
        """Indices of ``rows`` in batches that read at most ``budget`` tokens (or hold a single row)."""

    @abstractmethod
    def cut_groups(self, groups: Sequence[Sequence[TokenRow]], budget: int) -> Iterator[list[int]]:
        """Indices of ``groups`` of rows in batches as of ``cut``; the rows of a group stay together."""

    @abstractmethod
    def lay_out(self, rows: Sequence[TokenRow]) -> Batch:
        """One batch of n rows."""

    @abstractmethod
    def next_logits(self, model: nn.Module, batch: Batch, tokens: Sequence[int]) -> Tensor:
        """(n, t) fp32 logits of each of t ``tokens`` as the next token after each row."""

    @abstractmethod
    def next_logprobs(self, model: nn.Module, batch: Batch, tokens: Sequence[int]) -> Tensor:
        """(n, t) fp32 log-probabilities of each of t ``tokens`` as the next token after each row.

        They are normalised over the whole vocabulary.
        """

    @abstractmethod
    def token_logprobs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """(n, T) fp32 log-probability of each scored token, 0 elsewhere, and the (n, T) mask."""

    @abstractmethod
    def language_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """0-dim fp32: minus the sum of all scored tokens' log-probabilities."""

    @abstractmethod
    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """(n,) fp32 scores of a sequence classifier with one output, at the last token of each row."""

    @abstractmethod
    def scores_and_logprobs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """``scores``, and ``token_logprobs`` by the classifier's language head, from one pass of its body."""
