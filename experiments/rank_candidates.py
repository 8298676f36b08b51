r"""``gram rank`` on 100 prompts x 16 answers of the world: its input, and the gold of the winners it found.

    python experiments/rank_candidates.py write runs/world/candidates.jsonl [--seed 22]
    for schedule in round_robin linear knockout swiss merge; do
        gram rank --model runs/world/seed-22/judge --input runs/world/candidates.jsonl \
            --schedule $schedule --output runs/world/ranked-$schedule.jsonl
    done
    python experiments/rank_candidates.py read runs/world/candidates.jsonl runs/world/ranked-*.jsonl

The prompts, answers and gold are those of experiments/ranking_study.py; the model is that of
experiments/world_models.py. ``read`` prints a row per ranking: mean gold with its 95% interval over prompts,
and comparisons a prompt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

try:
    from experiments.ranking_report import interval
    from experiments.ranking_study import mean_with_interval, world_pools
except ModuleNotFoundError:  # run as a script, its own folder comes first
    from ranking_report import interval
    from ranking_study import mean_with_interval, world_pools


def write(path: Path, seed: int) -> None:
    """The contests of one world, with ``gold``, which ``gram rank`` does not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for pool in world_pools(seed, prompts=100, candidates=16):
            contest = pool.contest
            row = {
                "id": contest.id,
                "prompt": contest.prompt[0].content,
                "responses": list(contest.responses),
                "gold": pool.gold.tolist(),
            }
            file.write(json.dumps(row) + "\n")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(candidates: Path, rankings: list[Path]) -> str:
    """Gold of the winner and comparisons a prompt of each ranking, as Markdown."""
    asked = rows(candidates)
    lines = ["| ranking | gold of the winner [95%] | comparisons a prompt |", "|---|---|---|"]
    for path in rankings:
        ranked = rows(path)
        gold = np.array([row["gold"][found["order"][0]] for row, found in zip(asked, ranked, strict=True)])
        comparisons = np.mean([row["comparisons"] for row in ranked])
        lines.append(f"| {path.stem} | {interval(mean_with_interval(gold))} | {comparisons:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("write", "read"))
    parser.add_argument("candidates", type=Path)
    parser.add_argument("rankings", type=Path, nargs="*")
    parser.add_argument("--seed", type=int, default=22)
    options = parser.parse_args()
    if options.what == "write":
        write(options.candidates, options.seed)
    else:
        print(table(options.candidates, options.rankings))


if __name__ == "__main__":
    main()
