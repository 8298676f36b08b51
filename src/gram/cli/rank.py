"""``gram rank``: the candidate answers of each prompt, best first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gram.cli.options import ModelOptions, check_output_file
from gram.progress import chunks_with_progress

if TYPE_CHECKING:
    from gram.types import Contest, PreferenceModel

_CHUNK = 16  # prompts ranked together


@dataclass(frozen=True, kw_only=True)
class Config(ModelOptions):
    """Rank the candidate answers of each prompt.

    The output has one row per prompt, in order: order (indices, best first), best, strengths and stderr
    (Bradley-Terry, natural-log odds), wins (mean probability of winning) and comparisons. A killed run goes
    on where it stopped when the same command is given again.
    """

    input: str
    """Rows with prompt and responses: a file, a dataset folder or a Hub name."""
    output: Path | None = None
    """JSON Lines file for the rankings; appears when all prompts are done. Default: print them."""
    schedule: Literal["round_robin"] = "round_robin"
    """Which candidates meet: round_robin: all of them."""
    split: str | None = None
    """Use only this split."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT.rejects.jsonl (else rejects.jsonl) and go on."""


def run(config: Config) -> dict[str, Any]:
    """Rank the input; returns counts and the cost in comparisons."""
    from gram.data import read_contests
    from gram.data.journal import Journal

    began = time.monotonic()
    rejects = Path("rejects.jsonl")
    if config.output is not None:
        check_output_file(config.output, config.input)
        rejects = config.output.with_name(config.output.name + ".rejects.jsonl")
    rows = read_contests(config.input, split=config.split, on_error=config.on_error, rejects=rejects)
    model = config.load_model()
    resumed = comparisons = 0
    if config.output is None:
        for record in _rankings(model, rows.records, 0, config.schedule):
            print(json.dumps(record, ensure_ascii=False), flush=True)
            comparisons += record["comparisons"]
    else:
        inputs = [source.sha256 for source in rows.sources]
        header = config.fingerprint() | {"input": inputs, "schedule": config.schedule}
        journal = Journal(config.output, header)
        resumed = journal.done
        for record in _rankings(model, rows.records, resumed, config.schedule):
            journal.append([record])
        comparisons = sum(record["comparisons"] for record in journal.records())
        journal.finish()
    return {
        "output": str(config.output) if config.output is not None else None,
        "prompts": len(rows.records),
        "resumed": resumed,
        "comparisons": comparisons,
        "rejected": rows.rejected,
        "truncated_prompts": model.truncated,
        "seconds": round(time.monotonic() - began, 2),
    }


def _rankings(
    model: PreferenceModel, contests: Sequence[Contest], start: int, schedule: str
) -> Iterator[dict[str, Any]]:
    """One row per contest from ``start`` on, in their order; contests of a chunk are ranked together."""
    from gram.ranking import rank_many

    for chunk in chunks_with_progress(contests, _CHUNK, start=start, title="ranking"):
        for contest, ranking in zip(chunk, rank_many(model, chunk, schedule=schedule), strict=True):
            yield ({"id": contest.id} if contest.id else {}) | {
                "order": list(ranking.order),
                "best": contest.responses[ranking.order[0]],
                "strengths": [float(x) for x in ranking.strengths],
                "stderr": [float(x) for x in ranking.stderr],
                "wins": [float(x) for x in ranking.wins],
                "comparisons": ranking.comparisons,
            }
