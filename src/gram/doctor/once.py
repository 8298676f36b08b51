"""A fact: worked out when it is first needed, once, and remembered with what was said and went wrong then.

Knows warnings and the package's log; knows no model.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Unknown(Exception):  # noqa: N818 - it is no error of a program
    """A fact that could not be worked out.

    Attributes:
        fact: its name.
        reason: what was raised.
    """

    def __init__(self, fact: str, reason: Exception) -> None:
        super().__init__(f"{fact}: {reason}")
        self.fact = fact
        self.reason = reason


class Fact(Generic[T]):
    """Makes a method an attribute that is worked out once; whoever reads a failed one gets ``Unknown``.

    A fact that needs another one which failed is not to blame: its ``Unknown`` names that one. The object
    has ``known`` and ``heard``: values by the name of the fact, and what was warned of on the way to them.

    Example:
        >>> class Things:
        ...     def __init__(self):
        ...         self.known, self.heard = {}, {}
        ...     @Fact
        ...     def first(self): return 1 / 0
        ...     @Fact
        ...     def second(self): return self.first + 1
        >>> try:
        ...     Things().second
        ... except Unknown as unknown:
        ...     unknown.fact, unknown.reason
        ('first', ZeroDivisionError('division by zero'))
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, things: Any, owner: type | None = None) -> T:
        if self._name not in things.known:
            things.known[self._name] = self._found(things)
        found = things.known[self._name]
        if isinstance(found, Unknown):
            raise found
        return found

    def _found(self, things: Any) -> T | Unknown:
        with listening() as heard:
            try:
                return self._make(things)
            except Unknown as unknown:
                return unknown
            except Exception as reason:  # a broken model raises whatever its libraries raise
                return Unknown(self._name, reason)
            finally:
                things.heard[self._name] = heard


@contextmanager
def listening() -> Iterator[list[str]]:
    """What is warned of in the block, in Python's way or in the log of gram, in place of being printed.

    Example:
        >>> with listening() as heard:
        ...     warnings.warn("mind the step")
        >>> heard
        ['mind the step']
    """
    heard: list[str] = []
    log = logging.getLogger("gram")
    handlers, propagates = log.handlers, log.propagate
    log.handlers, log.propagate = [_Ear(heard)], False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("always", category=UserWarning)
            yield heard
        heard.extend(" ".join(str(item.message).split()) for item in caught)
    finally:
        log.handlers, log.propagate = handlers, propagates


class _Ear(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())
