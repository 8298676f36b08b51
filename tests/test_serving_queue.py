"""Who waits for what, and how long: joining, fairness, prompts that meet, leaving, refusals, dead workers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from gram.errors import CheckpointError
from gram.serving.fair import FairQueue, Ticket
from gram.serving.limits import Limits
from gram.types import Answer, Pair, Usage, Verdicts
from gram.workers import WorkerDiedError
from served import Here, Served, serving, together, until


class Longer:
    """Log-odds are the difference of the lengths; every character is a token."""

    temperature = slope = 1.0
    template = None

    def __init__(self) -> None:
        self.usage = Usage()

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        leads = [[len(pair.a) - len(pair.b)] * 2 for pair in pairs]
        tokens = sum(2 * (len(pair.prompt[0].content) + len(pair.a) + len(pair.b)) for pair in pairs)
        self.usage += Usage(tokens=tokens)
        return Verdicts(np.array(leads, dtype=float), np.ones((len(pairs), 2)))

    def tokens_cut(self, pairs: Sequence[Pair]) -> None:
        return None


def pair(prompt: str, a: str, b: str = "b") -> dict[str, Any]:
    return {"prompt": prompt, "a": a, "b": b}


def ask(served: Served, *pairs: dict[str, Any], **headers: str) -> tuple[int, Any]:
    return served.post("/v1/compare", {"pairs": list(pairs)}, **headers)


def opens(worker: Here, when: Callable[[], bool]) -> Callable[[], None]:
    """A call that lets batches through once something holds."""

    def wait() -> None:
        try:
            until(when)
        finally:
            worker.gate.set()

    return wait


def hang_up(served: Served, *pairs: dict[str, Any]) -> http.client.HTTPConnection:
    """A caller that has sent its request, and reads no answer."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=120)
    connection.request(
        "POST", "/v1/compare", json.dumps({"pairs": pairs}), {"Content-Type": "application/json"}
    )
    return connection


def test_the_same_question_in_flight_is_asked_once() -> None:
    """Ten callers, one pair, half of them the other way round: one unit in one batch, ten answers."""
    worker = Here(Longer())
    with serving(worker, limits=Limits(cache_entries=0)) as served:
        worker.gate.clear()
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        asked = [pair("why ?", "aaa"), pair("why ?", "b", "aaa")] * 5
        calls: list[Any] = [partial(ask, served, one) for one in asked]
        calls.append(opens(worker, lambda: served.metric("gram_units_total", source="joined") == 9))
        answers = together(calls)[:-1]
        first.close()
    assert [answer["data"][0]["log_odds"][0] for _, answer in answers] == [2.0, -2.0] * 5
    assert [len(batch) for batch in worker.batches] == [1, 1]


def test_callers_with_one_prompt_meet_in_one_batch() -> None:
    """While a batch is read, 24 callers ask about 3 prompts in turn; each prompt's 8 stand side by side."""
    worker = Here(Longer())
    with serving(worker) as served:
        worker.gate.clear()
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        calls: list[Any] = [partial(ask, served, pair(f"prompt {k % 3}", "a" * k)) for k in range(24)]
        calls.append(opens(worker, lambda: served.batcher.waiting == 24))
        together(calls)
        first.close()
    assert [len(batch) for batch in worker.batches] == [1, 24]
    prompts = [unit.prompt[0].content for unit in worker.batches[1]]
    assert sorted(prompts) == sorted(f"prompt {k}" for k in range(3) for _ in range(8))
    assert sum(one != other for one, other in pairwise(prompts)) == 2


