"""Pieces of the work, and what is asked again when a process dies over one.

A piece without an answer is cut up and asked again, until the row over which processes die stands alone; that
row has no score, and all others have theirs. Where nothing is answered any more, some rows are tried by
themselves, to tell rows that processes die over from processes that do not work. Knows numbers; knows no rows
and no process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gram.bulk.asker import Answer, Failure
from gram.errors import ScoringError

_CUT = 8  # pieces out of one that was not answered: a row is found in a shard of 1,024 in four rounds
DIED = "the process that scored it died"


@dataclass(frozen=True)
class Piece:
    """Some rows of one shard.

    Attributes:
        number: among the pieces that are asked together.
        shard: the shard's number.
        places: of its rows in the input, from 0.
    """

    number: int
    shard: int
    places: tuple[int, ...]


def in_rounds(
    shards: Iterable[tuple[int, Sequence[int]]], ask: Callable[[Sequence[Piece]], Iterator[Answer]]
) -> Iterator[tuple[Piece, Answer]]:
    """Ask all shards, in any order; each row comes once, answered or failed.

    Args:
        shards: number and places of each.
        ask: answers pieces as they get done; those over which processes died are missing in the end.

    Raises:
        ScoringError: none of many pieces could be answered, and no row by itself.
        GramError: what an answer says is wrong with the whole run.
    """
    todo = [(shard, tuple(places)) for shard, places in shards]
    answered: list[tuple[int, int]] = []  # shards and places of some rows
    while todo:
        left = {number: Piece(number, *rest) for number, rest in enumerate(todo)}
        reasons: dict[int, str] = {}
        for answer in ask(list(left.values())):
            if answer.error is not None:
                raise answer.error
            if answer.failed:
                reasons[answer.piece] = answer.failed
            elif piece := left.pop(answer.piece, None):  # a second answer to a piece says the same
                if len(answered) < _CUT:
                    answered.append((piece.shard, piece.places[0]))
                yield piece, answer
        if len(left) == len(todo) >= _CUT:
            tried = answered or _spread(list(left.values()))
            if not _is_any_answered(tried, ask):
                raise ScoringError(f"no row could be scored: {next(iter(reasons.values()), DIED)}")
        todo = []
        for piece in left.values():
            if len(piece.places) > 1:
                todo += [(piece.shard, places) for places in _cut(piece.places)]
            else:
                yield piece, Answer(piece.number, [Failure(reasons.get(piece.number, DIED))])


def _is_any_answered(
    rows: Iterable[tuple[int, int]], ask: Callable[[Sequence[Piece]], Iterator[Answer]]
) -> bool:
    """Whether processes still answer one of some rows, each asked by itself."""
    answers = list(ask([Piece(number, shard, (place,)) for number, (shard, place) in enumerate(rows)]))
    for answer in answers:
        if answer.error is not None:
            raise answer.error
    return any(not answer.failed for answer in answers)


def _spread(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """Rows of some pieces: the first of one to the last of another, as all deadly ones may be last."""
    for k in range(_CUT):
        piece = pieces[len(pieces) * k // _CUT]
        yield piece.shard, piece.places[(len(piece.places) - 1) * k // (_CUT - 1)]


def _cut(places: tuple[int, ...]) -> list[tuple[int, ...]]:
    size = -(-len(places) // _CUT)
    return [places[start : start + size] for start in range(0, len(places), size)]
