"""What commands say: while they work lines on stderr, and a bar where that is a terminal; JSON on stdout.

Knows no work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def on_stderr(line: str) -> None:
    """Say a line to the person in front of a command; stdout belongs to its result."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print ``value`` as one line; where stdout lacks one of its letters, JSON's escapes stand for them.

    Example:
        >>> print_json({"id": "né", "mean": None})
        {"id": "né", "mean": null}
    """
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # ASCII in a container, or a path that is no UTF-8
        line = json.dumps(value)
    print(line, flush=True)


def chunks(items: Sequence[T], size: int, *, start: int = 0) -> list[Sequence[T]]:
    """``items`` from ``start`` on, ``size`` at a time.

    Example:
        >>> chunks([1, 2, 3, 4, 5], 2, start=1)
        [[2, 3], [4, 5]]
    """
    return [items[place : place + size] for place in range(start, len(items), size)]


def parts_with_progress(
    parts: Sequence[Sequence[T]], *, start: int = 0, done: int = 0, title: str, show: bool = True
) -> Iterator[Sequence[T]]:
    """``parts`` from number ``start`` on, of any sizes; each counts as done when the next is asked for.

    The bar counts items: those of the parts before ``start``, and ``done`` more, are done already.

    Example:
        >>> list(parts_with_progress([[1], [2, 3]], start=1, title="scoring", show=False))
        [[2, 3]]
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not (show and sys.stderr.isatty())) as bars:
        completed = done + sum(len(part) for part in parts[:start])
        rest = sum(len(part) for part in parts[start:])
        bar = bars.add_task(title, total=completed + rest, completed=completed)
        for part in parts[start:]:
            yield part
            bars.advance(bar, len(part))