def test_answers_to_one_prompt_stay_in_one_batch_where_they_fit() -> None:
    """Prompts of 40 characters with 3 answers of 20 each are 100 characters; a batch takes 270.

    Two of them fit, and the third is left for the next batch whole, though one of its answers would fit. A
    prompt with 20 answers, 440 characters, fits into no batch and is cut: 100 + 40 + 6 x 20 = 260, then
    40 + 11 x 20.
    """
    queue = FairQueue()
    for number, count in enumerate((3, 3, 3, 20)):
        for k in range(count):
            name = f"{number}/{k}"
            queue.put(Ticket(Answer(str(number) * 40, name.ljust(20)), name.encode(), "one", name))
    batches = []
    while queue:
        batches.append([ticket.key.decode().split("/")[0] for ticket in queue.take(270)])
    assert batches == [["0"] * 3 + ["1"] * 3, ["2"] * 3 + ["3"] * 6, ["3"] * 11, ["3"] * 3]


def test_a_prompt_left_for_the_next_batch_keeps_its_turn() -> None:
    """What stays together waits for the next batch, and is its beginning, though others have come since."""
    queue = FairQueue()
    for caller, prompt in (("first", "a"), ("second", "b"), ("second", "b")):
        name = f"{caller}{len(queue)}"
        queue.put(Ticket(Answer(prompt * 60, "x" * 20), name.encode(), caller, name))
    assert [ticket.caller for ticket in queue.take(160)] == ["first"]  # 80, and 100 more would be 180
    for number in range(3):
        queue.put(Ticket(Answer("c" * 60, "x" * 20), str(number).encode(), "third", number))
    assert [ticket.caller for ticket in queue.take(160)] == ["second", "second"]


def test_a_batch_waits_longer_for_others_where_reading_takes_long() -> None:
    """A model that reads slowly: callers who come one after the other meet in one batch.

    The first pair takes 1.5 s: its prompt of 996 characters and 2 answers of 1 in 2 orders, so 667 characters
    a second. The next pair, of some 2,000, would take 3 s, and a 64th of that, 47 ms, is waited for another
    caller, who comes after 20 ms. It is capped only above that.
    """

    class Slow(Longer):
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            if pairs[0].prompt[0].content[0] == "?":
                time.sleep(1.5)
            return super().compare(pairs)

    worker = Here(Slow())
    with serving(worker, limits=Limits(max_batch_tokens=16_000)) as served:
        ask(served, pair("?" * 996, "a"))
        calls = [partial(ask, served, pair("why ?", f"{k} " * 500)) for k in range(6)]
        together([partial(later, 0.02 * k, call) for k, call in enumerate(calls)])
    assert [len(batch) for batch in worker.batches] == [1, 6]


def later(seconds: float, call: Callable[[], Any]) -> Any:
    time.sleep(seconds)
    return call()


@pytest.mark.parametrize("same_host", [False, True])
def test_a_caller_with_little_does_not_wait_for_one_with_much(same_host: bool) -> None:
    """A request of 400 long pairs is in the queue; one of a single pair comes after it.

    It is in the first batch made after it came: as another caller, and as another request of the same.
    """
    worker = Here(Longer())
    with serving(worker, limits=Limits(max_batch_tokens=2_000)) as served:
        worker.gate.clear()
        many = [pair(f"prompt {k}", f"{k} " * 50) for k in range(400)]
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        much = hang_up(served, *many)
        until(lambda: served.batcher.waiting == 400)
        name = {} if same_host else {"X-Gram-Caller": "somebody"}
        calls: list[Any] = [partial(ask, served, pair("little", "a"), **name)]
        calls.append(opens(worker, lambda: served.batcher.waiting == 401))
        together(calls)
        prompts = [{unit.prompt[0].content for unit in batch} for batch in worker.batches]
        first.close()
        much.close()
    assert "little" in prompts[1] and len(worker.batches[1]) < 40


