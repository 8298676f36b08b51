"""``gram mine``: chosen and rejected answers from ranked candidates, to train on."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gram.cli.options import counts
from gram.cli.rank import RankOptions
from gram.files import atomic_write
from gram.journal import Journal
from gram.paths import path_beside
from gram.progress import chunks
from gram.ranking.options import MiningOptions


@dataclass(frozen=True, kw_only=True)
class Config(MiningOptions, RankOptions):
    """Rank the candidate answers of each prompt and write chosen and rejected pairs.

    The output is in TRL's conversational preference format (prompt, chosen, rejected, margin), as DPO and
    reward trainers read it; the rankings behind it go to OUTPUT.rankings.jsonl. A killed run goes on where
    it stopped when the same command is given again.
    """

    output: Path
    """JSON Lines file for the pairs; appears when all prompts are done."""


def run(config: Config) -> dict[str, Any]:
    """Mine the input; returns counts and the cost in comparisons and tokens."""
    from gram.ranking.mining import check_rule

    check_rule(config.pairs, config.margin, config.limit)
    journal = path_beside(config.output, after=".rankings.jsonl")
    with config.claimed(config.output, journal):
        return _mine(config, journal)


def _mine(config: Config, path: Path) -> dict[str, Any]:
    from gram.data import read_contests
    from gram.ranking.rows import CHUNK, cost, mined_row, rankings

    start_time = time.monotonic()
    contests = config.read(read_contests, config.output)
    rule: dict[str, Any] = {"margin": config.margin, "limit": config.limit}
    fingerprint = config.ranking_fingerprint(contests) | {"pairs": config.pairs} | rule
    with config.at_work(len(chunks(contests.examples, CHUNK))) as workers:
        journal = Journal(path, fingerprint, rows=len(contests.examples), chunk=CHUNK)
        resumed = journal.done
        for chunk in rankings(workers, contests.examples, config.schedule_options, start=resumed):
            how = {"rule": config.pairs} | rule
            journal.append(mined_row(contest, ranking, **how) for contest, ranking in chunk)
    rows = list(journal.records())
    with atomic_write(config.output) as file:
        file.writelines(json.dumps(p, ensure_ascii=False) + "\n" for row in rows for p in row["pairs"])
    journal.finish()
    return {
        "output": str(config.output),
        "dtype": config.source.precision,
        "prompts": len(contests.examples),
        "resumed": resumed,
        "pairs": sum(len(row["pairs"]) for row in rows),
        "prompts_without_pairs": sum(not row["pairs"] for row in rows),
        "schedule": config.schedule,
        **cost(rows, resumed, workers.usage.tokens),
        "rejected": contests.rejected,
        **counts(workers.usage, resumed),
        "seconds": round(time.monotonic() - start_time, 2),
    }
