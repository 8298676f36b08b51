"""``gram rank``: the candidate answers of each prompt, best first."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gram.cli.options import ModelOptions
from gram.cli.progress import chunks_with_progress

_CHUNK = 16  # prompts per write: what a kill can cost


@dataclass(frozen=True, kw_only=True)
class Config(ModelOptions):
    """Rank the candidate answers of each prompt.

    The output has one row per prompt, in order: order (indices, best first), best, strengths and stderr
    (Bradley-Terry, natural-log odds), wins (mean probability of winning) and comparisons. A killed run goes
    on where it stopped when the same command is given again.
    """

    input: str
    """Rows with prompt and responses: a file, a dataset folder or a Hub name."""
    output: Path
    """JSON Lines file for the rankings; appears when all prompts are done."""
    schedule: Literal["round_robin"] = "round_robin"
    """Which candidates meet: round_robin: all of them."""
    split: str | None = None
    """Use only this split."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT.rejects.jsonl and go on."""


def run(config: Config) -> dict[str, Any]:
    """Rank the input; returns counts and the cost in comparisons."""
    from gram.data import read_contests
    from gram.data.journal import Journal
    from gram.ranking import Ranking, rank_many
    from gram.types import Contest

    def row(contest: Contest, ranking: Ranking) -> dict[str, Any]:
        return ({"id": contest.id} if contest.id else {}) | {
            "order": list(ranking.order),
            "best": contest.responses[ranking.order[0]],
            "strengths": [float(x) for x in ranking.strengths],
            "stderr": [float(x) for x in ranking.stderr],
            "wins": [float(x) for x in ranking.wins],
            "comparisons": ranking.comparisons,
        }

    began = time.monotonic()
    rejects = config.output.with_name(config.output.name + ".rejects.jsonl")
    rows = read_contests(config.input, split=config.split, on_error=config.on_error, rejects=rejects)
    header = config.fingerprint() | {
        "input": [source.sha256 for source in rows.sources],
        "schedule": config.schedule,
    }
    model = config.load_model()
    journal = Journal(config.output, header)
    resumed = journal.done
    for chunk in chunks_with_progress(rows.records, _CHUNK, start=resumed, title="ranking"):
        rankings = rank_many(model, chunk, schedule=config.schedule)
        journal.append([row(contest, ranking) for contest, ranking in zip(chunk, rankings, strict=True)])
    comparisons = sum(record["comparisons"] for record in journal.records())
    journal.finish()
    return {
        "output": str(config.output),
        "prompts": len(rows.records),
        "resumed": resumed,
        "comparisons": comparisons,
        "rejected": rows.rejected,
        "truncated_prompts": model.truncated,
        "seconds": round(time.monotonic() - began, 2),
    }
