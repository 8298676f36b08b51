"""``gram rank``: the candidate answers of each prompt, best first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gram.cli.options import ModelOptions, check_output_file, truncated_prompts
from gram.progress import chunks_with_progress

if TYPE_CHECKING:
    from gram.data import Loaded
    from gram.ranking import Ranking
    from gram.types import Contest, PreferenceModel

_CHUNK = 16  # prompts ranked together


@dataclass(frozen=True, kw_only=True)
class RankOptions(ModelOptions):
    """What to rank, and how."""

    input: str
    """Rows with prompt and responses: a file, a dataset folder or a Hub name."""
    schedule: Literal["round_robin", "linear", "knockout", "swiss", "merge"] = "round_robin"
    """Which candidates meet. round_robin: all of them; linear and knockout: n-1 comparisons, made to find the
    best; swiss: about n/2 log2 n; merge: the whole order in about n log2 n."""
    seed: int = 0
    """Of the order in which candidates enter the schedule."""
    budget: int | None = None
    """Most comparisons per prompt. Default: as many as the schedule wants."""
    split: str | None = None
    """Use only this split."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT.rejects.jsonl (else rejects.jsonl) and go on."""

    def read(self, output: Path | None) -> Loaded[Contest]:
        """The contests of the input; bad rows go beside ``output``."""
        from gram.data import check_rejects, read_contests

        rejects = Path("rejects.jsonl")
        if output is not None:
            check_output_file(output, self.input)
            rejects = output.with_name(output.name + ".rejects.jsonl")
        if self.on_error == "skip":
            check_rejects(rejects, [self.input, self.centre_on])
        return read_contests(self.input, split=self.split, on_error=self.on_error, rejects=rejects)

    def rankings(
        self, model: PreferenceModel, contests: Sequence[Contest], start: int = 0
    ) -> Iterator[tuple[Contest, Ranking]]:
        """Each contest from ``start`` on with its ranking, in order; those of a chunk are ranked together."""
        from gram.ranking import rank_many

        how: dict[str, Any] = {"schedule": self.schedule, "seed": self.seed, "budget": self.budget}
        for chunk in chunks_with_progress(contests, _CHUNK, start=start, title="ranking"):
            yield from zip(chunk, rank_many(model, chunk, **how), strict=True)

    def ranking_fingerprint(self, rows: Loaded[Contest]) -> dict[str, Any]:
        """What decides the rankings."""
        inputs = [source.sha256 for source in rows.sources]
        how = {"schedule": self.schedule, "seed": self.seed, "budget": self.budget}
        return self.fingerprint() | {"input": inputs} | how


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
    from gram.files import Journal, finite

    began = time.monotonic()
    rows = config.read(config.output)
    model = config.load_model()
    resumed, records = 0, []
    if config.output is None:
        for record in (row_of(*ranked) for ranked in config.rankings(model, rows.records)):
            print(json.dumps(finite(record), ensure_ascii=False), flush=True)
            records.append(record)
    else:
        journal = Journal(config.output, config.ranking_fingerprint(rows))
        resumed = journal.done
        for ranked in config.rankings(model, rows.records, resumed):
            journal.append([row_of(*ranked)])
        records = list(journal.records())
        journal.finish()
    return {
        "output": str(config.output) if config.output is not None else None,
        "prompts": len(rows.records),
        "resumed": resumed,
        "schedule": config.schedule,
        **cost(records, resumed, model.usage.tokens),
        "rejected": rows.rejected,
        "truncated_prompts": truncated_prompts(model, resumed),
        "seconds": round(time.monotonic() - began, 2),
    }


def row_of(contest: Contest, ranking: Ranking) -> dict[str, Any]:
    """One output row."""
    return ({"id": contest.id} if contest.id else {}) | {
        "order": list(ranking.order),
        "best": contest.responses[ranking.order[0]],
        "strengths": [float(x) for x in ranking.strengths],
        "stderr": [float(x) for x in ranking.stderr],
        "p_best": [float(x) for x in ranking.p_best],
        "wins": [float(x) for x in ranking.wins],
        "comparisons": ranking.comparisons,
        "ties": ranking.ties,
        "cyclic": ranking.cyclic,
        "position_gap": ranking.position_gap,
    }


def cost(records: Sequence[dict[str, Any]], resumed: int, tokens: int) -> dict[str, Any]:
    """What the rankings cost: comparisons of all prompts, tokens of those ranked in this run."""
    ranked = len(records) - resumed
    cycles = [record["cyclic"] for record in records if record["cyclic"] is not None]
    known = [share for share in cycles if share == share]
    return {
        "comparisons": sum(record["comparisons"] for record in records),
        "ties": sum(record["ties"] for record in records),
        "cyclic_triples": round(sum(known) / len(known), 4) if known else None,
        "tokens": tokens,
        "tokens_per_prompt": round(tokens / ranked) if ranked else None,
    }
