"""What the work would cost at least: tokens after perfect sharing, and the arithmetic they need.

Pure counting; knows no timing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

Ids = Sequence[int]

# A product of the forward pass has two more in the backward pass, for its input and for its weight; a frozen
# weight needs the first only. Attention is two products forward and five backward, as its scores are not kept
# but computed again (FlashAttention's count, arXiv 2307.08691).
_TRAINED = 3
_FROZEN = 2
_ATTENTION = 3.5


@dataclass(frozen=True, slots=True)
class Cost:
    """What a path reads.

    Attributes:
        tokens: tokens that go through the body, padding included.
        places: tokens whose hidden state meets the whole vocabulary.
    """

    tokens: int
    places: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.places + other.places)


@dataclass(frozen=True, slots=True)
class Work:
    """A model as arithmetic.

    Attributes:
        body: weights in the products of all layers.
        head: weights of the output layer over the vocabulary.
        pair: floating-point operations for one query and one key, over all heads and layers.
    """

    body: int
    head: int
    pair: int

    @classmethod
    def of(cls, model: Any) -> Work:
        config = model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            body=sum(layer.weight.numel() for layer in body_products(model)),
            head=config.vocab_size * config.hidden_size,
            pair=4 * config.num_hidden_layers * config.num_attention_heads * head_dim,
        )

    def flops(self, rows: Sequence[Ids]) -> int:
        """Useful operations of one forward pass through the body: every shared prefix once, causal."""
        tokens, seen = unique(rows)
        return 2 * self.body * tokens + self.pair * seen

    def step_flops(self, rows: Sequence[Ids], *, scored: int = 0, adapters: int | None = None) -> float:
        """Useful operations of one forward and backward pass over the rows, every shared prefix once.

        Args:
            scored: tokens whose hidden state meets the whole vocabulary.
            adapters: weights of low-rank adapters, which are trained while all else is frozen; None: all
                weights are trained.
        """
        tokens, seen = unique(rows)
        attention = _ATTENTION * self.pair * seen
        products = 2 * (self.body * tokens + self.head * scored)
        if adapters is None:
            return _TRAINED * products + attention
        return _FROZEN * products + _TRAINED * 2 * adapters * tokens + attention

    def ratio(self, peer: Cost, ours: Cost) -> float:
        """The peer's products over ours: what a perfect machine would gain. Attention is left out."""
        return self._products(peer) / self._products(ours)

    def _products(self, cost: Cost) -> int:
        return cost.tokens * self.body + cost.places * self.head


def body_products(model: Any) -> list[nn.Linear]:
    """The linear layers of the body, in order."""
    return [module for module in model.base_model.modules() if isinstance(module, nn.Linear)]


def unique(rows: Sequence[Ids]) -> tuple[int, int]:
    """Tokens of the perfect trie, and the keys they see, themselves included.

    A token counts once per different sequence of tokens up to it; at depth d (from 0) it sees d + 1 keys.
    """
    tokens = seen = 0
    before = np.empty(0, dtype=np.int64)
    for row in sorted(map(tuple, rows)):
        ids = np.asarray(row)
        length = min(len(before), len(ids))
        differs = np.flatnonzero(before[:length] != ids[:length])
        shared = int(differs[0]) if len(differs) else length
        tokens += len(ids) - shared
        seen += (len(ids) * (len(ids) + 1) - shared * (shared + 1)) // 2
        before = ids
    return tokens, seen


def padded_tokens(lengths: Sequence[int], batches: Iterable[Sequence[int]]) -> int:
    """Tokens in padded batches of rows with these lengths."""
    return sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
