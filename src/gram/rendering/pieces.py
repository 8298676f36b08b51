"""A prompt cut into pieces, and its tokens.

A piece is literal text (of a template or a chat format) or a slot (the user's text). Only slots are ever
shortened, so a cue or a marker cannot be cut off. Knows no tokenizer and no template.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gram.types import Usage


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a prompt; ``slot`` names it so that its tokens can be found again, None: literal text.

    Example:
        >>> char_spans([Piece("Question: "), Piece("2 + 2?", slot="prompt")])
        {'prompt': (10, 16)}
    """

    text: str
    slot: str | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as token ids.

    Attributes:
        ids: the tokens of the whole prompt, encoded as one string.
        spans: per slot, the half-open range of tokens that hold any of its characters.
        cut: per slot, how many of its tokens truncation removed; slots that kept everything are absent.
        branches: in the fan layout, the two ranges of tokens that are read without each other; else None.
        looking: how many of the last tokens see both of them.

    Example:
        >>> prompt = Encoded([5, 8, 9, 2], spans={"a": (1, 3)}, cut={"a": 7})
        >>> prompt.tokens_cut, prompt.scored("a")
        (7, (1, 4))
    """

    ids: list[int]
    spans: Mapping[str, tuple[int, int]]
    cut: Mapping[str, int] = field(default_factory=dict)
    branches: tuple[tuple[int, int], tuple[int, int]] | None = None
    looking: int = 0

    @property
    def tokens_cut(self) -> int:
        """Tokens that truncation removed from all slots together."""
        return sum(self.cut.values())

    def scored(self, slot: str) -> tuple[int, int]:
        """The token range of an answer and of the one token that ends it, where there is one.

        If the end token were left out, a likelihood would prefer answers that break off.
        """
        start, stop = self.spans[slot]
        return start, min(stop + 1, len(self.ids))


def char_spans(pieces: Sequence[Piece]) -> dict[str, tuple[int, int]]:
    """Per slot, its half-open character range in the joined text."""
    spans, place = {}, 0
    for piece in pieces:
        if piece.slot is not None:
            spans[piece.slot] = (place, place + len(piece.text))
        place += len(piece.text)
    return spans


def located(
    pieces: Sequence[Piece],
    begin: list[int],
    ids: list[int],
    offsets: Sequence[tuple[int, int]],
    cut: dict[str, int],
) -> Encoded:
    """Character spans of the slots to token spans: the tokens that hold any of a slot's characters.

    An empty slot gets the empty span in front of the token that follows it. A space by itself may have an
    empty range behind it (``ByteLevel(trim_offsets=True)``): at the end of a slot it is one of its tokens.
    """
    starts = np.fromiter((start for start, _ in offsets), dtype=np.int64, count=len(offsets))
    stops = np.fromiter((stop for _, stop in offsets), dtype=np.int64, count=len(offsets))
    spans = {}
    for slot, (first, last) in char_spans(pieces).items():
        start = int(np.searchsorted(stops, first, side="right"))
        begun, ended = np.searchsorted(starts, last, side="left"), np.searchsorted(stops, last, side="right")
        stop = int(max(begun, ended)) if last > first else start
        spans[slot] = (len(begin) + start, len(begin) + max(start, stop))
    return Encoded(begin + ids, spans, cut)


def usage_of(prompts: Iterable[Encoded]) -> Usage:
    """How many tokens these prompts have together, and how many of the prompts were cut.

    Example:
        >>> usage = usage_of([Encoded([5, 8], spans={}), Encoded([9], spans={}, cut={"a": 7})])
        >>> usage.tokens, usage.truncated
        (3, 1)
    """
    total = Usage()
    for prompt in prompts:
        total += Usage(len(prompt.ids), int(bool(prompt.cut)))
    return total
