"""``gram rank``: the candidate answers of each prompt, best first."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gram.cli.options import InputOptions, counts
from gram.files import finite
from gram.journal import Journal
from gram.progress import chunks, print_json
from gram.ranking.options import RankingOptions

if TYPE_CHECKING:
    from gram.data import ExampleSet
    from gram.types import Contest


@dataclass(frozen=True, kw_only=True)
class RankOptions(RankingOptions, InputOptions):
    """What to rank, and how."""

    def ranking_fingerprint(self, rows: ExampleSet[Contest]) -> dict[str, Any]:
        """All that the rankings depend on."""
        return self.fingerprint(rows) | asdict(self.schedule_options)


@dataclass(frozen=True, kw_only=True)
class Config(RankOptions):
    """Rank the candidate answers of each prompt.

    The output has one row per prompt, in order: order (indices, best first), best, strengths and stderr
    (Bradley-Terry, natural-log odds), p_best (probability of being the best), wins (mean probability of
    winning), comparisons, ties (comparisons the model did not decide), cyclic (share of cyclic triples) and
    position_gap. A killed run goes on where it stopped when the same command is given again.
    """

    output: Path | None = None
    """JSON Lines file for the rankings; appears when all prompts are done. Default: print them."""


def run(config: Config) -> dict[str, Any]:
    """Rank the input; returns counts and the cost in comparisons and tokens."""
    with config.claimed(config.output):
        return _rank(config)


def _rank(config: Config) -> dict[str, Any]:
    from gram.data import read_contests
    from gram.ranking.rows import CHUNK, cost, ranking_row, rankings

    start_time = time.monotonic()
    contests = config.read(read_contests, config.output)
    resumed, rows = 0, []
    with config.at_work(len(chunks(contests.examples, CHUNK))) as workers:
        if config.output is None:
            for chunk in rankings(workers, contests.examples, config.schedule_options):
                for row in [ranking_row(contest, ranking) for contest, ranking in chunk]:
                    rows.append(row)
                    print_json(finite(row))
        else:
            fingerprint = config.ranking_fingerprint(contests)
            journal = Journal(config.output, fingerprint, rows=len(contests.examples), chunk=CHUNK)
            resumed = journal.done
            for chunk in rankings(workers, contests.examples, config.schedule_options, start=resumed):
                journal.append(ranking_row(contest, ranking) for contest, ranking in chunk)
            rows = list(journal.records())
            journal.finish()
    return {
        "output": str(config.output) if config.output is not None else None,
        "dtype": config.source.precision,
        "prompts": len(contests.examples),
        "resumed": resumed,
        "schedule": config.schedule,
        **cost(rows, resumed, workers.usage.tokens),
        "rejected": contests.rejected,
        **counts(workers.usage, resumed),
        "seconds": round(time.monotonic() - start_time, 2),
    }
