"""``gram mine``: chosen and rejected answers from ranked candidates, to train on."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gram.cli.options import truncated_prompts
from gram.cli.rank import RankOptions, cost, row_of

if TYPE_CHECKING:
    from gram.ranking import MinedPair
    from gram.types import Contest


@dataclass(frozen=True, kw_only=True)
class Config(RankOptions):
    """Rank the candidate answers of each prompt and write chosen and rejected pairs.

    The output is in TRL's conversational preference format (prompt, chosen, rejected, margin), as DPO and
    reward trainers read it; the rankings behind it go to OUTPUT.rankings.jsonl. A killed run goes on where
    it stopped when the same command is given again.
    """

    output: Path
    """JSON Lines file for the pairs; appears when all prompts are done."""
    pairs: Literal["best_worst", "margin"] = "best_worst"
    """best_worst: one pair per prompt. margin: every two candidates that stand far enough apart."""
    margin: float = 0.0
    """The strengths (natural-log odds) of chosen and rejected must differ by more than this."""
    limit: int | None = None
    """margin: most pairs per prompt, widest margin first. Default: all."""


def run(config: Config) -> dict[str, Any]:
    """Mine the input; returns counts and the cost in comparisons and tokens."""
    from gram.files import Journal, atomic_write
    from gram.ranking.mining import check_rule, mine

    began = time.monotonic()
    check_rule(config.pairs, config.margin, config.limit)
    rows = config.read(config.output)
    model = config.load_model()
    how = {"pairs": config.pairs, "margin": config.margin, "limit": config.limit}
    journal = Journal(
        config.output.with_name(config.output.name + ".rankings.jsonl"),
        config.ranking_fingerprint(rows) | how,
    )
    resumed = journal.done
    for contest, ranking in config.rankings(model, rows.records, resumed):
        pairs = mine(contest, ranking, config.pairs, margin=config.margin, limit=config.limit)
        journal.append([row_of(contest, ranking) | {"pairs": [_trl_row(contest, pair) for pair in pairs]}])
    records = list(journal.records())
    written = 0
    with atomic_write(config.output) as file:
        for record in records:
            for pair in record["pairs"]:
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")
                written += 1
    journal.finish()
    return {
        "output": str(config.output),
        "prompts": len(rows.records),
        "resumed": resumed,
        "pairs": written,
        "prompts_without_pairs": sum(not record["pairs"] for record in records),
        "schedule": config.schedule,
        **cost(records, resumed, model.usage.tokens),
        "rejected": rows.rejected,
        "truncated_prompts": truncated_prompts(model, resumed),
        "seconds": round(time.monotonic() - began, 2),
    }


def _trl_row(contest: Contest, pair: MinedPair) -> dict[str, Any]:
    return ({"id": contest.id} if contest.id else {}) | {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in contest.prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "margin": pair.margin,
    }
