"""Workers kept busy: what waits becomes batches, a worker that dies is counted and started again.

Knows tickets, workers and time; knows no HTTP and no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Sequence

from gram.serving.apart import Worker
from gram.serving.desk import Counts, Desk, OverloadedError, TooMuchError, UnavailableError
from gram.serving.facts import Facts
from gram.serving.fair import Ticket
from gram.serving.limits import Limits
from gram.serving.meters import Meters
from gram.serving.pace import Pace
from gram.serving.units import Outcome, Unit
from gram.workers import WorkerDiedError

_LINGER = 0.001  # seconds without a new unit after which a batch that is not full goes, at least
_LINGERS = 8  # such waits at most
_WORTH = 1 / 64  # of the time in which what waits can be read: as long as that may be waited, too
_LONGEST = 0.2  # seconds of one such wait at most: the time is an estimate
_FEWEST = 512  # tokens that are worth a process of their own
_BACKOFF = (0, 1, 2, 4, 8, 16, 30)  # seconds before a worker is started again

_log = logging.getLogger("gram.serving")


class Batcher:
    """Asks workers about the units of all requests.

    Args:
        workers: not started yet.
        limits: of the queue, the batches, the memory.
        meters: count what happens.
    """

    def __init__(self, workers: Sequence[Worker], limits: Limits, meters: Meters) -> None:
        self.limits = limits
        self._workers = workers
        self._meters = meters
        self._desk: Desk | None = None
        self._facts: Facts | None = None
        self._ready: set[int] = set()  # workers with a model
        self._busy: set[int] = set()
        self._broken = ""  # why the last try to start a worker failed
        self._arrival = asyncio.Event()
        self._arrivals = 0
        self._pace = Pace()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def facts(self) -> Facts:
        """Of the model; known once it is started."""
        assert self._facts is not None
        return self._facts

    @property
    def ready(self) -> bool:
        """Whether a worker has its model."""
        return bool(self._ready)

    @property
    def waiting(self) -> int:
        """Units in the queue."""
        return len(self._desk.queue) if self._desk else 0

    async def start(self) -> Facts:
        """Start all workers, and wait until each has its model; gives its facts.

        Raises:
            GramError: the model cannot be loaded.
        """
        try:
            facts, *_ = await asyncio.gather(*(worker.start() for worker in self._workers))
        except BaseException:
            await self._end_workers()
            raise
        self._facts = facts
        self._desk = Desk(self.limits.cache_entries, facts.both_orders, self._admit)
        self._ready = set(range(len(self._workers)))
        self._meters.workers.set(len(self._ready))
        self._tasks = [asyncio.create_task(self._work(number)) for number in self._ready]
        return facts

    async def end(self) -> None:
        """End all workers, in whatever they are; who still waits hears of it, also for what they have."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._desk is not None:
            self._desk.refuse_all(UnavailableError("the server stops"))
        self._ready.clear()
        await self._end_workers()

    async def ask(self, units: Sequence[Unit], caller: str, *, admitted: bool = False) -> list[Outcome]:
        """The outcome of each unit, in their order. If the task is cancelled, its units leave the queue.

        Args:
            caller: those who want little do not wait for those who want much.
            admitted: these belong to a request that was let in before, and are not refused.

        Raises:
            OverloadedError: there is no room for them now.
            TooMuchError: there will be none.
            UnavailableError: a process died with one of them, or none can be started.
        """
        assert self._desk is not None
        if not self._ready and self._broken:
            raise UnavailableError(self._broken)
        request = self._desk.enter(units, caller, admitted=admitted)
        self._arrivals += 1
        self._arrival.set()
        self._show_queue()
        try:
            return await self._desk.wait(request)
        finally:
            self._show_queue()  # who hangs up leaves it

    def _admit(self, counts: Counts, admitted: bool) -> None:
        most = self.limits.max_queue
        if counts.new > most and not admitted:
            raise TooMuchError(f"{counts.new} comparisons and answers in one request; {most} may wait")
        if counts.new and not admitted and self.waiting + counts.new > most:
            reason = f"{self.waiting} comparisons and answers wait already"
            raise OverloadedError(reason, self.seconds_to_wait())
        for source, count in counts._asdict().items():
            self._meters.units.labels(source).inc(count)

    def seconds_to_wait(self) -> int:
        """About how long what waits will take, between 1 and 60."""
        if not self._desk:
            return 1
        seconds = self._pace.seconds_for(self._desk.queue.length) / len(self._workers)
        return max(1, min(60, math.ceil(seconds)))

    def _show_queue(self) -> None:
        if self._desk is not None:
            self._meters.queue.set(len(self._desk.queue))
            self._meters.callers.set(self._desk.queue.callers)

    async def _work(self, number: int) -> None:
        """What one worker does, as long as the server runs."""
        worker = self._workers[number]
        while True:
            batch = await self._next()
            self._busy.add(number)
            try:
                await self._read(worker, batch)
            except Exception as error:  # also of a bug: what comes next must not wait for ever
                self._ready.discard(number)
                self._lose(batch, error)
                await self._restart(worker)
                self._ready.add(number)
                self._meters.workers.set(len(self._ready))
            finally:
                self._busy.discard(number)

    async def _next(self) -> list[Ticket]:
        """The next batch: all that waits, up to the limit, and no more than a worker's fair part of it."""
        assert self._desk is not None
        queue = self._desk.queue
        while True:
            while not len(queue):
                self._arrival.clear()
                await self._arrival.wait()
            most = self.limits.max_batch_tokens / self._pace.per_character
            await self._gather(most)
            free = max(1, len(self._ready) - len(self._busy))
            fair = max(_FEWEST / self._pace.per_character, queue.length / free)
            batch = queue.take(min(most, fair))
            self._show_queue()
            if batch:
                return batch

    async def _gather(self, most: float) -> None:
        """Wait for what comes together, but not at the same moment, until ``most`` characters wait.

        Answers to one prompt, or the next requests of all who have just been answered. As long as they come
        this takes a small part of the time in which the batch will be read, and what is read twice without it
        takes more: a prompt whose answers are in two batches, or a batch that is half empty.
        """
        assert self._desk is not None
        for _ in range(_LINGERS):
            before, length = self._arrivals, self._desk.queue.length
            if length >= most:
                return
            await asyncio.sleep(min(_LONGEST, max(_LINGER, _WORTH * self._pace.seconds_for(length))))
            if self._arrivals == before:
                return

    async def _read(self, worker: Worker, batch: Sequence[Ticket]) -> None:
        """Ask a worker, and hand out what it says."""
        assert self._desk is not None
        units = [ticket.unit for ticket in batch]
        start = time.monotonic()
        async with asyncio.timeout(self.limits.deadline_seconds):  # by then nobody waits for it any longer
            outcomes = await worker.ask(units)
        seconds = time.monotonic() - start
        for ticket, outcome in zip(batch, outcomes, strict=True):
            self._desk.settle(ticket, outcome)
        most = self.limits.max_batch_tokens
        read = self._pace.learn(batch, outcomes, seconds, most)
        self._desk.queue.longest = self._pace.longest
        self._count(outcomes, read, read / most, seconds)

    def _count(self, outcomes: Sequence[Outcome], read: float, fill: float, seconds: float) -> None:
        tokens = sum(outcome.tokens for outcome in outcomes)
        self._meters.tokens.inc(tokens)
        self._meters.shared.inc(tokens - read)
        self._meters.batch_units.observe(len(outcomes))
        self._meters.batch_fill.observe(fill)
        self._meters.batch_seconds.observe(seconds)
        self._meters.failures.inc(sum(outcome.values is None for outcome in outcomes))
        self._meters.truncated.inc(sum(outcome.cut > 0 for outcome in outcomes))

    def _lose(self, batch: Sequence[Ticket], error: Exception) -> None:
        assert self._desk is not None
        self._meters.deaths.inc()
        self._meters.workers.set(len(self._ready))
        died = isinstance(error, WorkerDiedError)
        reason = "the process that had it died" if died else "the process that had it did not answer"
        _log.error("%s with %d comparisons and answers; it is started again", reason, len(batch))
        for ticket in batch:
            self._desk.refuse(ticket, UnavailableError(reason))

    async def _restart(self, worker: Worker) -> None:
        """Start a worker again, however often it takes."""
        assert self._desk is not None
        for attempt in range(2**31):
            await asyncio.sleep(_BACKOFF[min(attempt, len(_BACKOFF) - 1)])
            try:
                await worker.start()
            except Exception as error:  # the model's folder is away, or there is no memory: later perhaps not
                self._broken = f"the model cannot be loaded again: {error}"
                _log.error("%s", self._broken)
                if not self._ready:
                    self._desk.refuse_waiting(UnavailableError(self._broken))
            else:
                self._broken = ""
                return

    async def _end_workers(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.gather(*(worker.end() for worker in self._workers), return_exceptions=True)
