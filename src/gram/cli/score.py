"""``gram score``: numbers for every row of a file, in its order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gram.cli.options import InputOptions, counts
from gram.journal import Journal
from gram.progress import chunks, parts_with_progress

_CHUNK = 128  # rows per write: what a kill can cost


@dataclass(frozen=True, kw_only=True)
class Config(InputOptions):
    """Score pairs, candidates or single answers; the output has one row per input row, in its order.

    Pairs get p_a, log_odds (a shown first, a shown second) and position_gap. Candidates get scores and
    order, best first. Single answers get score (not from a judge: it compares). A killed run goes on where
    it stopped when the same command is given again.
    """

    output: Path
    """JSON Lines file for the scores; appears when all rows are scored."""


def run(config: Config) -> dict[str, Any]:
    """Score the input; returns counts."""
    with config.claimed(config.output):
        return _score(config)


def _score(config: Config) -> dict[str, Any]:
    from gram.data import read_scorables
    from gram.scoring.rows import score_rows

    start_time = time.monotonic()
    rows = config.read(read_scorables, config.output)
    with config.at_work(len(chunks(rows.examples, _CHUNK))) as workers:
        journal = Journal(config.output, config.fingerprint(rows), rows=len(rows.examples), chunk=_CHUNK)
        resumed = journal.done
        parts = chunks(rows.examples, _CHUNK, start=resumed)
        bar = parts_with_progress(parts, done=resumed, title="scoring")
        for _, scores in zip(bar, workers.map(score_rows, parts), strict=True):
            journal.append(scores)
    journal.finish()
    return {
        "output": str(config.output),
        "dtype": config.source.precision,
        "rows": len(rows.examples),
        "resumed": resumed,
        "rejected": rows.rejected,
        **counts(workers.usage, resumed),
        "seconds": round(time.monotonic() - start_time, 2),
    }
