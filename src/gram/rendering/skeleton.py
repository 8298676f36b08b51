"""The text that a chat template writes around the contents of turns: rendered with sentinels, cut at them.

Knows texts and pieces; knows no template and no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gram.rendering.pieces import Piece

# Plain letters, which no template rewrites, between form feeds, which a template removes where it trims, and
# which become two characters where it writes a content as JSON.
_SENTINEL = "\fgramsentinel{}x\f"
_SENTINELS = re.compile(r"(\f|\\f)?gramsentinel(\d+)x(\f|\\f)?")

Turn = tuple[str, Sequence[Piece]]
"""A turn's role, and its content in pieces."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a turn's content in a chat format, and the sides where the format trims it."""

    turn: int
    trims_left: bool
    trims_right: bool


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The text around the contents of turns, as a model reads it, and the end that the template wrote."""

    parts: list[str | Place]
    end: str

    def filled(self, turns: Sequence[Turn]) -> list[Piece]:
        """The pieces of a conversation with these contents."""
        pieces: list[Piece] = []
        for part in self.parts:
            pieces.extend([Piece(part)] if isinstance(part, str) else _trimmed(turns[part.turn][1], part))
        return pieces


def sentinels(roles: Sequence[str]) -> list[tuple[str, str]]:
    """Turns whose contents are found again in what a template makes of them."""
    return [(role, _SENTINEL.format(place)) for place, role in enumerate(roles)]


def skeleton_of(text: str, count: int, ended: Callable[[str], str]) -> Skeleton | None:
    """``text`` cut at its sentinels; None where it does not have ``count`` of them, once each and in order.

    Args:
        ended: what a model reads of the text behind the last.

    Example:
        >>> [(_, first), (_, last)] = sentinels(["user", "bot"])
        >>> skeleton = skeleton_of(f"<user>{first.strip()}<bot>{last}<end>", 2, str)
        >>> turns = [("user", [Piece(" Why? ")]), ("bot", [Piece("So. ")])]
        >>> "".join(piece.text for piece in skeleton.filled(turns))
        '<user>Why?<bot>So. <end>'
    """
    parts: list[str | Place] = []
    places, end = [], 0
    for match in _SENTINELS.finditer(text):
        places.append(int(match[2]))
        parts += [text[end : match.start()], Place(places[-1], not match[1], not match[3])]
        end = match.end()
    return Skeleton([*parts, ended(text[end:])], text[end:]) if places == list(range(count)) else None


def _trimmed(content: Sequence[Piece], place: Place) -> list[Piece]:
    """``content`` without the white space at its two ends that the chat format removes."""
    texts = [piece.text for piece in content]
    if place.trims_left:
        _strip_first(texts, range(len(texts)), str.lstrip)
    if place.trims_right:
        _strip_first(texts, reversed(range(len(texts))), str.rstrip)
    return [Piece(text, piece.slot) for text, piece in zip(texts, content, strict=True)]


def _strip_first(texts: list[str], order: Iterable[int], strip: Callable[[str], str]) -> None:
    for place in order:
        texts[place] = strip(texts[place])
        if texts[place]:
            return
