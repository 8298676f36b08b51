"""Finds the turns of a conversation one at a time: by what changes in the text where a turn is another.

The long way, for templates that write a tool's reply only behind the call that it answers, or the words of a
call behind the reply. Knows turns, messages and a way to write these; knows no tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gram.rendering.follow import followed, shared
from gram.rendering.pieces import Piece
from gram.rendering.skeleton import Turn

_OTHER = "gramsentinel"  # plain letters, which no template rewrites

Range = tuple[int, int]
Messages = Sequence[dict[str, Any]]


def found_apart(
    turns: Sequence[Turn], messages: Messages, write: Callable[[Messages], str], answer: Range | None = None
) -> list[Piece] | None:
    """The text of a conversation in pieces with the slots of its turns.

    None: not every turn is in it, once and in order. Only the words of a turn with tool calls may stand
    behind the reply, or be left out, as its calls are there.

    Args:
        turns: role and content of each turn.
        messages: the same, with tool calls in a field, as ``write`` takes them.
        answer: where the last turn stands, if that is known: characters of ``write(messages)``.

    Raises:
        TemplateError: as ``write`` does.

    Example:
        >>> def write(messages):
        ...     return "".join(f"<{message['role']}>{message['content'].strip()}" for message in messages)
        >>> messages = [{"role": "user", "content": "Why? "}, {"role": "bot", "content": "So."}]
        >>> turns = [("user", [Piece("Why? ", "x")]), ("bot", [Piece("So.", "a")])]
        >>> [(piece.text, piece.slot) for piece in found_apart(turns, messages, write)]
        [('<user>', None), ('Why?', 'x'), ('<bot>', None), ('So.', 'a'), ('', None)]
    """
    real = write(messages)
    found: list[tuple[Range, int, Sequence[Piece]]] = []
    for number, (_, content) in enumerate(turns):
        known = answer if number == len(turns) - 1 else None
        place = known or _place(real, messages, number, write)
        if place is None:
            if "tool_calls" in messages[number]:
                continue
            return None
        inside = followed(real[slice(*place)], content)
        if inside is None:
            return None
        found.append((place, number, inside))
    found.sort(key=lambda item: item[:2])
    in_order = [number for _, number, _ in found if "tool_calls" not in messages[number]]
    if in_order != sorted(in_order) or not found or found[-1][1] != len(turns) - 1:
        return None
    pieces, end = [], 0
    for (start, stop), _, inside in found:
        if start < end:
            return None
        pieces += [Piece(real[end:start]), *inside]
        end = stop
    return [*pieces, Piece(real[end:])]


def _place(real: str, messages: Messages, number: int, write: Callable[[Messages], str]) -> Range | None:
    """Where ``real`` has the content of one message; None: not once, or no words beside its tool calls."""
    message = messages[number]
    if "tool_calls" in message and not message["content"].strip():
        return None
    other = write([*messages[:number], {**message, "content": _OTHER}, *messages[number + 1 :]])
    if other.count(_OTHER) != 1:
        return None
    before, behind = other.split(_OTHER)
    start, stop = shared(real, 0, before), len(real) - shared(real[::-1], 0, behind[::-1])
    return (start, stop) if start <= stop else None
