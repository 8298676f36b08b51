"""How fast a model reads: tokens of a character, tokens of a text at most, tokens in a second.

Learned from the batches that were read, and used for those that come. Knows tickets, outcomes and seconds;
knows no queue and no worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gram.serving.fair import Ticket
from gram.serving.units import Outcome, answer_length, prompt_length

_GUESS = 0.4  # tokens per character, before a batch has been read
_NEW = 0.2  # weight of the last batch, if it was large enough to tell
_TELLING = 1 / 16  # of the most tokens: a batch of fewer takes about as long, and tells less


class Pace:
    """What is known of a model's reading."""

    def __init__(self) -> None:
        self._per_character = _Mean()
        self._longest = _Mean()
        self._speed = _Mean()

    @property
    def per_character(self) -> float:
        """Tokens of a character of a text that is read whole."""
        return self._per_character.value or _GUESS

    @property
    def longest(self) -> float:
        """Characters, about, that the model reads at one look; infinite until a text was cut."""
        return self._longest.value / self.per_character if self._longest.value else math.inf

    def seconds_for(self, characters: float) -> float:
        """That one worker takes to read them; 0 before the first batch has been read."""
        return characters * self.per_character / self._speed.value if self._speed.value else 0.0

    def learn(self, batch: Sequence[Ticket], outcomes: Sequence[Outcome], seconds: float, most: int) -> float:
        """Learn from a batch; returns the tokens that were read of it, each prompt once.

        Tokens of a character are learned from texts that were read whole, and speed from what was read, not
        from what was sent. A failed batch was read in parts, and more than once: it says nothing.

        Args:
            most: tokens of a full batch.
        """
        prompts = {ticket.unit.prompt: prompt_length(ticket.unit) for ticket in batch}
        once = sum(prompts.values()) + sum(ticket.own for ticket in batch)
        each = sum(t.orders * (prompt_length(t.unit) + answer_length(t.unit)) for t in batch)
        tokens = sum(outcome.tokens for outcome in outcomes)
        read = tokens * min(1.0, once / max(1, each))
        if tokens and each and all(outcome.values is not None for outcome in outcomes):
            telling = most * _TELLING
            share = min(1.0, read / telling)
            cut = [(ticket, out) for ticket, out in zip(batch, outcomes, strict=True) if out.cut]
            if cut:
                looks = sum(ticket.orders for ticket, _ in cut)
                self._longest.take(sum(out.tokens for _, out in cut) / looks, 1.0)
            else:
                self._per_character.take(tokens / each, share)
            self._speed.take(max(read, telling) / max(seconds, 1e-6), share)
        return read


class _Mean:
    """A mean in which what came last counts most.

    Example:
        >>> mean = _Mean()
        >>> for value in (1.0, 1.0, 2.0):
        ...     mean.take(value, 1.0)
        >>> round(mean.value, 2)
        1.41
    """

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    @property
    def value(self) -> float:
        """0 before the first."""
        return self._sum / self._weight if self._weight else 0.0

    def take(self, value: float, share: float) -> None:
        """Another value, with a share of the weight of a whole one."""
        new = _NEW * share
        self._sum += new * (value - self._sum)
        self._weight += new * (1.0 - self._weight)