def test_what_nobody_waits_for_leaves_the_queue() -> None:
    """1,000 callers hang up while a batch is read: nothing of theirs is asked, and the queue is empty.

    A pair that one of them shares with a caller who stays is asked.
    """
    worker = Here(Longer())
    with serving(worker) as served:
        worker.gate.clear()
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        for start in range(0, 1_000, 100):
            gone = [hang_up(served, pair(f"prompt {k}", "aa")) for k in range(start, start + 100)]
            until(lambda: served.batcher.waiting == 100)
            for connection in gone:
                connection.close()
            until(lambda: served.batcher.waiting == 0)
        leaving = hang_up(served, pair("shared", "aa"))
        until(lambda: served.batcher.waiting == 1)
        stays: list[Any] = [partial(ask, served, pair("shared", "aa"))]

        def leave() -> None:
            until(lambda: served.metric("gram_units_total", source="joined") == 1)
            leaving.close()
            until(lambda: served.metric("gram_requests_total", endpoint="/v1/compare", status="499") == 1_001)
            worker.gate.set()

        (status, answer), _ = together([*stays, leave])
        first.close()
    assert status == 200 and answer["data"][0]["log_odds"] == [1.0, 1.0]
    assert [unit.prompt[0].content for batch in worker.batches for unit in batch] == ["first", "shared"]


def test_a_full_queue_refuses_and_loses_nothing() -> None:
    """A queue of 8, and 40 callers: 8 are answered, 32 told to come again, and then all are answered."""
    worker = Here(Longer())
    with serving(worker, limits=Limits(max_queue=8)) as served:
        worker.gate.clear()
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)

        def refused() -> None:
            name = {"endpoint": "/v1/compare", "status": "429"}
            until(lambda: served.metric("gram_requests_total", **name) == 32)
            worker.gate.set()

        calls: list[Any] = [partial(ask, served, pair(f"prompt {k}", "a" * k)) for k in range(1, 41)]
        answers = together([*calls, refused])[:-1]
        states = [status for status, _ in answers]
        assert (states.count(200), states.count(429)) == (8, 32)
        assert int(served.last_headers["retry-after"]) >= 1
        for k, (status, answer) in enumerate(answers):
            assert status == 429 or answer["data"][0]["log_odds"][0] == k
        again = [call() for k, call in enumerate(calls) if states[k] == 429]
        first.close()
    assert [status for status, _ in again] == [200] * 32


def test_a_ranking_that_was_let_in_is_finished() -> None:
    """Its later rounds are not refused, though the queue is full of others."""
    worker = Here(Longer())
    candidates = ["a" * k for k in range(1, 9)]
    with serving(worker, limits=Limits(max_queue=8)) as served:
        content = {"prompt": "why ?", "candidates": candidates, "schedule": "knockout"}
        crowd: list[Any] = [partial(ask, served, pair(f"prompt {k}", "a" * k)) for k in range(1, 200)]
        (status, answer), *_ = together([partial(served.post, "/v1/rank", content), *crowd])
    assert status == 200 and answer["order"][0] == 7


def test_deadlines() -> None:
    """What is not answered in time is 504, and leaves the queue."""
    worker = Here(Longer())
    with serving(worker, limits=Limits(deadline_seconds=20)) as served:
        worker.gate.clear()
        first = hang_up(served, pair("first", "aaa"))
        until(lambda: worker.batches)
        status, answer = ask(served, pair("late", "a"), X_Deadline_Seconds="0.2")
        assert status == 504 and "0.2 s" in answer["detail"]["message"]
        assert served.batcher.waiting == 0
        for wrong in ("0", "-1", "soon", "nan", "inf"):
            assert ask(served, pair("late", "a"), X_Deadline_Seconds=wrong)[0] == 400
        worker.gate.set()
        first.close()


def test_a_worker_that_dies_is_counted_and_comes_back() -> None:
    """Whoever had something with it hears 503; whoever waits is answered by the next process."""
    worker = Here(Longer())
    with serving(worker) as served:
        worker.gate.clear()
        worker.failure = WorkerDiedError("killed")
        calls: list[Any] = [partial(ask, served, pair("with it", "aaa")), lambda: None]

        def wait_behind() -> Any:
            until(lambda: worker.batches)
            second = hang_up(served, pair("behind", "aaaa"))
            until(lambda: served.batcher.waiting == 1)
            worker.gate.set()
            return json.loads(second.getresponse().read())

        calls[1] = wait_behind
        (status, answer), behind = together(calls)
        assert status == 503 and "died" in answer["detail"]["message"] and served.last_headers["retry-after"]
        assert behind["data"][0]["log_odds"] == [3.0, 3.0]
        assert served.metric("gram_worker_deaths_total") == 1 and worker.starts == 2
        assert served.get("/health/ready")[0] == 200
        assert ask(served, pair("with it", "aaa"))[1]["data"][0]["log_odds"] == [2.0, 2.0]


