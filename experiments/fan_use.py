"""What a fan judge is for, beside the sequence judge: choosing one of n answers, and a reward for groups.

best_of_n: all pairs of eight answers to real questions, whose gold scores are known, by gram-135m's judge as
it is and in the fan layout, taught by it (experiments/fan_text.py): the gold of the answer that each puts
first, and the processor seconds of each matrix, in turn on the same prompts.
grpo: TRL's GRPO in the world (experiments/world_grpo.py) with GroupReward, all pairs of eight completions, by
the sequence judge and by the judge converted (experiments/fan.py): gold, and seconds of a step, of which the
reward takes some.

Cost: 20 minutes of one core for best_of_n, 6 a seed for grpo. Command: python -m experiments.fan_use
[best_of_n] [grpo] [--seeds 41 42 43] [--prompts 40], after `python -m experiments.fan_text fan_distilled`.
best_of_n reads ../shared/data (see experiments/public_files.py). What is on file is not run again. The tables
are written into docs/results-fan.md by experiments/fan_page.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from experiments.claims.study import cell_text
from experiments.fan import Study
from experiments.fan_text import LENGTH, model_of
from experiments.foundation.best_of_n import Pool, log_odds, pools
from experiments.foundation.results import add, read
from experiments.world_grpo import GROUP, HALVES, PROMPTS, STEPS, improve
from experiments.world_models import POLICY

import gram
from gram.demo.lab import Recipe
from gram.demo.recipe import FULL
from gram.modeling.quiet import quiet_libraries
from gram.progress import parts_with_progress
from gram.rendering.fan import LOOKING
from gram.rl import GroupReward, Reward
from gram.rl.reward import Rewards
from gram.rl.rows import Reference, Response
from gram.statistics import mean_by_group
from gram.types import PreferenceModel, PromptLike

RESULTS = Path("experiments/results/fan_use.jsonl")
PARTS = ("best_of_n", "grpo")
TITLES = {"zeroeval": "maths and code, right or wrong", "arena_bench": "hard chat, graded 1 to 10"}
"""Pools of best_of_n."""
JUDGES = {"sequence": "sequence", "fan": "fan_converted"}
"""A layout, and the arm of fan.py that judges in it."""
CHOOSERS = {"sequence": "sequence", "fan": "fan_distilled"}
"""A layout, and the arm of fan_text.py that judges in it."""


class Timed(Reward):
    """A reward; when each call for all completions of a step began, and how long it took."""

    def __init__(self, inner: Reward) -> None:
        super().__init__()
        self._inner = inner
        self.began: list[float] = []
        self.took: list[float] = []

    def __call__(
        self,
        prompts: Iterable[PromptLike],
        responses: Iterable[Response],
        references: Iterable[Reference] | None = None,
    ) -> Rewards:
        began, answers = time.monotonic(), list(responses)
        rewards = self._inner(prompts, answers, references)
        if len(answers) == GROUP * PROMPTS:  # else it is a test, with one answer to a prompt
            self.began.append(began)
            self.took.append(time.monotonic() - began)
        return rewards


def best_of_n(name: str, most: int) -> dict[str, Any]:
    """Both layouts on the same prompts of a pool, one after the other on each."""
    found = pools(name)[:most]
    models = {layout: gram.load(model_of(arm), max_length=LENGTH) for layout, arm in CHOOSERS.items()}
    said: dict[str, list[Mapping[str, Any]]] = {layout: [] for layout in CHOOSERS}
    for (pool,) in parts_with_progress([[pool] for pool in found], title=name):
        for layout, model in models.items():
            said[layout].append(_asked(model, pool))
    return {
        "part": "best_of_n",
        "pool": name,
        "answers": len(found[0].gold),
        "groups": [pool.group for pool in found],
        "best": [float(pool.gold.max()) for pool in found],
        "random": [float(pool.gold.mean()) for pool in found],
        "gold": {layout: [row["gold"] for row in rows] for layout, rows in said.items()},
        "seconds": {layout: [row["seconds"] for row in rows] for layout, rows in said.items()},
    }


def _asked(model: PreferenceModel, pool: Pool) -> dict[str, float]:
    began = time.process_time()
    table = log_odds(model, pool.contest)
    seconds = time.process_time() - began
    return {"gold": float(pool.gold[table.mean(axis=(1, 2)).argmax()]), "seconds": round(seconds, 3)}


def grpo(seed: int, layout: str, models: Path, recipe: Recipe, steps: int = STEPS) -> dict[str, Any]:
    """One GRPO run in the world of ``seed``; both layouts start from the same policy."""
    study = Study(seed, "clean", recipe, models, LOOKING)
    reward = Timed(GroupReward(study.model(JUDGES[layout])))
    policy = study.lab.policy(POLICY)
    with tempfile.TemporaryDirectory() as folder:
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        found = improve(Path(folder), seed, reward, "group", steps=steps)
    between = np.diff(reward.began)
    return {
        "part": "grpo",
        "seed": seed,
        "layout": layout,
        "completions": GROUP * PROMPTS,
        "steps": steps,
        "reward_seconds": round(float(np.median(reward.took)), 4),
        "step_seconds": round(float(np.median(between)), 4),
        "curve": found["curve"],
    }


def chosen_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Gold of the chosen answer and the time of a matrix, as Markdown."""
    lines = [
        "| answers | prompts | at random | sequence | fan | fan minus sequence | the best there is "
        "| seconds a matrix: sequence | fan | times as fast |",
        "|" + "---|" * 10,
    ]
    for row in (row for row in results if row["part"] == "best_of_n"):
        gold = {layout: np.array(values) for layout, values in row["gold"].items()}
        groups, seconds = np.array(row["groups"]), row["seconds"]
        lead = mean_by_group(gold["fan"] - gold["sequence"], groups)
        ratio = np.median(np.array(seconds["sequence"]) / np.array(seconds["fan"]))
        cells = [
            f"{row['answers']} of {TITLES[row['pool']]}",
            str(len(groups)),
            f"{np.mean(row['random']):.3f}",
        ]
        for layout in JUDGES:
            found = mean_by_group(gold[layout], groups)
            cells.append(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})")
        cells += [f"{lead.value:+.3f} ({lead.low:+.3f} to {lead.high:+.3f})", f"{np.mean(row['best']):.3f}"]
        cells += [f"{np.mean(seconds[layout]):.2f}" for layout in JUDGES]
        lines.append(f"| {' | '.join(cells)} | {ratio:.1f} |")
    return "\n".join(lines)


