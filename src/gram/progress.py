"""The progress bar of work done in chunks, on stderr, and only where that is a terminal. Knows no work."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chunks_with_progress(
    items: Sequence[Item], size: int, *, start: int = 0, title: str, show: bool = True
) -> Iterator[Sequence[Item]]:
    """``items`` from ``start`` on, ``size`` at a time; each counts as done when the next is asked for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not (show and sys.stderr.isatty())) as bars:
        bar = bars.add_task(title, total=len(items), completed=start)
        for place in range(start, len(items), size):
            yield items[place : place + size]
            bars.update(bar, completed=min(place + size, len(items)))
