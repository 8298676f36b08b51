"""docs/results-fan.md from results: the marked parts are those of experiments/fan.py, fan_text.py,
fan_cost.py and fan_use.py.

Command: python -m experiments.fan_page (seconds). Runs no model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from experiments.claims.study import cell_text
from experiments.fan import ARMS, RESULTS, WRONG, read
from experiments.fan_cost import ONE_TOKEN as ONE_TOKEN_COSTS
from experiments.fan_cost import RESULTS as COSTS
from experiments.fan_cost import cost_table, draw
from experiments.fan_text import ARMS as TEXT_ARMS
from experiments.fan_text import CONTROLS
from experiments.fan_text import RESULTS as TEXTS
from experiments.fan_use import RESULTS as USES
from experiments.fan_use import chosen_table, grpo_table
from experiments.pages import filled

from gram.statistics import mean_by_group, paired_difference
from gram.types import FloatArray

PAGE = Path("docs/results-fan.md")
ONE_TOKEN = Path("experiments/results/fan_world_one_token.jsonl")
"""Of experiments/fan.py with --looking 1 and right labels."""
HALVES = ("seen", "unseen")


def text_table(results: Sequence[dict[str, Any]]) -> str:
    """The same on real text, of one seed; rows of a task are resampled together."""
    lines = [
        "| arm | never labeled | in distribution | minus sequence: never labeled | in distribution "
        "| minus its control: never labeled | in distribution | one winner |",
        "|" + "---|" * 8,
    ]
    of = {row["arm"]: row for row in results}
    for arm in (name for name in TEXT_ARMS if name in of):
        cells = [_grouped(of[arm][half]) for half in ("unseen", "seen")]
        for other in (of["sequence"], of.get(CONTROLS.get(arm, ""))):
            cells += [_minus(of[arm][half], other and other[half]) for half in ("unseen", "seen")]
        cells.append(f"{of[arm]['unseen']['one_winner']:.3f}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _grouped(part: dict[str, Any]) -> str:
    found = mean_by_group(_right(part["right"]), np.array(part["groups"]))
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _minus(mine: dict[str, Any], other: dict[str, Any] | None) -> str:
    if other is None or mine is other:
        return ""
    found = paired_difference(_right(mine["right"]), _right(other["right"]), mine["groups"])
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def table(results: Sequence[dict[str, Any]], labels: str) -> str:
    """Accuracy by half, the difference to the sequence judge, and what is left of the order, as Markdown."""
    lines = [
        "| arm | seen | never labeled | minus sequence, seen | never labeled | one winner | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    of = {(row["arm"], row["seed"]): row for row in results if row["labels"] == labels}
    for arm in ARMS:
        seeds = sorted(seed for name, seed in of if name == arm)
        if not seeds:
            continue
        rows = [of[arm, seed] for seed in seeds]
        cells = [cell_text([row[half]["accuracy"] for row in rows]) for half in HALVES]
        cells += [_difference(of, arm, half) for half in HALVES]
        cells += [f"{np.mean([row['unseen']['one_winner'] for row in rows]):.3f}", str(len(seeds))]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _difference(of: dict[tuple[str, int], dict[str, Any]], arm: str, half: str) -> str:
    """Of the pairs of all seeds that both arms have; pairs of a seed are resampled together."""
    seeds = [seed for name, seed in of if name == arm and ("sequence", seed) in of]
    if arm == "sequence" or not seeds:
        return ""
    mine, theirs = ([_right(of[name, seed][half]["right"]) for seed in seeds] for name in (arm, "sequence"))
    clusters = [seed for seed, part in zip(seeds, mine, strict=True) for _ in part]
    if len(seeds) == 1:
        clusters = list(range(len(mine[0])))
    found = paired_difference(np.concatenate(mine), np.concatenate(theirs), clusters)
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def one_token_table(one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]]) -> str:
    """The same arms and seeds with one looking token and with two; the pairs are resampled one by one."""
    lines = [
        "| arm | seed | seen: one token | two | never labeled: one | two | one minus two, all pairs |",
        "|---|---|---|---|---|---|---|",
    ]
    other = {(row["labels"], row["arm"], row["seed"]): row for row in two}
    for row in one:
        rows = row, other[row["labels"], row["arm"], row["seed"]]
        cells = [f"{each[half]['accuracy']:.3f}" for half in HALVES for each in rows]
        mine, theirs = (np.concatenate([_right(each[half]["right"]) for half in HALVES]) for each in rows)
        found = paired_difference(mine, theirs, range(len(mine)))
        cells.append(f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
        lines.append(f"| {row['arm']} | {row['seed']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _right(text: str) -> FloatArray:
    return np.array([int(digit) / 2 for digit in text])


def write_page() -> None:
    """Fill the marked parts of docs/results-fan.md with what is on file."""
    text, results = PAGE.read_text(encoding="utf-8"), read(RESULTS)
    for labels in WRONG:
        if any(row["labels"] == labels for row in results):
            text = filled(text, f"world {labels}", table(results, labels))
    if one := read(ONE_TOKEN):
        text = filled(text, "one token", one_token_table(one, results))
    if texts := read(TEXTS):
        text = filled(text, "text", text_table(texts))
    if COSTS.exists():
        costs = json.loads(COSTS.read_text(encoding="utf-8"))
        picture = "![Time over the number of answers; dotted: by arithmetic alone](images/fan-cost.png)"
        text = filled(text, "cost", f"{cost_table(costs)}\n\n{picture}")
        draw(costs)
    if ONE_TOKEN_COSTS.exists():
        costs = json.loads(ONE_TOKEN_COSTS.read_text(encoding="utf-8"))
        text = filled(text, "cost one token", cost_table(costs))
    if uses := read(USES):
        text = filled(text, "chosen", chosen_table(uses))
        text = filled(text, "grpo", grpo_table(uses))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_page()
