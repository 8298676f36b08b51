"""Silences the messages of libraries that commands do not show."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")


def quiet_libraries() -> None:
    """Silence transformers' advice and progress bars; commands have messages and bars of their own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def quietly(work: Callable[[Given], Result]) -> Callable[[Given], Result]:
    """``work`` as a command does it, with libraries silenced.

    Example:
        >>> quietly(abs)(-2)
        2
    """

    @wraps(work)
    def silenced(given: Given) -> Result:
        quiet_libraries()
        return work(given)

    return silenced
