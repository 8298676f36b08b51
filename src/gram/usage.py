"""What it took to answer, as counts that add up. Knows numbers; knows no model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What it took to answer.

    Attributes:
        tokens: tokens in all prompts that were read; a beginning that several prompts share counts each time.
        truncated: prompts that were shortened to fit the model.
        judged: prompts that were answered with a label, by a judge.
        mass: sum over these of the probability of the two labels, out of the whole vocabulary.
        bounded: how many of them are bounds, as a server did not tell the probability of one label.

    Example:
        >>> usage = Usage(tokens=7) + Usage(tokens=5, truncated=1)
        >>> usage.tokens, usage.truncated, usage.label_mass
        (12, 1, None)
    """

    tokens: int = 0
    truncated: int = 0
    judged: int = 0
    mass: float = 0.0
    bounded: int = 0

    @property
    def label_mass(self) -> float | None:
        """Mean probability of the two labels together; None where no judge was asked."""
        return self.mass / self.judged if self.judged else None

    def __add__(self, other: Usage) -> Usage:
        sums = (self.tokens + other.tokens, self.truncated + other.truncated, self.judged + other.judged)
        return Usage(*sums, self.mass + other.mass, self.bounded + other.bounded)

    def __sub__(self, other: Usage) -> Usage:
        negative = (-other.tokens, -other.truncated, -other.judged, -other.mass, -other.bounded)
        return self + Usage(*negative)
