"""``gram score``: numbers for every row of a file, in its order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gram.cli.options import ModelOptions, check_output_file, truncated_prompts
from gram.errors import ConfigError
from gram.progress import chunks_with_progress

if TYPE_CHECKING:
    from gram.data import Scorable
    from gram.types import RewardModel

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


def score_rows(model: RewardModel, rows: Sequence[Scorable]) -> list[dict[str, Any]]:
    """One output row per input row; rows of one form are asked together.

    Raises:
        ConfigError: a single answer, and a model that can only compare.
    """
    from gram.types import Answer, Contest, Pair

    scorers = {Pair: _pair_rows, Contest: _contest_rows, Answer: _answer_rows}
    found: dict[int, dict[str, Any]] = {}
    for kind, scorer in scorers.items():
        places = [place for place, row in enumerate(rows) if isinstance(row.item, kind)]
        if places:
            found |= zip(places, scorer(model, [rows[place].item for place in places]), strict=True)
    return [({"id": row.id} if row.id else {}) | found[place] for place, row in enumerate(rows)]


def _pair_rows(model: RewardModel, pairs: Sequence[Any]) -> list[dict[str, Any]]:
    verdicts = model.compare(pairs)
    return [
        {"p_a": float(p_a), "log_odds": [float(x) for x in log_odds], "position_gap": float(gap)}
        for p_a, log_odds, gap in zip(verdicts.p_a, verdicts.log_odds, verdicts.position_gap, strict=True)
    ]


def _contest_rows(model: RewardModel, contests: Sequence[Any]) -> list[dict[str, Any]]:
    from gram.ranking import rank_many
    from gram.types import ScalarModel

    if not isinstance(model, ScalarModel):
        rankings = rank_many(model, contests)
        return [{"scores": list(map(float, r.strengths)), "order": list(r.order)} for r in rankings]
    prompts = [contest.prompt for contest in contests for _ in contest.responses]
    scores = iter(model.score(prompts, [answer for contest in contests for answer in contest.responses]))
    rows = []
    for contest in contests:
        mine = [float(next(scores)) for _ in contest.responses]
        rows.append({"scores": mine, "order": sorted(range(len(mine)), key=lambda place: -mine[place])})
    return rows


def _answer_rows(model: RewardModel, answers: Sequence[Any]) -> list[dict[str, Any]]:
    from gram.types import ScalarModel

    if not isinstance(model, ScalarModel):
        raise ConfigError(
            "a judge compares answers and cannot score a single one: "
            "give pairs or candidates, or use --kind likelihood"
        )
    scores = model.score([answer.prompt for answer in answers], [answer.response for answer in answers])
    return [{"score": float(score)} for score in scores]
