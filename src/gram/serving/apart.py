"""A model in a process of its own, asked from the event loop; a process that died is replaced.

Knows models, units and processes; knows no queue and no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from gram.serving.facts import About, Facts, facts_of
from gram.serving.units import Outcome, Unit, answer_units
from gram.types import RewardModel
from gram.workers import Processes, Share

R = TypeVar("R")


class Worker(Protocol):
    """Whoever answers units; one batch at a time."""

    async def start(self) -> Facts:
        """Make the model, again if it is there already; gives its facts."""
        ...

    async def ask(self, units: Sequence[Unit]) -> list[Outcome]:
        """The outcome of each unit.

        Raises:
            WorkerDiedError: no outcome; another ``start`` may help.
        """
        ...

    async def end(self) -> None:
        """End at once, in whatever it is."""
        ...


class Apart:
    """A ``Worker`` that is a process. It ends with this one, or when it is told to, and by no SIGTERM.

    Args:
        make: gives the model, as in ``workers_with``.
        share: of the machine.
        about: what is known of the model, asked in the process.
    """

    def __init__(
        self,
        make: Callable[[Share], RewardModel],
        share: Share,
        about: Callable[[RewardModel], About],
    ) -> None:
        self._make = partial(_made_for, make, share)
        self._about = about
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gram-worker")
        self._processes: Processes[RewardModel] | None = None
        self.pid = 0

    async def start(self) -> Facts:
        self._kill()  # not in the thread, which may wait for it
        await self._in_thread(self._end)
        return await self._in_thread(self._start)

    async def ask(self, units: Sequence[Unit]) -> list[Outcome]:
        return await self._in_thread(self._call, answer_units, list(units))

    async def end(self) -> None:
        self._kill()
        await self._in_thread(self._end)
        self._thread.shutdown(wait=False)

    def _start(self) -> Facts:
        # SIGTERM to all processes of a service asks it to stop, which it does when it has answered.
        self._processes = Processes(self._make, 1, outlasts=(signal.SIGTERM,))
        self._processes.start()
        self.pid = self._call(_pid, None)
        return self._call(facts_of, self._about)

    def _call(self, function: Callable[[RewardModel, Any], R], part: Any) -> R:
        assert self._processes is not None
        return self._processes.result(self._processes.submit(function, part))

    def _kill(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self._processes is not None:
            self._processes.kill()

    def _end(self) -> None:
        self._kill()
        if self._processes is not None:
            self._processes.end()
        self._processes, self.pid = None, 0

    async def _in_thread(self, function: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args))


def _made_for(make: Callable[[Share], RewardModel], share: Share, _: Share) -> RewardModel:
    return make(share)


def _pid(_: object, __: None) -> int:
    return os.getpid()
