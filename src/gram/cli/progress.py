"""What commands show on stderr: one progress bar of ours, and not the chatter of the libraries below."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chunks_with_progress(
    items: Sequence[Item], size: int, *, start: int = 0, title: str
) -> Iterator[Sequence[Item]]:
    """``items`` from ``start`` on, ``size`` at a time; each counts as done when the next is asked for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        bar = bars.add_task(title, total=len(items), completed=start)
        for place in range(start, len(items), size):
            yield items[place : place + size]
            bars.update(bar, completed=min(place + size, len(items)))


def quiet_libraries() -> None:
    """Silence transformers' advice and its own progress bars: ours says what a person needs to see."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
