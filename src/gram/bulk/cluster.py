"""Ray: a cluster for a run, and pieces of work through its actors, one engine in each.

An actor that dies is started again, and its piece is asked once more; a piece over which two died is left out
of the answers. One CPU is kept free of actors: what feeds them needs it, and without it Ray waits for ever.
The only module that knows Ray.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from gram.bulk.asker import Answer, Asker
from gram.bulk.options import BulkOptions
from gram.bulk.pieces import Piece
from gram.errors import ConfigError, ScoringError
from gram.extras import need
from gram.workers import Share

_TRIES = 2  # of a piece: one death may have had another cause


@contextmanager
def cluster(options: BulkOptions, device: str | None) -> Iterator[int]:
    """Ray for the block, here or where ``options`` say; gives the GPUs of each actor, 0 or 1.

    Raises:
        ConfigError: Ray cannot be reached, or has fewer CPUs or GPUs than the actors need.
        MissingLibraryError: it is not installed.
    """
    need("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers of the run
    os.environ.setdefault("RAY_worker_niceness", "0")  # of those started here: they do what was asked for
    import ray
    import ray.data

    needed = options.num_actors * options.cpus_per_actor + 1
    local: dict[str, Any] = {"num_cpus": needed, "include_dashboard": False}
    how: dict[str, Any] = {"address": options.address} if options.address else {"address": "local", **local}
    with redirect_stdout(sys.stderr):  # stdout is for the result of the command
        try:
            ray.init(**how, log_to_driver=True, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            place = f"at {options.address}" if options.address else "on this machine"
            hint = "; one that wants Ray's token needs RAY_AUTH_MODE=token" if options.address else ""
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"Ray {place}: cannot be reached or started: {reason}{hint}") from error
        try:
            there = ray.cluster_resources()
            yield _gpus(there.get("CPU", 0), there.get("GPU", 0), needed, options, device)
        finally:
            ray.shutdown()


def _gpus(cpus: float, gpus: float, needed: int, options: BulkOptions, device: str | None) -> int:
    if cpus < needed:
        raise ConfigError(
            f"--num-actors {options.num_actors}: with one more to feed them they need {needed} CPUs, and "
            f"the Ray cluster has {cpus:g}"
        )
    wanted = 0 if device == "cpu" or (device is None and not gpus) else 1
    if wanted * options.num_actors > gpus:
        raise ConfigError(
            f"--num-actors {options.num_actors}: each takes a GPU, and the Ray cluster has {gpus:g}; start "
            "fewer, or give --device cpu"
        )
    return wanted


def ask_actors(
    pieces: Sequence[Piece],
    rows_of: Callable[[Piece], Sequence[Any]],
    load: Callable[[Share], Any],
    function: Callable[[Any, Sequence[Any]], list[dict[str, Any]]],
    options: BulkOptions,
    gpus: int,
) -> Iterator[Answer]:
    """Answers to ``pieces`` as they get done, in a block of ``cluster``.

    Args:
        rows_of: the rows of a piece.
        load, function: see ``Asker``; they can be pickled, and every machine has what they name.

    Raises:
        ScoringError: there are no actors left.
    """
    import ray.data
    from ray.exceptions import RayError

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a piece without an answer is the caller's to ask again
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    items = [{"work": pickle.dumps((piece.number, list(rows_of(piece))))} for piece in pieces]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray 2.60: max_task_retries has no other name yet
        answers = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(load, function, Share(0, options.num_actors, apart=True)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=options.num_actors, max_tasks_in_flight_per_actor=1),
            num_cpus=options.cpus_per_actor,
            num_gpus=gpus or None,
            max_task_retries=_TRIES - 1,
        )
    try:
        for row in answers.iter_rows():
            yield pickle.loads(row["answer"])
    except RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise ScoringError(
            "Ray has no actors to go on with: they die before they have a model (each holds one of its own; "
            f"fewer need less memory), or the cluster is gone: {reason}"
        ) from error


class _Actor:
    """An ``Asker`` as Ray Data calls it: one piece in, one answer out, both pickled in a column."""

    def __init__(self, load: Any, function: Any, share: Share) -> None:
        self._asker: Asker[Any, Any] = Asker(load, function, share)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        number, rows = pickle.loads(batch["work"][0])
        return {"answer": [pickle.dumps(self._asker.answer(number, rows))]}
