"""The demonstration over fresh seeds, with the control that shows the cause.

Claim (arXiv 2506.14175): pre-training on unlabeled responses is what makes a reward model generalise beyond
its labels. Here: accuracy on families of questions that never had a label.

Scale: the full recipe of ``gram demo`` (0.7M parameters, 44,800 unlabeled pairs, 3,000 labels). For each seed
the seven methods of the demonstration, best of 8, and two controls of stage 1:
  unlabeled_seen_only   stage 1 never saw the families without labels: if the unlabeled data are the cause,
                        their accuracy must fall to chance;
  independent_policies  the policies of the two answers are drawn independently, so that the second answer
                        says nothing about the first.

Seeds 11 to 15 were not used for tuning (1, 100 and 101 were, see LOG.md). Cost: about 14 minutes of one core
a seed. Command: python experiments/world_seeds.py [--seeds 11 12 13 14 15] [--output FILE.jsonl] [--table]
A part whose result is on file is not run again. The table printed at the end is the one in docs/world.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from gram.demo.lab import Lab
from gram.demo.recipe import FULL
from gram.demo.story import measure, tell, test_pairs
from gram.demo.world import World
from gram.modeling.quiet import quiet_libraries
from gram.statistics import over_seeds

STORY = "story"
PARTS = (STORY, "unlabeled_seen_only", "independent_policies")


def run_part(seed: int, part: str) -> dict[str, Any]:
    """The story or one control for one seed; accuracy is on fresh test pairs."""
    began = time.monotonic()
    world = World(seed)
    lab = Lab(world, replace(FULL, few_labels=()), seed)
    result: dict[str, Any] = {"seed": seed, "part": part}
    if part == STORY:
        story = tell(lab)
        result["accuracy"] = story.accuracy
        result["best_of_8"] = {chooser: curve[8].value for chooser, curve in story.best_of_n.items()}
    else:
        families = world.seen_families if part == "unlabeled_seen_only" else None
        body = lab.pretrained(families, correlated=part != "independent_policies")
        judge = lab.judge(body, FULL.labels, title=part)
        result["accuracy"] = {part: measure(judge, test_pairs(world, FULL.test_pairs))}
    result["accuracy"] = {
        method: {half: estimate.value for half, estimate in row.items()}
        for method, row in result["accuracy"].items()
    }
    return result | {"seconds": round(time.monotonic() - began, 1)}


def table(results: list[dict[str, Any]]) -> str:
    """Mean over seeds, its 95% interval (Student's t) and the range, as Markdown."""
    lines = ["| method | families with labels | never labeled | seeds |", "|---|---|---|---|"]
    methods = list(dict.fromkeys(method for result in results for method in result["accuracy"]))
    for method in methods:
        rows = [result["accuracy"][method] for result in results if method in result["accuracy"]]
        cells = [_cell([row[half] for row in rows]) for half in ("seen", "unseen")]
        lines.append(f"| {method} | {cells[0]} | {cells[1]} | {len(rows)} |")
    lines += ["", "| chooser | gold of the best of 8 |", "|---|---|"]
    stories = [result for result in results if result["part"] == STORY]
    for chooser in stories[0]["best_of_8"]:
        lines.append(f"| {chooser} | {_cell([result['best_of_8'][chooser] for result in stories])} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    estimate = over_seeds(values)
    half_width = estimate.high - estimate.value
    return f"{estimate.value:.3f} ± {half_width:.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("experiments/results/world_seeds.jsonl"))
    parser.add_argument(
        "--table", action="store_true", help="run nothing: print the table of what is on file"
    )
    options = parser.parse_args()
    quiet_libraries()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    done = {(result["seed"], result["part"]) for result in read(options.output)}
    wanted = [(seed, part) for part in options.parts for seed in options.seeds]
    for seed, part in [] if options.table else wanted:
        if (seed, part) not in done:
            result = run_part(seed, part)
            with options.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
    print(
        table(sorted(read(options.output), key=lambda result: (PARTS.index(result["part"]), result["seed"])))
    )


def read(path: Path) -> list[dict[str, Any]]:
    """The results on file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
