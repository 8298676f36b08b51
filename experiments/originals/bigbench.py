"""Pairs of a right and a wrong option of BIG-bench's tasks. Knows how a task writes them down.

Which examples were taken, and which options are shown in which order, was drawn once: ``index/bigbench.json``
has the draw (``Index.drawn``), a row each: the number of the file among ``originals``, of the example in it,
of the right and of the wrong option, and of those that are shown ("5:0:2:1:1,0,2"; nothing: none are).

Its authors ask that its data never appear in training corpora: the rows are for evaluation only. A checkout
of the original is what the source archive of the package has, unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.originals.index import read_index
from experiments.originals.pairs import Pair
from experiments.originals.reading import read_json

PLAIN = ("q:", "question:", "a:", "answer:")
"""Prefixes that say nothing: left out."""


def bigbench(original: Path) -> Iterator[Pair]:
    index = read_index("bigbench")
    paths = list(index.originals)
    tasks: dict[str, Any] = {}
    for draw in index.drawn:
        file, example, right, wrong, shown = draw.split(":")
        path = paths[int(file)]
        if path not in tasks:
            tasks[path] = read_json(original / path)
        found = tasks[path]["examples"][int(example)]
        options = [tidy(option) for option in found["target_scores"]]
        listed = [options[int(number)] for number in shown.split(",") if number]
        name = path.split("/")[2]
        asked = prompt(tasks[path], found["input"], listed)
        yield Pair(asked, options[int(right)], options[int(wrong)], name, name)


def tidy(text: str) -> str:
    text = text.replace("\xa0", " ").replace("\u2028", "\n")
    return re.sub("[ \t]+\n", "\n", text).strip()


def prompt(task: dict[str, Any], asked: str, options: Sequence[str]) -> str:
    """The task's prefix, or its description; the input; the options; what an answer begins with."""
    before, after = (task.get(f"example_{side}_prefix", "").strip() for side in ("input", "output"))
    body = asked.strip() if before.lower() in PLAIN else f"{before} {asked.strip()}".strip()
    parts = [task.get("task_prefix", "").strip() or f"{task['description'].strip().rstrip('.')}.", body]
    if options:
        parts.append("Options:\n" + "\n".join(f"- {option}" for option in options))
    if after and after.lower() not in PLAIN:
        parts.append(after)
    return tidy("\n\n".join(parts))
