"""Who is next: units that wait, in lines of their callers, with all units of one prompt together.

A caller that has been given least is next; within a caller, requests take turns; and with a unit go all
others that wait on the same prompt, whoever asks, because the prompt is read once for all of them. A unit
that several ask for stands in the lines of all of them. Knows units and their lengths; knows no process, no
time and no HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from gram.serving.units import Unit, answer_length, prompt_length


@dataclass(eq=False, slots=True)
class Ticket:
    """A unit that waits or is being asked.

    Attributes:
        key: equal for equal units only.
        caller, request: on whose account it waits at first.
        orders: how often the model looks at it.
        queued: it waits.
        waiting: all requests that it waits for, with their callers.
    """

    unit: Unit
    key: bytes
    caller: str
    request: Hashable
    orders: int = 1
    queued: bool = False
    waiting: dict[Hashable, str] = field(default_factory=dict)

    @property
    def own(self) -> int:
        """Characters that are read for it alone."""
        return self.orders * answer_length(self.unit)


@dataclass(eq=False, slots=True)
class _Line:
    """What one caller waits for, and the characters that it has been given."""

    given: float
    requests: dict[Hashable, dict[Ticket, None]] = field(default_factory=dict)


class FairQueue:
    """Tickets that wait.

    Attributes:
        longest: characters of a prompt, and of what is asked about it, that the model reads at most; more of
            a text costs nothing.

    Example:
        >>> from gram.types import Answer
        >>> queue = FairQueue()
        >>> for text in ("one", "two", "three"):
        ...     queue.put(Ticket(Answer("Why?", text), text.encode(), "first", 1))
        >>> queue.put(Ticket(Answer("When?", "now"), b"now", "second", 2))
        >>> [ticket.unit.response for ticket in queue.take(20)]  # characters
        ['one', 'two', 'three']
        >>> [ticket.unit.response for ticket in queue.take(20)]
        ['now']
    """

    def __init__(self) -> None:
        self.longest = math.inf
        self._lines: dict[str, _Line] = {}
        self._by_prompt: dict[Hashable, dict[Ticket, None]] = {}
        self._count = 0
        self._clock = 0.0  # what the caller that was served last had been given

    def __len__(self) -> int:
        return self._count

    @property
    def callers(self) -> int:
        """How many have something here."""
        return len(self._lines)

    @property
    def length(self) -> float:
        """Characters that wait, each prompt once."""
        return sum(
            self._prompt(next(iter(mates))) + sum(map(self._own, mates)) for mates in self._by_prompt.values()
        )

    def _prompt(self, ticket: Ticket) -> float:
        return min(prompt_length(ticket.unit), self.longest)

    def _own(self, ticket: Ticket) -> float:
        return min(ticket.own, ticket.orders * self.longest)

    def put(self, ticket: Ticket) -> None:
        """Let it wait at the end of its request."""
        self._by_prompt.setdefault(ticket.unit.prompt, {})[ticket] = None
        ticket.queued = True
        self._count += 1
        self.join(ticket, ticket.caller, ticket.request)

    def join(self, ticket: Ticket, caller: str, request: Hashable) -> None:
        """Let a ticket that waits do so at the end of another request, too: whoever is next first gets it."""
        line = self._lines.get(caller)
        if line is None:
            line = self._lines[caller] = _Line(self._clock)
        line.requests.setdefault(request, {})[ticket] = None
        ticket.waiting[request] = caller

    def leave(self, ticket: Ticket, request: Hashable) -> None:
        """Let it wait no longer for a request; nor at all, if it is the last one."""
        if len(ticket.waiting) == 1:
            self.remove(ticket)
        else:
            self._unline(ticket, request)

    def remove(self, ticket: Ticket) -> None:
        """Let it wait no longer."""
        for request in list(ticket.waiting):
            self._unline(ticket, request)
        mates = self._by_prompt[ticket.unit.prompt]
        del mates[ticket]
        if not mates:
            del self._by_prompt[ticket.unit.prompt]
        ticket.queued = False
        self._count -= 1

    def _unline(self, ticket: Ticket, request: Hashable) -> None:
        caller = ticket.waiting.pop(request)
        line = self._lines[caller]
        mine = line.requests[request]
        del mine[ticket]
        if not mine:
            del line.requests[request]
        if not line.requests:
            del self._lines[caller]

    def take(self, most: float) -> list[Ticket]:
        """The next tickets, of at most ``most`` characters (or one ticket); they wait no longer.

        All that wait on a prompt stay together where they fit into one batch and this one is half full
        without them: in two batches the prompt would be read twice.
        """
        batch: list[Ticket] = []
        spent = 0.0
        while self._count:
            line = min(self._lines.values(), key=lambda line: line.given)
            self._clock = line.given
            request, mine = next(iter(line.requests.items()))
            first = next(iter(mine))
            mates = [first, *(mate for mate in self._by_prompt[first.unit.prompt] if mate is not first)]
            prompt = self._prompt(first)
            whole = prompt + sum(map(self._own, mates))
            if batch and spent + prompt + self._own(first) > most:
                return batch
            if spent >= most / 2 and spent + whole > most >= whole:
                return batch
            line.requests[request] = line.requests.pop(request)  # its next turn comes after the others'
            spent += prompt
            for ticket in mates:
                if batch and spent + self._own(ticket) > most:
                    break
                self._charge(ticket, self._own(ticket) + (prompt if ticket is first else 0))
                self.remove(ticket)
                batch.append(ticket)
                spent += self._own(ticket)
        return batch

    def _charge(self, ticket: Ticket, characters: float) -> None:
        """All that it waits for are given an equal part."""
        for caller in ticket.waiting.values():
            self._lines[caller].given += characters / len(ticket.waiting)
