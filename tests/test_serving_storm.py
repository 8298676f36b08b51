"""All faults at once: callers who behave get right numbers, whatever others do and whichever process dies."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

import gram
from gram.serving.limits import Limits
from gram.types import Pair, Verdicts
from gram.workers import WorkerDiedError
from served import Here, Served, serving, together, until
from test_serving_faults import BODIES, HEAD, raw
from test_serving_queue import Longer, ask, hang_up, pair

CALLERS, PAIRS, EACH = 12, 60, 4  # pairs of a caller, and of one call


class Slow(Longer):
    """Takes a moment for each batch, so that requests pile up."""

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        time.sleep(0.004)
        return super().compare(pairs)


def behaves(served: Served, caller: int) -> int:
    """Asks for pairs of its own through the client; how many numbers were right."""
    model = gram.RemoteModel(served.url, deadline=60)
    right = 0
    for start in range(0, PAIRS, EACH):
        lengths = [(caller + k) % 37 for k in range(start, start + EACH)]
        pairs = [Pair(f"of {caller}: {start + k}", "a" * n, "") for k, n in enumerate(lengths)]
        found = model.compare(pairs).log_odds
        right += sum(row.tolist() == [n, n] for row, n in zip(found, lengths, strict=True))
    return right


def misbehaves(served: Served, workers: Sequence[Here], over: threading.Event) -> dict[str, int]:
    """Until it is over: what cannot be read, half bodies, hanging up, floods, deaths; how often each was."""
    draw = random.Random(0)
    done: dict[str, int] = dict.fromkeys(("unreadable", "half", "gone", "flood", "deaths"), 0)
    bodies = [body for body, _ in BODIES.values()]
    number = 0
    while not over.is_set():
        number += 1
        match draw.choice(list(done)):
            case "unreadable":
                status, _ = served.post("/v1/compare", draw.choice(bodies))
                assert status in (413, 422)
                done["unreadable"] += 1
            case "half":
                raw(served, HEAD % 500, b'{"pairs": [', close=True)
                done["half"] += 1
            case "gone":
                hang_up(served, pair(f"gone {number}", "aa")).close()
                done["gone"] += 1
            case "flood":
                status, _ = ask(served, *(pair(f"flood {number} {k}", "a") for k in range(64)))
                assert status in (200, 429, 503)
                done["flood"] += 1
            case "deaths":
                draw.choice(workers).failure = WorkerDiedError("killed")
                done["deaths"] += 1
                time.sleep(0.03)
    return done


@pytest.mark.slow
def test_no_wrong_number_and_none_lost() -> None:
    """12 callers with 60 pairs each, all right, while processes die, the queue overflows and others spoil
    what they can. Then nothing waits, both processes are there, and every request has been answered.
    """
    workers, over = [Here(Slow()), Here(Slow())], threading.Event()
    with serving(workers, limits=Limits(max_queue=80, max_characters=5_000, max_body_bytes=20_000)) as served:
        done: list[dict[str, int]] = []
        trouble = threading.Thread(target=lambda: done.append(misbehaves(served, workers, over)))
        trouble.start()
        calls: list[Any] = [partial(behaves, served, caller) for caller in range(CALLERS)]
        assert together(calls) == [PAIRS] * CALLERS
        over.set()
        trouble.join(60)
        for worker in workers:
            worker.failure = None  # a death that nobody has met yet
        [counts] = done
        assert min(counts.values()) > 0, counts
        until(lambda: served.batcher.waiting == 0)
        until(lambda: served.metric("gram_workers_ready") == 2)
        assert served.metric("gram_worker_deaths_total") >= 1
        assert served.metric("gram_failed_units_total") == 0
        status, answer = ask(served, pair("after it all", "aaa"))
        assert status == 200 and answer["data"][0]["log_odds"] == [2.0, 2.0]
