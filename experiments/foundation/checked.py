"""Prompts whose answers can be checked: short ones of superni tasks that never had a label.

Reads ../shared/data (see experiments/public_files.py). Knows no model.

A task is taken if its outputs are a few words that its rows repeat (kind `label` of superni's `eval`) and
enough of its prompts are short. Its own check: an answer is right if it names the right output and no other
output of the task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from experiments.foundation.data import Row, read

PROMPTS = 32
TASKS = 8
"""So many of each: PROMPTS // TASKS."""
LONGEST = 400
"""Most characters of a prompt."""
_ENOUGH = 20
"""Least number of short prompts of a task."""


@dataclass(frozen=True)
class Checked:
    """A prompt, its right output, and all outputs of its task."""

    task: str
    prompt: str
    right: str
    outputs: tuple[str, ...]

    def gold(self, answer: str) -> float:
        """1 for a right answer, else 0.

        Example:
            >>> asked = Checked("colours", "The sky?", "blue", ("blue", "red", "light blue"))
            >>> [asked.gold(text) for text in ("Blue.", "blue or red", "light blue", "bluest", "")]
            [1.0, 0.0, 0.0, 0.0, 0.0]
        """
        return float(_named(answer, self.outputs) == {self.right})


def _named(answer: str, outputs: Sequence[str]) -> set[str]:
    """The outputs that an answer names, whole words, in any case; of one inside another the longer."""
    found, rest = set(), answer.casefold()
    for output in sorted(outputs, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(output.casefold())}(?!\w)"
        if re.search(pattern, rest):
            found.add(output)
            rest = re.sub(pattern, " ", rest)
    return found


def checked() -> list[Checked]:
    """The prompts, tasks mixed, always the same."""
    rows = [row for row in read("pref", "superni", "eval") if row["subset"].endswith("/label")]
    by_task: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        by_task.setdefault(row["task"], []).append(row)
    draw, found = Random(0), []
    short = {task: [row for row in of if len(row["prompt"]) <= LONGEST] for task, of in by_task.items()}
    fit = sorted(task for task, of in short.items() if len(of) >= _ENOUGH)
    for task in draw.sample(fit, min(TASKS, len(fit))):
        outputs = tuple(sorted({row[side] for row in by_task[task] for side in ("chosen", "rejected")}))
        for row in draw.sample(short[task], PROMPTS // TASKS):
            found.append(Checked(task, row["prompt"], row["chosen"], outputs))
    return draw.sample(found, len(found))
