"""Who waits for which answer: requests come in with units, and leave with outcomes.

A unit that is in flight already is joined, one that was answered before is remembered, one that nobody waits
for any longer leaves the queue. Knows units and the queue; knows no worker and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gram.errors import GramError
from gram.serving.fair import FairQueue, Ticket
from gram.serving.units import Decision, Outcome, Unit, key_of
from gram.types import Pair


class OverloadedError(GramError):
    """There is no room for a request now.

    Attributes:
        seconds: about when there will be.
    """

    def __init__(self, reason: str, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"{reason}; try again in {seconds} s")


class TooMuchError(GramError):
    """A request for which there will never be room."""


class UnavailableError(GramError):
    """The process that had a request's units died, or there is none."""


class Counts(NamedTuple):
    """How many different units of a request are new, in flight for another, or remembered."""

    new: int
    joined: int
    remembered: int


@dataclass(eq=False)
class Request:
    """What one request waits for, and what it has got.

    Attributes:
        caller: on whose account it waits.
        keys: of its units, in their order.
        turned: which of them are asked the other way round.
        tickets: of those that are still to come.
        got: what has come, by key.
    """

    caller: str
    keys: list[bytes]
    turned: list[bool]
    tickets: set[Ticket] = field(default_factory=set)
    got: dict[bytes, Outcome] = field(default_factory=dict)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Desk:
    """Requests on one side, tickets on the other.

    Args:
        cache_entries: outcomes that are remembered, those that were used last.
        both_orders: a pair is looked at both ways, so that it is the same question as its swapped one.
        admit: told what a request asks, and whether it was let in before, ahead of queuing; it may raise.
    """

    def __init__(self, cache_entries: int, both_orders: bool, admit: Callable[[Counts, bool], None]) -> None:
        self.queue = FairQueue()
        self._most = cache_entries
        self._both_orders = both_orders
        self._admit = admit
        self._flying: dict[bytes, tuple[Ticket, list[Request]]] = {}
        self._finished: OrderedDict[bytes, Outcome] = OrderedDict()

    def enter(self, units: Sequence[Unit], caller: str, *, admitted: bool = False) -> Request:
        """A request for these units; they wait from now on, and somebody must ``wait`` for it.

        Args:
            caller: on whose account they wait.
            admitted: these belong to a request that was let in before.

        Raises:
            Exception: what ``admit`` raises.
        """
        turned = [self._turned(unit) for unit in units]
        keys = [key_of(unit) for unit, _ in turned]
        by_key = {key: unit for key, (unit, _) in zip(keys, turned, strict=True)}
        request = Request(caller, keys, [way for _, way in turned])
        request.got = {key: self._finished[key] for key in by_key if key in self._finished}
        missing = [key for key in by_key if key not in request.got]
        joined = sum(key in self._flying for key in missing)
        counts = Counts(len(missing) - joined, joined, len(request.got))
        self._admit(counts, admitted)
        for key in request.got:
            self._finished.move_to_end(key)
        for key in missing:
            self._join(key, by_key[key], request)
        return request

    async def wait(self, request: Request) -> list[Outcome]:
        """The outcome of each unit, in their order. If the task is cancelled, the units leave the queue.

        Raises:
            UnavailableError: a process died with one of them.
        """
        try:
            if request.tickets:
                await request.done
        finally:
            for ticket in list(request.tickets):  # none where all were answered
                self._leave(ticket, request)
        outcomes = []
        for key in request.keys:
            outcomes.append(request.got[key])
            request.got[key] = request.got[key]._replace(tokens=0)  # what stands there twice is read once
        return [_swapped(out) if way else out for out, way in zip(outcomes, request.turned, strict=True)]

    def settle(self, ticket: Ticket, outcome: Outcome) -> None:
        """Hand out an outcome to all who wait for it, and remember it if it is a number.

        Its tokens are those of the request that has waited longest: it was read once.
        """
        _, requests = self._flying.pop(ticket.key)
        for place, request in enumerate(requests):
            request.got[ticket.key] = outcome._replace(tokens=0) if place else outcome
            request.tickets.discard(ticket)
            if not request.tickets and not request.done.done():
                request.done.set_result(None)
        if outcome.values is not None and self._most and not outcome.texts:  # those are large, and rare
            self._finished[ticket.key] = outcome._replace(tokens=0)  # reading it again costs none
            if len(self._finished) > self._most:
                self._finished.popitem(last=False)

    def refuse(self, ticket: Ticket, error: Exception) -> None:
        """Let all requests that wait for a ticket fail."""
        if ticket.queued:
            self.queue.remove(ticket)
        _, requests = self._flying.pop(ticket.key, (ticket, []))  # it may be settled already
        for request in requests:
            request.tickets.discard(ticket)
            if not request.done.done():
                request.done.set_exception(error)

    def refuse_waiting(self, error: Exception) -> None:
        """Let all requests fail that wait for something in the queue."""
        for ticket in [ticket for ticket, _ in self._flying.values() if ticket.queued]:
            self.refuse(ticket, error)

    def refuse_all(self, error: Exception) -> None:
        """Let all requests fail, also those that wait for something that a worker has."""
        for ticket in [ticket for ticket, _ in self._flying.values()]:
            self.refuse(ticket, error)

    def _turned(self, unit: Unit) -> tuple[Unit, bool]:
        """A pair as it is asked, whichever way round it came, and whether it was turned for that."""
        if isinstance(unit, Pair) and self._both_orders and unit.b < unit.a:
            return unit.swapped(), True
        return unit, False

    def _join(self, key: bytes, unit: Unit, request: Request) -> None:
        if key not in self._flying:
            ticket = Ticket(unit, key, request.caller, request, self._orders(unit))
            self._flying[key] = (ticket, [])
            self.queue.put(ticket)
        ticket, requests = self._flying[key]
        if ticket.queued and requests:
            self.queue.join(ticket, request.caller, request)
        requests.append(request)
        request.tickets.add(ticket)

    def _orders(self, unit: Unit) -> int:
        """How often the model looks at a unit."""
        if isinstance(unit, Decision):
            return unit.orders
        return 2 if isinstance(unit, Pair) and self._both_orders else 1

    def _leave(self, ticket: Ticket, request: Request) -> None:
        """Wait no longer. A ticket that is with a worker comes back, and is remembered."""
        if ticket.key not in self._flying or self._flying[ticket.key][0] is not ticket:
            return
        requests = self._flying[ticket.key][1]
        requests.remove(request)
        if ticket.queued:
            self.queue.leave(ticket, request)
            if not requests:
                del self._flying[ticket.key]


def _swapped(outcome: Outcome) -> Outcome:
    """The outcome of the swapped pair."""
    if outcome.values is None:
        return outcome
    first, second, mass_first, mass_second = outcome.values
    return outcome._replace(values=(-second, -first, mass_second, mass_first))
