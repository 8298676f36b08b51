"""Fair truncation: shorten the slots of a prompt until it fits, never its literal text.

Each slot loses its middle, since both the beginning of an answer and its conclusion carry the verdict.
Knows pieces and one encoding function; knows nothing of templates or models.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from gram.errors import TemplateError
from gram.rendering.pieces import Piece

ELLIPSIS = " … "

Offsets = Sequence[tuple[int, int]]
_MOST_ROUNDS = 20


def fair_shares(lengths: Mapping[str, int], budget: int) -> dict[str, int]:
    """Split ``budget`` tokens: a slot that needs less than an equal share leaves the rest to the others.

    Slots that are cut all keep equally much, so that swapping two answers swaps their shares; up to one token
    per slot stays unused for that.

    Example:
        >>> fair_shares({"prompt": 10, "a": 50, "b": 80}, budget=70)
        {'prompt': 10, 'a': 30, 'b': 30}
    """
    rest = max(budget, 0)
    for place, length in enumerate(sorted(lengths.values())):
        share = rest // (len(lengths) - place)
        if length > share:
            return {slot: min(length, share) for slot, length in lengths.items()}
        rest -= length
    return dict(lengths)


def shorten(text: str, offsets: Offsets, keep: int) -> tuple[str, int]:
    """``text`` with its middle replaced by an ellipsis, and the number of its tokens that this removed.

    Args:
        offsets: character range of each token of ``text``; the tokens of one character may share its range.
        keep: most tokens to keep; the beginning gets the odd one. A character is removed as soon as one of
            its tokens is.

    Example:
        >>> shorten("abcdef", [(k, k + 1) for k in range(6)], keep=3)
        ('ab … f', 3)
    """
    if keep >= len(offsets):
        return text, 0
    head, tail = keep - keep // 2, keep // 2
    start, stop = offsets[head][0], offsets[len(offsets) - tail - 1][1]
    removed = sum(first < stop and last > start for first, last in offsets)
    return text[:start] + ELLIPSIS + text[stop:], removed


def shorten_to_fit(
    pieces: Sequence[Piece],
    limit: int,
    encode: Callable[[str], Offsets],
    *,
    ahead: int = 0,
    spare: Sequence[str] = (),
) -> tuple[list[Piece], dict[str, int]]:
    """Shorten the slots until the whole encodes to at most ``limit`` tokens.

    Args:
        encode: text to the character ranges of its tokens.
        ahead: tokens within the limit that stand in front of the pieces.
        spare: slots that are emptied, in this order, where there is not even a token for each slot: as many
            as it takes for the others to keep everything, or all.

    Returns:
        The pieces, and per shortened slot the number of tokens removed.

    Raises:
        TemplateError: the literal text alone, with a token or two per slot, is longer than ``limit``.
    """
    total = ahead + len(encode("".join(piece.text for piece in pieces)))
    if total <= limit:
        return list(pieces), {}
    offsets = {piece.slot: encode(piece.text) for piece in pieces if piece.slot}
    lengths = {slot: len(ranges) for slot, ranges in offsets.items()}
    literal = total - sum(lengths.values())
    ellipsis = len(encode(ELLIPSIS))
    essential = lengths.keys() - set(spare)

    def without(count: int) -> tuple[dict[str, int], int]:
        """The slots that are left without ``count`` spare ones, and their budget."""
        slots = lengths.keys() - set(spare[:count])
        whole = sum(lengths[slot] for slot in slots)
        fits = literal + whole <= limit  # then nothing is cut, and needs no ellipsis
        budget = max(whole, len(slots)) if fits else limit - literal - ellipsis * len(slots)
        return {slot: lengths[slot] for slot in slots}, budget

    def enough(count: int) -> bool:
        shares = fair_shares(*without(count))
        return all(shares[slot] == lengths[slot] for slot in essential)

    for count in (0, *range(bisect_left(range(len(spare)), True, 1, key=enough), len(spare) + 1)):
        others, budget = without(count)
        empty = set(spare[:count])
        rest = [Piece("", piece.slot) if piece.slot in empty else piece for piece in pieces]
        result = _shortened(rest, offsets, others, budget, limit - ahead, encode)
        if result is not None:
            short, cut = result
            return short, {slot: lengths[slot] for slot in spare[:count] if lengths[slot]} | cut
    least = len(lengths) - len(spare)
    raise TemplateError(
        f"max_length {limit} is too small: the prompt's own text takes {literal} tokens, "
        f"and the {least} texts that must be seen in it up to {least * (1 + ellipsis)} more"
    )


def _shortened(
    pieces: Sequence[Piece],
    offsets: Mapping[str, Offsets],
    lengths: Mapping[str, int],
    budget: int,
    limit: int,
    encode: Callable[[str], Offsets],
) -> tuple[list[Piece], dict[str, int]] | None:
    """The pieces, with fair shares of ``budget`` for the slots of ``lengths``; None: not a token for each."""
    # Tokens may merge differently around a cut: measure the whole again, and lower the budget by the excess.
    for _ in range(_MOST_ROUNDS):
        if budget < len(lengths):
            break
        shares = fair_shares(lengths, budget)
        short, cut = [], {}
        for piece in pieces:
            if piece.slot not in shares:
                short.append(piece)
                continue
            text, removed = shorten(piece.text, offsets[piece.slot], shares[piece.slot])
            short.append(Piece(text, piece.slot))
            if removed:
                cut[piece.slot] = removed
        excess = len(encode("".join(piece.text for piece in short))) - limit
        if excess <= 0:
            return short, cut
        budget -= excess
    return None
