"""What to do when a model gives no answer: go on without it, count, warn, and stop before it gets silly.

Knows calls that fail; does not know what they compute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from gram.errors import ConfigError, GramError, ScoringError

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("gram.rl")

EXPECTED = (GramError, OSError)
"""Failures of a model or of the way to it. Anything else is a bug and is not caught."""


class Failures:
    """Counts what could not be scored in one run.

    Args:
        limit: most failures in all; one more stops the run at the next ``check``.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ConfigError(f"failure_limit must not be negative, got {limit}")
        self.limit = limit
        self.count = 0
        self.last = ""

    def attempt(self, items: Sequence[T], ask: Callable[[Sequence[T]], Sequence[R | None]]) -> list[R | None]:
        """What ``ask`` finds for each item; None for those it fails on, or finds nothing for.

        A call that fails is repeated on its two halves, so that one bad item costs no other. Once the limit
        is passed nothing more is asked.
        """
        if not items:
            return []
        if self.count > self.limit:
            self._note(len(items), "not asked any more")
            return [None] * len(items)
        try:
            found = list(ask(items))
        except EXPECTED as error:
            if len(items) == 1:
                self._note(1, str(error) or type(error).__name__)
                return [None]
            half = len(items) // 2
            return self.attempt(items[:half], ask) + self.attempt(items[half:], ask)
        if missing := sum(one is None for one in found):
            self._note(missing, "the model gave no number")
        return found

    def check(self, total: int | None = None) -> None:
        """Stop if there were too many failures; ``total``: over all processes.

        Raises:
            ScoringError: they are over the limit.
        """
        total = self.count if total is None else total
        if total > self.limit:
            raise ScoringError(
                f"no reward {total} times, over the limit of {self.limit}; the last: {self.last or '-'}"
            )

    def _note(self, count: int, reason: str) -> None:
        self.count += count
        self.last = reason
        _log.warning("no reward %d time(s), %d in all: %s", count, self.count, reason)
