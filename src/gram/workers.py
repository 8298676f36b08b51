"""A model in several processes: each has a copy of its own, and parts of the work go to whichever is free.

Results come in the order of the parts, whatever the number of processes. Knows of a model that it may count
its usage; knows no kind of model, no file and no command.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from signal import Signals
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from gram.errors import ScoringError
from gram.types import RewardModel, Usage

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2  # parts per process that are given out: one is in work, the other is at hand


class Share(NamedTuple):
    """The ``number``-th of ``of`` processes, from 0.

    Attributes:
        apart: it has cores, and a GPU, of its own already; else the processes share those of one machine.
    """

    number: int
    of: int
    apart: bool = False


WHOLE = Share(0, 1)


class Workers(ABC, Generic[M_co]):
    """One or more processes that each have the same model."""

    @abstractmethod
    def map(self, function: Callable[[M_co, T], R], parts: Iterable[T]) -> Iterator[R]:
        """What ``function`` makes of the model and each of ``parts``, in their order.

        Raises:
            ScoringError: a process died.
        """

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """What all answers so far took together; none for a model that does not count."""


class Alone(Workers[M_co]):
    """This process, with a model that it has already.

    Example:
        >>> list(Alone(10).map(lambda model, part: model + part, [1, 2]))
        [11, 12]
    """

    def __init__(self, model: M_co) -> None:
        self.model = model

    def map(self, function: Callable[[M_co, T], R], parts: Iterable[T]) -> Iterator[R]:
        for part in parts:
            yield function(self.model, part)

    @property
    def usage(self) -> Usage:
        return usage_of_model(self.model)


@contextmanager
def workers_with(make: Callable[[Share], M], count: int) -> Iterator[Workers[M]]:
    """``count`` processes with what ``make`` gives, for the block; for one that is this process.

    The processes end with the block, and die with this one. They write nothing to stdout, are not interrupted
    from the keyboard, and what they log or warn of is told here, once for all.

    Args:
        make: called once in each process, at the same time; it and the functions to be mapped can be pickled.

    Raises:
        ScoringError: a process died.
        Exception: what ``make`` raises.
    """
    if count == 1:
        yield Alone(make(WHOLE))
        return
    processes = Processes(make, count)
    try:
        processes.start()
        yield processes
    except BaseException:
        processes.kill()
        raise
    finally:
        processes.end()


_Notes: TypeAlias = list[tuple[Hashable, Callable[[], None]]]
"""What is to be told, each with what makes it the same as what another process says."""


class WorkerDiedError(ScoringError):
    """A process was killed, or ran out of memory; another may be asked the same again."""


class Processes(Workers[M_co]):
    """``count`` processes that are started with the first call; see ``workers_with``, which ends them too.

    Args:
        outlasts: signals that end none, beside an interrupt. A pool of several ends by SIGTERM if one dies.
    """

    def __init__(self, make: Callable[[Share], M_co], count: int, outlasts: Collection[Signals] = ()) -> None:
        context = get_context("spawn")  # a fork would not bring torch's threads along
        reading, self._life = context.Pipe(duplex=False)
        self._ignored = {signal.SIGINT, *outlasts}
        begin = make, count, context.Value("i", 0), reading, self._ignored
        self._pool = ProcessPoolExecutor(count, context, _begin, begin)
        self._count = count
        self._usage = Usage()
        self._told: set[Hashable] = set()

    def start(self) -> None:
        """Start all of them, and wait until the first has its model."""
        first, *_ = [self.submit(_usage_at, None) for _ in range(self._count)]
        self._usage = self.result(first)

    def map(self, function: Callable[[M_co, T], R], parts: Iterable[T]) -> Iterator[R]:
        given: deque[Future[_Answer]] = deque()
        for part in parts:
            given.append(self.submit(function, part))
            if len(given) >= _AHEAD * self._count:
                yield self.result(given.popleft())
        while given:
            yield self.result(given.popleft())

    @property
    def usage(self) -> Usage:
        return self._usage

    def kill(self) -> None:
        """Let them die in the midst of their work."""
        self._life.close()

    def end(self) -> None:
        """Wait for their end."""
        self._pool.shutdown(cancel_futures=True)
        self._life.close()

    def submit(self, function: Callable[[Any, T], Any], part: T) -> Future[_Answer]:
        """Give out a part; ``result`` waits for what comes of it.

        Raises:
            WorkerDiedError: one died before.
        """
        with _deaths_told(), _blocked(self._ignored):
            return self._pool.submit(_answer, function, part)

    def result(self, future: Future[_Answer]) -> Any:
        """What came of a part.

        Raises:
            WorkerDiedError: a process died first.
            Exception: what the function raised there.
        """
        with _deaths_told():
            answer = future.result()
        self._usage += answer.usage
        for key, tell in answer.notes:
            if key not in self._told:
                self._told.add(key)
                tell()
        return answer.value


@contextmanager
def _deaths_told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerDiedError(
            "a worker died: killed, or out of memory (each holds a model of its own; fewer need less)"
        ) from error


@contextmanager
def _blocked(signals: Collection[Signals]) -> Iterator[None]:
    """What is started in the block never hears of these signals, not even before its first own step."""
    if not hasattr(signal, "pthread_sigmask"):  # not a POSIX system
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What follows runs in the processes.


class _Answer(NamedTuple):
    value: Any
    usage: Usage
    notes: _Notes


_model: Any = None
_failure: Exception | None = None
_notes: _Notes = []


def _begin(
    make: Callable[[Share], Any], count: int, numbers: Any, parent: Connection, ignored: Collection[Signals]
) -> None:
    global _model, _failure
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_die_with, args=(parent,), daemon=True).start()
    with contextlib.suppress(OSError):  # stderr may be closed
        os.dup2(2, 1)  # stdout is for the result of the command
    logging.getLogger().addHandler(_Keeping(logging.WARNING))
    warnings.showwarning = _keep_warning
    with numbers.get_lock():
        place = numbers.value
        numbers.value += 1
    try:
        _model = make(Share(place, count))
    except Exception as error:  # an error here would lose its type: whoever asks for something gets it
        _failure = error


def _die_with(parent: Connection) -> None:
    """End this process when the other end of the pipe is closed: by its holder, or with it."""
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    os._exit(1)


def _answer(function: Callable[[Any, T], Any], part: T) -> _Answer:
    if _failure is not None:
        raise _failure
    before = usage_of_model(_model)
    value = function(_model, part)
    notes = _notes[:]
    _notes.clear()
    return _Answer(value, usage_of_model(_model) - before, notes)


def _usage_at(model: Any, _: None) -> Usage:
    return usage_of_model(model)


def usage_of_model(model: object) -> Usage:
    """What all answers of a model took so far; nothing where it does not count.

    Example:
        >>> usage_of_model("no model").tokens
        0
    """
    return model.usage if isinstance(model, RewardModel) else Usage()


class _Keeping(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell = partial(_log, record.name, record.levelno, record.getMessage())
        words = record.args if isinstance(record.args, tuple) else ()
        names = tuple(str(word) for word in words if not isinstance(word, float))  # a mean is of one part
        _notes.append(((record.name, record.msg, *names), tell))


def _log(name: str, level: int, text: str) -> None:
    logging.getLogger(name).log(level, "%s", text)


def _keep_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    tell = partial(warnings.warn_explicit, str(message), category, filename, lineno)
    _notes.append(((category.__name__, str(message)), tell))
