"""Where bad rows go: a file of rejects beside the output, or an error at once.

Knows outputs and rejects as files; knows no forms of rows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, TextIO, TypeAlias

from gram.data.row import Rejected
from gram.errors import ConfigError
from gram.files import atomic_write

OnError: TypeAlias = Literal["raise", "skip"]


class Rejects:
    """Counts bad rows, and writes them down or raises the first."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.count = 0
        self.unread = 0

    def reject_unread(self, rejected: Rejected) -> None:
        """As ``reject``, for what did not even become a row."""
        self.unread += 1
        self.reject(rejected)

    def reject(self, rejected: Rejected) -> None:
        """Write down a row that cannot be used, or raise its error."""
        error = rejected.error
        if self._stream is None:
            raise error
        entry = {"file": error.file, "line": error.line, "field": error.field, "reason": error.reason}
        try:
            line = json.dumps(entry | {"row": rejected.raw}, default=str)
        except (ValueError, RecursionError):  # nested, or a number, beyond what can be written
            line = json.dumps(entry | {"row": None})
        print(line, file=self._stream)
        self.count += 1


@contextmanager
def rejecting(on_error: OnError, path: Path | None) -> Iterator[Rejects]:
    """What to do with bad rows, by ``on_error``; the file appears at the end, if there were any."""
    if on_error == "raise":
        yield Rejects(None)
        return
    if path is None:
        raise ConfigError("on_error='skip' needs a rejects file: rows are never dropped silently")
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(atomic_write(path, skip_empty=True))
        except OSError as error:
            raise ConfigError(f"the rejects file {path} cannot be written: {error}") from error
        bad = Rejects(stream)
        yield bad
    if bad.count:
        rows = "row" if bad.count == 1 else "rows"
        print(f"warning: {bad.count} bad {rows} rejected, see {path}", file=sys.stderr)
