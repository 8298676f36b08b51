"""What a server takes and how long it waits: every limit is a field here, and ``/v1/limits`` shows them.

Knows numbers; knows no request and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gram.bounds import Count, Within, check_bounds

MOST_TOKENS = {"cpu": 8_192, "cuda": 65_536}
"""Tokens of a batch where the options say nothing: two passes of a CPU, or half of one of a GPU."""

Seconds = Annotated[float, Within(0, 86_400, open="low")]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All limits of a server.

    Raises:
        ConfigError: a limit that makes no sense.

    Example:
        >>> Limits(max_queue=100).max_queue
        100
    """

    max_batch_tokens: Count = MOST_TOKENS["cpu"]
    """Tokens, about, that a process is given at once; what comes meanwhile waits for the next batch."""
    max_queue: Count = 4_096
    """Comparisons and answers that wait, of all callers together; more are answered with 429. A request that
    alone has more, with 413."""
    max_items: Count = 1_024
    """Pairs, answers or documents in one request; more are answered with 413."""
    max_candidates: Count = 64
    """Candidates that a judge ranks in one request."""
    max_characters: Count = 400_000
    """Of one text. A model reads some thousand tokens and cuts the rest, but tokenizing takes its time."""
    max_body_bytes: Count = 8 * 2**20
    """Of one request's body; more is answered with 413."""
    max_held_bytes: Count = 256 * 2**20
    """Of the bodies of all requests that are not answered yet; more are answered with 429."""
    max_connections: Count = 2_048
    """Open at a time; more are answered with 503."""
    body_seconds: Seconds = 30.0
    """Until a body has arrived; then 408."""
    deadline_seconds: Seconds = 300.0
    """Until a request is answered; then 504. A request may ask for less (header X-Deadline-Seconds)."""
    drain_seconds: Count = 300
    """That a server which is told to stop gives the requests it has taken."""
    cache_entries: Annotated[int, Within(0)] = 65_536
    """Finished comparisons and answers that are remembered, about 300 bytes each."""

    def __post_init__(self) -> None:
        check_bounds(self)
