"""``gram bulk``: ``gram score`` for more rows than one process is to score."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from gram.bulk.options import BulkOptions
from gram.cli.options import InputOptions, counts


@dataclass(frozen=True, kw_only=True)
class Config(BulkOptions, InputOptions):
    """Score rows as gram score does, in processes on Ray (extra ray), into shards.

    OUTPUT gets shard-00000.jsonl and so on, each row with its number in the input as row, and manifest.json.
    A row over which a process fails or dies goes to the rejects of its shard. A killed run goes on where it
    stopped when the same command is given again, with any number of actors.
    """

    on_error: Literal["raise", "skip"] = "skip"
    """A row that cannot be used: write it to OUTPUT.rejects.jsonl or the rejects of its shard; or stop."""
    workers: int = field(default=1, init=False)  # these are --num-actors


def run(config: Config) -> dict[str, Any]:
    """Score the input; returns counts."""
    from gram.bulk.job import score_in_bulk
    from gram.data import read_scorables
    from gram.scoring.rows import score_rows

    start_time = time.monotonic()
    with config.claimed_folder(config.output):
        rows = config.read(read_scorables, config.output)
        header = config.fingerprint(rows) | {"columns": config.columns}
        work = rows.examples, config.source.load, score_rows, config, header
        done = score_in_bulk(*work, device=config.device, stop_at_failure=config.on_error == "raise")
    return {
        "output": str(config.output),
        "dtype": config.source.precision,
        "rows": done.rows,
        "resumed": done.resumed,
        "rejected": rows.rejected + done.failed,
        "shards": done.shards,
        "num_actors": config.num_actors,
        **counts(done.usage, done.resumed),
        "scoring_seconds": done.scoring_seconds,
        "seconds": round(time.monotonic() - start_time, 2),
    }
