"""Rows that are not one line of tokens: segments that see several other rows, each where it is told to stand.

A few tokens (a segment) may look at parts of several rows, which were read without knowing of each other.
Rotary embeddings are relative, so a part may stand elsewhere for the segment than where it was read. Two
answers to one prompt, and the tokens behind which their verdict is read::

    sequence    prompt | answer A | joint | answer B | lead | cue       every token sees all before it

    segments    prompt | answer A                                      read once for all pairs
                prompt | answer B                                      read once for all pairs
                prompt | joint | lead                                  read once for all pairs
                cue: sees prompt, A, joint, B and lead, each at its place in the sequence, and itself

Knows token ids and places; knows no prompts, labels or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gram.engine.base import Span, TokenRow

Key: TypeAlias = tuple[tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class Part:
    """The last tokens of a row, as a segment sees them.

    Attributes:
        row: all tokens of that row, from its beginning to the last one that is seen.
        start: the first token that is seen, by its position in the row.
        place: the position where that token stands for the segment.

    Example:
        >>> part = Part((5, 6, 7, 8), start=2, place=9)  # 7 and 8, read at 2 and 3, seen at 9 and 10
        >>> part.size, part.shift
        (2, 7)
    """

    row: tuple[int, ...]
    start: int
    place: int

    @property
    def size(self) -> int:
        return len(self.row) - self.start

    @property
    def shift(self) -> int:
        """How many positions behind the one where it was read it stands."""
        return self.place - self.start

    @property
    def key(self) -> Key:
        """What was read, wherever it stands: parts with equal keys are read once."""
        return self.row, self.start


@dataclass(frozen=True, slots=True)
class Segment(TokenRow):
    """Tokens that see all of their ``parts``, and themselves up to each.

    Attributes:
        parts: what it sees; none is empty.
        start: position of its first token.
    """

    parts: tuple[Part, ...] = ()
    start: int = 0

    @property
    def length(self) -> int:
        """Tokens that it sees, itself included."""
        return len(self.ids) + sum(part.size for part in self.parts)


def forked(row: TokenRow, branches: tuple[Span, Span] | None, looking: int) -> TokenRow:
    """A row of which two parts are read without each other, and without what stands between and behind them.

    Args:
        branches: the two parts, in their order; None: the row is an ordinary one.
        looking: how many of the last tokens see both; those before them see what stands in front of the
            first branch, and what stands between and behind the branches up to themselves.

    Returns:
        A segment of the ``looking`` tokens, for which everything stands where it stands in the row.

    Example:
        >>> found = forked(TokenRow([1, 2, 30, 31, 4, 50, 6, 7]), branches=((2, 4), (5, 6)), looking=1)
        >>> found.ids, found.start
        ([7], 7)
        >>> for part in found.parts:
        ...     print(part.row, part.start, part.place)
        (1, 2) 0 0
        (1, 2, 30, 31) 2 2
        (1, 2, 4) 2 4
        (1, 2, 50) 2 5
        (1, 2, 4, 6) 3 6
    """
    if branches is None:
        return row
    ids = tuple(row.ids)
    (first, between), (second, behind) = branches
    end = len(ids) - looking
    head, joint = ids[:first], ids[:first] + ids[between:second]
    parts = (
        Part(head, 0, 0),
        Part(head + ids[first:between], first, first),
        Part(joint, first, between),
        Part(head + ids[second:behind], first, second),
        Part(joint + ids[behind:end], len(joint), behind),
    )
    return Segment(list(ids[end:]), parts=tuple(part for part in parts if part.size), start=end)