def test_a_worker_that_cannot_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ready, 503 with the reason, and alive: it comes back when it can."""
    monkeypatch.setattr("gram.serving.batcher._BACKOFF", (0, 0.05))
    worker = Here(Longer())
    with serving(worker) as served:
        start = worker.start

        async def fail() -> Any:
            raise CheckpointError("runs/judge: nothing there")

        worker.start, worker.failure = fail, WorkerDiedError("killed")  # type: ignore[method-assign]
        assert ask(served, pair("why ?", "a"))[0] == 503
        until(lambda: served.get("/health/ready")[0] == 503)
        until(lambda: "nothing there" in str(ask(served, pair("why ?", "a"))[1]))
        assert served.get("/health/live")[0] == 200
        worker.start = start  # type: ignore[method-assign]
        until(lambda: served.get("/health/ready")[0] == 200)
        assert ask(served, pair("why ?", "aa"))[0] == 200


def test_a_worker_that_hangs_is_replaced() -> None:
    """When all deadlines have passed, the process is ended and another one started."""
    worker = Here(Longer())
    with serving(worker, limits=Limits(deadline_seconds=0.3)) as served:
        worker.gate.clear()
        assert ask(served, pair("why ?", "aaa"))[0] in (503, 504)
        until(lambda: worker.starts == 2)
        worker.gate.set()
        until(lambda: served.get("/health/ready")[0] == 200)
        assert ask(served, pair("why ?", "aa"))[0] == 200


def test_a_bug_in_our_own_code_does_not_stop_the_server() -> None:
    worker = Here(Longer())
    with serving(worker) as served:
        worker.failure = RuntimeError("not foreseen")
        assert ask(served, pair("why ?", "aaa"))[0] == 503
        assert ask(served, pair("why ?", "aa"))[0] == 200


def test_two_workers_share_what_waits() -> None:
    """With both idle, neither takes all of 2,000 characters, and every number is right."""
    workers = [Here(Longer()), Here(Longer())]
    with serving(workers, limits=Limits(max_batch_tokens=1_000)) as served:
        calls: list[Any] = [partial(ask, served, pair(f"prompt {k}", "a" * k)) for k in range(1, 65)]
        answers = together(calls)
    assert [answer["data"][0]["log_odds"][0] for _, answer in answers] == list(range(64))
    assert all(worker.batches for worker in workers)


def test_what_is_remembered_is_bounded() -> None:
    """Three entries: the one that was used last stays, the oldest goes."""
    worker = Here(Longer())
    with serving(worker, limits=Limits(cache_entries=3)) as served:
        for letter in "abc":
            ask(served, pair(letter, "aa"))
        ask(served, pair("a", "aa"))  # used again
        ask(served, pair("d", "aa"))  # b goes
        for letter in "acd":
            ask(served, pair(letter, "aa"))
        assert len(worker.batches) == 4
        ask(served, pair("b", "aa"))
    assert len(worker.batches) == 5


def test_equal_units_have_equal_keys_only() -> None:
    """Where one text ends and the next begins, and what kind of unit it is, matter."""
    from gram.serving.units import key_of

    units = [
        Pair("why ?", "ab", "c"),
        Pair("why ?", "a", "bc"),
        Pair("why ?a", "b", "c"),
        Pair("why ?", "c", "ab"),
        Answer("why ?", "ab"),
        Answer("why ?ab", ""),
        Answer([{"role": "system", "content": "why ?"}], "ab"),
    ]
    assert len({key_of(unit) for unit in units}) == len(units)
    assert key_of(Pair("why ?", "ab", "c")) == key_of(units[0])