def grpo_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Gold before and after, and the time of a step, as Markdown."""
    lines = [
        "| reward | families | gold at start | gold at end | seconds a step | of which the reward | seeds |",
        "|" + "---|" * 7,
    ]
    for layout in JUDGES:
        runs = [row for row in results if row["part"] == "grpo" and row["layout"] == layout]
        for half in HALVES if runs else ():
            cells = [cell_text([row["curve"][place][half]["gold"] for row in runs]) for place in (0, -1)]
            cells += [
                f"{np.mean([row[key] for row in runs]):.3f}" for key in ("step_seconds", "reward_seconds")
            ]
            lines.append(f"| {layout} | {HALVES[half]} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[41, 42, 43])
    parser.add_argument("--prompts", type=int, default=40, help="of a pool, at most")
    parser.add_argument("--models", type=Path, default=Path("runs/fan"), help="of the world, see fan.py")
    options = parser.parse_args(arguments)
    parts = options.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {min(unknown)}; there are {', '.join(PARTS)}")
    quiet_libraries()
    done = [(row["part"], row.get("pool") or (row["seed"], row["layout"])) for row in read(RESULTS)]
    for name in TITLES if "best_of_n" in parts else ():
        if ("best_of_n", name) not in done:
            add(RESULTS, best_of_n(name, options.prompts))
    for seed in options.seeds if "grpo" in parts else ():
        for layout in JUDGES:
            if ("grpo", (seed, layout)) not in done:
                add(RESULTS, grpo(seed, layout, options.models, replace(FULL, few_labels=())))


if __name__ == "__main__":
    main()
