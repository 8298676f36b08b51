"""From a model's number to a trainer's reward: length control, scaling and clipping.

Knows numbers, lengths and which answers share a prompt; knows no model. Lengths are in characters, which
every caller has, whatever its tokenizer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from gram.bounds import Within, check_bounds
from gram.errors import ConfigError
from gram.types import FloatArray


@dataclass(frozen=True, slots=True)
class Shaping:
    """What happens to a reward, in this order.

    Attributes:
        length_residual: subtract what length explains: the slope of reward on length among answers to the
            same prompt, estimated on all answers of one call, times the answer's distance from the mean
            length of its prompt's answers. Needs several answers per prompt, and enough of them for a slope.
        scale: then multiply by this.
        clip: then limit to [low, high].
        length_penalty: then subtract this per character.

    Example:
        >>> shaping = Shaping(scale=0.5, clip=(-1.0, 1.0))
        >>> shaping.apply(np.array([4.0, -1.0]), ["yes", "no"], groups=["Why?", "Why?"]).tolist()
        [1.0, -0.5]
    """

    length_residual: bool = False
    scale: Annotated[float, Within(0, open="low")] = 1.0
    clip: tuple[float, float] | None = None
    length_penalty: Annotated[float, Within()] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        two = isinstance(self.clip, tuple | list) and len(self.clip) == 2
        if self.clip is not None and not (two and self.clip[0] < self.clip[1]):
            raise ConfigError(f"clip must be (low, high) with low < high, got {self.clip}")

    def apply(self, rewards: FloatArray, responses: Sequence[str], groups: Sequence[Hashable]) -> FloatArray:
        """(n,) shaped rewards; NaN, a missing reward, stays NaN and does not influence the others.

        Args:
            rewards: (n,) as the model gave them.
            responses: n answers.
            groups: n prompts, or other values that are equal for answers to the same prompt.
        """
        lengths = np.array([len(response) for response in responses], dtype=np.float64)  # (n,) characters
        if self.length_residual:
            rewards = residual(rewards, lengths, groups)
        rewards = rewards * self.scale
        if self.clip is not None:
            rewards = np.clip(rewards, *self.clip)
        return rewards - self.length_penalty * lengths


def residual(rewards: FloatArray, lengths: FloatArray, groups: Sequence[Hashable]) -> FloatArray:
    """(n,) ``rewards`` without what ``lengths`` explain within groups; group means stay as they are.

    Example:
        >>> rewards, lengths = np.array([2.0, 6.0]), np.array([1.0, 3.0])  # reward is twice the length
        >>> residual(rewards, lengths, groups=["Why?", "Why?"]).tolist()
        [4.0, 4.0]
    """
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(name, len(numbers)) for name in groups], dtype=np.int64)
    present = ~np.isnan(rewards)  # (n,)

    def within(values: FloatArray) -> FloatArray:
        """(n,) distances from the means of the groups."""
        count = np.bincount(group[present], minlength=len(numbers))
        total = np.bincount(group[present], weights=values[present], minlength=len(numbers))
        means = np.divide(total, count, out=np.zeros(len(numbers)), where=count > 0)
        return values - means[group]

    longer = within(lengths)
    spread = float(np.sum(longer[present] ** 2))
    slope = float(np.sum(longer[present] * within(rewards)[present])) / spread if spread else 0.0
    return rewards - slope * longer
