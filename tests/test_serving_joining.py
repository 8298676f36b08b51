"""Several requests that want the same: when each is answered, who pays for it, and who may leave."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from gram.serving.batcher import Batcher
from gram.serving.desk import UnavailableError
from gram.serving.fair import FairQueue, Ticket
from gram.serving.limits import Limits
from gram.serving.meters import Meters
from gram.types import Answer, Pair
from served import Here, serving, together, until
from test_serving_queue import Longer, ask, hang_up, opens, pair


def test_what_is_read_once_is_paid_once() -> None:
    """Ten callers with one pair, each three times and once turned round: one pays, and what a pair costs.

    Every character is a token: "why ?", "aaa" and "b" in two orders are 2 x 9 = 18.
    """
    worker = Here(Longer())
    with serving(worker) as served:
        worker.gate.clear()
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        asked = [*[pair("why ?", "aaa")] * 3, pair("why ?", "b", "aaa")]
        calls: list[Any] = [partial(ask, served, *asked)] * 10
        calls.append(opens(worker, lambda: served.metric("gram_units_total", source="joined") == 9))
        answers = together(calls)[:-1]
        first.close()
    assert sorted(answer["usage"]["prompt_tokens"] for _, answer in answers) == [0] * 9 + [18]
    for _, answer in answers:
        assert [row["log_odds"][0] for row in answer["data"]] == [2.0, 2.0, 2.0, -2.0]


def test_joining_a_long_queue_is_no_slower_than_asking_something_new() -> None:
    """A caller wants the last of 400 pairs that another one waits for: it is in the next batch."""
    worker = Here(Longer())
    with serving(worker, limits=Limits(max_batch_tokens=2_000)) as served:
        worker.gate.clear()
        many = [pair(f"prompt {k}", f"{k} " * 50) for k in range(400)]
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        much = hang_up(served, *many)
        until(lambda: served.batcher.waiting == 400)
        calls: list[Any] = [partial(ask, served, many[-1], X_Gram_Caller="somebody")]
        calls.append(opens(worker, lambda: served.metric("gram_units_total", source="joined") == 1))
        (status, _), _ = together(calls)
        prompts = [{unit.prompt[0].content for unit in batch} for batch in worker.batches]
        first.close()
        much.close()
    assert status == 200 and "prompt 399" in prompts[1] and len(prompts[1]) < 40


def ticket(name: str) -> Ticket:
    return Ticket(Answer(name, "x" * 10), name.encode(), "first", "first's")


def test_what_several_wait_for_counts_for_each_of_them_in_part() -> None:
    """A prompt of 1 and an answer of 10, for two callers: 5.5 each; so a third, with nothing yet, is next."""
    queue = FairQueue()
    shared = ticket("s")
    queue.put(shared)
    queue.join(shared, "second", "second's")
    for caller in ("first", "second", "third"):
        queue.put(Ticket(Answer(caller[0], caller), caller.encode(), caller, f"{caller}'s"))
    assert (len(queue), queue.callers) == (4, 3)
    assert [one.caller for one in queue.take(12)] == ["first"] and not shared.queued
    assert [one.caller for one in queue.take(1)] == ["third"]
    assert {queue.take(1)[0].caller for _ in range(2)} == {"first", "second"} and not queue


def test_who_leaves_takes_nothing_from_others() -> None:
    """Of two that wait for one ticket the first leaves, who brought it: it waits for the second, alone."""
    queue = FairQueue()
    shared = ticket("s")
    queue.put(shared)
    queue.join(shared, "second", "second's")
    queue.leave(shared, "first's")
    assert (len(queue), queue.callers, shared.queued) == (1, 1, True)
    queue.leave(shared, "second's")
    assert (len(queue), queue.callers, shared.queued) == (0, 0, False)


def test_the_meters_of_the_queue_follow_who_hangs_up() -> None:
    """Ten callers wait while a batch is read, and go: nothing waits, and so it is shown."""
    worker = Here(Longer())
    with serving(worker) as served:
        worker.gate.clear()
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        gone = [hang_up(served, pair(f"prompt {k}", "aa")) for k in range(10)]
        until(lambda: served.metric("gram_queue_units") == 10)
        for connection in gone:
            connection.close()
        until(lambda: served.metric("gram_queue_units") == served.metric("gram_queue_callers") == 0)
        worker.gate.set()
        first.close()


def test_when_the_server_stops_all_who_wait_hear_of_it() -> None:
    """One whose pair is with the worker, and one whose pair is in the queue."""

    async def stop() -> list[object]:
        worker = Here(Longer())
        batcher = Batcher([worker], Limits(), Meters())
        await batcher.start()
        worker.gate.clear()
        calls = [asyncio.create_task(batcher.ask([Pair("why ?", "a", "b")], "one"))]
        while not worker.batches:
            await asyncio.sleep(0.005)
        calls.append(asyncio.create_task(batcher.ask([Pair("why ?", "a", "c")], "two")))
        while not batcher.waiting:
            await asyncio.sleep(0.005)
        await batcher.end()
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)

    heard = asyncio.run(stop())
    assert [str(error) for error in heard] == ["the server stops"] * 2
    assert all(isinstance(error, UnavailableError) for error in heard)
