"""``gram score``: numbers for every row of a file, in its order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gram.cli.options import ModelOptions, check_output_file, truncated_prompts
from gram.progress import chunks_with_progress

_CHUNK = 128  # rows per write: what a kill can cost


@dataclass(frozen=True, kw_only=True)
class Config(ModelOptions):
    """Score pairs, candidates or single answers; the output has one row per input row, in its order.

    Pairs get p_a, log_odds (a shown first, a shown second) and position_gap. Candidates get scores and
    order, best first. Single answers get score (not from a judge: it compares). A killed run goes on where
    it stopped when the same command is given again.
    """

    input: str
    """Rows to score: a file, a dataset folder or a Hub name."""
    output: Path
    """JSON Lines file for the scores; appears when all rows are scored."""
    split: str | None = None
    """Use only this split."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT.rejects.jsonl and go on."""


def run(config: Config) -> dict[str, Any]:
    """Score the input; returns counts."""
    from gram.data import check_rejects, read_scorables
    from gram.files import Journal
    from gram.scoring.rows import score_rows

    began = time.monotonic()
    check_output_file(config.output, config.input)
    rejects = config.output.with_name(config.output.name + ".rejects.jsonl")
    if config.on_error == "skip":
        check_rejects(rejects, [config.input, config.centre_on])
    rows = read_scorables(config.input, split=config.split, on_error=config.on_error, rejects=rejects)
    header = config.fingerprint() | {"input": [source.sha256 for source in rows.sources]}
    model = config.load_model()
    journal = Journal(config.output, header)
    resumed = journal.done
    for chunk in chunks_with_progress(rows.records, _CHUNK, start=resumed, title="scoring"):
        journal.append(score_rows(model, chunk))
    journal.finish()
    return {
        "output": str(config.output),
        "rows": len(rows.records),
        "resumed": resumed,
        "rejected": rows.rejected,
        "truncated_prompts": truncated_prompts(model, resumed),
        "seconds": round(time.monotonic() - began, 2),
    }
