"""What to do when a model gives no answer: go on without it, count, warn, and stop when there are too many.

Knows calls that fail; does not know what they compute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from gram.bounds import Within, check_number
from gram.errors import ConfigError, GramError, ScoringError, UnreachableError

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("gram.rl")

EXPECTED = (GramError, OSError)
"""Failures of a model or of the way to it. Anything else is a bug and is not caught."""
_GONE = (UnreachableError, ConnectionError, TimeoutError)  # would fail for every half too, each as slowly


class Failures:
    """Counts what could not be scored in one run.

    Args:
        limit: most failures in the whole run; one more stops it at the next ``check``.
    """

    def __init__(self, limit: int) -> None:
        check_number("failure_limit", limit, int, Within(0))
        self.limit = limit
        self.count = 0
        self.last = ""

    def attempt(self, items: Sequence[T], ask: Callable[[Sequence[T]], Sequence[R | None]]) -> list[R | None]:
        """The result of ``ask`` for each item; None where it fails or gives None.

        A call that fails is repeated on its two halves, so that one bad item does not lose the others; not
        where the model cannot be reached, or does not answer in time, which is the fault of no item. Once
        there are more failures than the limit, ``ask`` is not called any more.
        """
        if not items:
            return []
        if self.count > self.limit:
            self.note(len(items), "not asked any more")
            return [None] * len(items)
        try:
            results = list(ask(items))
        except ConfigError:  # no fault of a row, and the same for the next one
            raise
        except EXPECTED as error:
            if len(items) == 1 or isinstance(error, _GONE):
                self.note(len(items), str(error) or type(error).__name__)
                return [None] * len(items)
            half = len(items) // 2
            return self.attempt(items[:half], ask) + self.attempt(items[half:], ask)
        if missing_count := sum(result is None for result in results):
            self.note(missing_count, "the model gave no number")
        return results

    def check(self, total: int | None = None) -> None:
        """Stop if there were too many failures.

        Args:
            total: failures of all processes; by default those of this one.

        Raises:
            ScoringError: they are over the limit.
        """
        total = self.count if total is None else total
        if total > self.limit:
            raise ScoringError(
                f"no reward {total} times, over the limit of {self.limit}; the last: {self.last or '-'}"
            )

    def note(self, count: int, reason: str) -> None:
        """Count failures and warn; ``check`` stops where there are too many."""
        self.count += count
        self.last = reason
        _log.warning("no reward %d time(s), %d in all: %s", count, self.count, reason)
