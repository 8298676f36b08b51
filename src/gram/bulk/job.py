"""The way through a bulk run: rows to shards, shards to actors, answers to files.

Knows rows as ``Scorable``, and models as something that is loaded elsewhere; knows no Ray and no command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gram.bulk.asker import Answer, Failure
from gram.bulk.cluster import ask_actors, cluster
from gram.bulk.folder import BulkFolder
from gram.bulk.options import BulkOptions
from gram.bulk.pieces import Piece, in_rounds
from gram.bulk.shards import shards_of
from gram.data import Scorable
from gram.errors import ScoringError
from gram.progress import parts_with_progress
from gram.types import Usage
from gram.workers import Share

M = TypeVar("M")


@dataclass(frozen=True)
class BulkResult:
    """What a run came to.

    Attributes:
        rows: with a score, over all shards.
        resumed: of these, or of the failed ones, done by an earlier run.
        failed: rows without one, in the rejects of their shards.
        shards: how many.
        usage: of this run.
        scoring_seconds: from the first answer of an actor to the last: no starting, no loading.
    """

    rows: int
    resumed: int
    failed: int
    shards: int
    usage: Usage
    scoring_seconds: float


def score_in_bulk(
    rows: Sequence[Scorable],
    load: Callable[[Share], M],
    function: Callable[[M, Sequence[Scorable]], list[dict[str, Any]]],
    options: BulkOptions,
    header: Mapping[str, Any],
    *,
    device: str | None = None,
    stop_at_failure: bool = False,
) -> BulkResult:
    """Score ``rows`` into the folder ``options.output``, which exists and is held by the caller.

    Args:
        load: gives the model in a process; it and ``function`` can be pickled.
        function: one output row for each of some rows.
        header: all that the scores depend on: a run goes on only where it is the same.
        device: ``cpu``, ``cuda``, or None: GPUs where the cluster has them.
        stop_at_failure: raise at the first row that cannot be scored; its shard is not written.

    Raises:
        ConfigError: of the folder or the cluster.
        MissingLibraryError: no Ray.
        DataError: the folder's files do not hold what they should.
        ScoringError: a row failed and ``stop_at_failure``, or no process could work at all.
    """
    shards = shards_of([row.item.prompt for row in rows], options.shard_rows)
    folder = BulkFolder(options.output, {**header, "shard_rows": options.shard_rows}, shards)
    todo = {number: shard for number, shard in enumerate(shards) if number not in folder.done}
    usage, times = Usage(), [0.0]
    if todo:
        with cluster(options, device) as gpus:

            def ask(pieces: Sequence[Piece]) -> Iterator[Answer]:
                for answer in ask_actors(
                    pieces, lambda piece: [rows[k] for k in piece.places], load, function, options, gpus
                ):
                    times.append(time.monotonic())
                    yield answer

            done = sum(len(shards[number]) for number in folder.done)
            bar = parts_with_progress(list(todo.values()), done=done, title="scoring")
            answers = in_rounds(todo.items(), ask)
            for _, spent in zip(bar, _written(answers, rows, todo, folder, stop_at_failure), strict=True):
                usage += spent
    totals = folder.finish()
    return BulkResult(
        rows=totals["rows"],
        resumed=len(rows) - sum(map(len, todo.values())),
        failed=totals["rejected"],
        shards=len(shards),
        usage=usage,
        scoring_seconds=round(times[-1] - times[min(1, len(times) - 1)], 2),
    )


def _written(
    answers: Iterator[tuple[Piece, Answer]],
    rows: Sequence[Scorable],
    shards: Mapping[int, Sequence[int]],
    folder: BulkFolder,
    stop_at_failure: bool,
) -> Iterator[Usage]:
    """Writes each shard when all its rows are answered; gives the usage since the last one."""
    usage = Usage()
    scored: dict[int, dict[int, Mapping[str, Any]]] = {number: {} for number in shards}
    failed: dict[int, dict[int, Mapping[str, Any]]] = {number: {} for number in shards}
    for piece, answer in answers:
        usage += answer.usage
        for place, outcome in zip(piece.places, answer.outcomes, strict=True):
            if not isinstance(outcome, Failure):
                scored[piece.shard][place] = outcome
                continue
            if stop_at_failure:
                raise ScoringError(f"row {place + 1}: {outcome.reason}; --on-error skip sets such rows aside")
            named = {"id": rows[place].id} if rows[place].id else {}
            failed[piece.shard][place] = {**named, "reason": outcome.reason}
        if len(scored[piece.shard]) + len(failed[piece.shard]) == len(shards[piece.shard]):
            folder.write(piece.shard, scored.pop(piece.shard), failed.pop(piece.shard))
            yield usage
            usage = Usage()
