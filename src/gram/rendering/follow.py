"""Finds the texts of a conversation in what the chat template made of them.

Most templates write every text as it is, or trimmed. Some do more: they take the thoughts out of earlier
answers, or write an answer's own thoughts in the place of empty ones. Then the text of the template counts,
and the pieces that were expected are found in it. Knows pieces and texts; knows no tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from gram.rendering.pieces import Piece

_SHORTEST_MARK = 4  # characters: less of a marker could be anywhere


def followed(real: str, expected: Sequence[Piece], cue: str | None = None) -> list[Piece] | None:
    r"""``real`` cut into pieces with the slots of ``expected``; None where these cannot be found in it.

    Literal text marks where one slot ends and the next begins: as much of it as ``real`` has.

    Args:
        real: the whole text.
        expected: pieces that it would consist of, had the template changed no text.
        cue: the text up to which the last slot cannot begin, where ``real`` begins with it: behind the cue
            for the assistant to speak, all that the template does not write by itself is the answer.

    Example:
        >>> pieces = [Piece("<user>"), Piece("Why? ", "x"), Piece("<bot><think></think>")]
        >>> pieces.append(Piece("<think>So.</think>Yes.", "a"))
        >>> [piece.text for piece in followed("<user>Why?<bot><think>So.</think>Yes.", pieces)]
        ['<user>', 'Why?', '<bot><think>', 'So.</think>Yes.']
        >>> followed("<user>Why?<bot><think>So.</think>Yes.", pieces, cue="<user>Why?<bot>")[-1].text
        '<think>So.</think>Yes.'
        >>> followed("<user>Why?<bot><think></think>Yes.", pieces, cue="<user>Why?<bot>")[-1].text
        'Yes.'
    """
    pieces = _merged(expected)
    found: list[Piece] = []
    place = 0
    for number, piece in enumerate(pieces):
        if piece.slot is None:
            length = shared(real, place, piece.text)
            if length < min(len(piece.text), _SHORTEST_MARK):
                return None
            found.append(Piece(piece.text[:length]))
        else:
            length = _length(real, place, piece.text, pieces[number + 1 :])
            if length is None:
                return None
            found.append(Piece(real[place : place + length], piece.slot))
        place += length
    if place != len(real):
        return None
    return _from_cue(found, pieces, cue, real)


def _length(real: str, place: int, text: str, rest: Sequence[Piece]) -> int | None:
    """How many characters of ``real`` from ``place`` on belong to a slot with ``text``."""
    mark = next((piece.text for piece in rest if piece.slot is None and piece.text), None)
    if mark is None:  # nothing behind it
        return len(real) - place
    is_last = not any(piece.slot for piece in rest)  # an empty answer is one, too
    if real.startswith(text + mark[:_SHORTEST_MARK], place) and not is_last:
        return len(text)
    if is_last:
        return len(real) - len(mark) - place if real.endswith(mark, place) else None  # nothing overlaps
    for length in range(len(mark), min(len(mark), _SHORTEST_MARK) - 1, -1):
        if (found := real.find(mark[:length], place)) >= 0:
            return found - place
    return None


def shared(real: str, place: int, text: str) -> int:
    """How many characters ``text`` and ``real`` from ``place`` on begin with alike."""
    for length, (x, y) in enumerate(zip(real[place : place + len(text)], text, strict=False)):
        if x != y:
            return length
    return min(len(real) - place, len(text))


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """``pieces`` with literal neighbours in one piece."""
    merged: list[Piece] = []
    for piece in pieces:
        if piece.slot is None and merged and merged[-1].slot is None:
            merged[-1] = Piece(merged[-1].text + piece.text)
        else:
            merged.append(piece)
    return merged


def _from_cue(found: list[Piece], expected: Sequence[Piece], cue: str | None, real: str) -> list[Piece]:
    """``found`` with the last slot drawn back to the end of ``cue``, where the text before is literal.

    Where all of that text is there, as in front of any answer, it is the template's own and stays.
    """
    last = max((k for k, piece in enumerate(found) if piece.slot), default=None)
    if cue is None or last is None or not real.startswith(cue) or found[last - 1] == expected[last - 1]:
        return found
    start = sum(len(piece.text) for piece in found[:last])
    excess = start - len(cue)
    if not 0 < excess <= len(found[last - 1].text) or found[last - 1].slot is not None:
        return found
    before = Piece(found[last - 1].text[:-excess])
    answer = Piece(real[len(cue) : start] + found[last].text, found[last].slot)
    return [*found[: last - 1], before, answer, *found[last + 1 :]]
