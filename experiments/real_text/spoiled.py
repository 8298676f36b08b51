"""Comparisons that need no rater: an answer against a spoiled one.

Human labels alone do not teach a model of the size of gram-small to compare (experiments/LOG.md). That an
answer to another question, words in random order or one phrase over and over are worse needs no label, and
teaches where the two answers stand. Every arm gets them. Knows no model.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

UNLABELED = Path("../shared/data/unlabeled")
SOURCES = (
    "arena_hard_v01",
    "llm_compliance",
    "natinst_gpt3",
    "oasst_eval",
    "qlora_generations",
    "self_instruct_eval",
    "zeroeval",
)
LONGEST = 500
"""Most characters of an answer: short rows teach the same for less time."""
LEAST_WORDS = 6

Row = dict[str, Any]


def _shuffled(answer: str, prompt: str, other: str, draw: Random) -> str:
    words = answer.split()
    return " ".join(draw.sample(words, len(words)))


def _repeated(answer: str, prompt: str, other: str, draw: Random) -> str:
    words = answer.split()
    start = draw.randrange(len(words) - 2)
    phrase = words[start : start + draw.randint(1, 4)]
    return " ".join((phrase * len(words))[: len(words)])


def _cut(answer: str, prompt: str, other: str, draw: Random) -> str:
    words = answer.split()
    return " ".join(words[: max(1, int(len(words) * draw.uniform(0.1, 0.5)))])


def _other(answer: str, prompt: str, other: str, draw: Random) -> str:
    return other


def _echo(answer: str, prompt: str, other: str, draw: Random) -> str:
    return prompt


SPOILS: dict[str, Callable[[str, str, str, Random], str]] = {
    "shuffled": _shuffled,
    "repeated": _repeated,
    "cut": _cut,
    "other": _other,
    "echo": _echo,
}
"""What is done to an answer; ``other`` is an answer to another question of the same source."""


def spoiled(count: int, seed: int = 0, split: str = "train") -> list[Row]:
    """``count`` comparisons from the prompts of one split of the unlabeled sources, the sources in turn."""
    draw = Random(seed)
    pools = [_pool(source, split, draw) for source in SOURCES]
    rows: list[Row] = []
    place = 0
    while len(rows) < count and any(pools):
        pool = pools[place % len(pools)]
        place += 1
        if len(pool) < 2:
            pool.clear()
            continue
        prompt, answer = pool.pop()
        kind = draw.choice(list(SPOILS))
        foreign, other = draw.choice(pool)
        worse = SPOILS[kind](answer, prompt, other, draw)
        if worse.strip() and worse != answer and foreign != prompt:
            name = f"spoiled-{len(rows):05d}"
            texts = {"prompt": prompt, "chosen": answer, "rejected": worse}
            rows.append({"id": name, "group": name, "subset": kind} | texts)
    return rows


def _pool(source: str, split: str, draw: Random) -> list[tuple[str, str]]:
    """Prompts with one answer each, in random order."""
    found = []
    with gzip.open(UNLABELED / f"{source}.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            fits = (text for text in row["responses"] if len(text) <= LONGEST)
            texts = [text for text in fits if len(text.split()) >= LEAST_WORDS]
            prompt = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
            if row["split"] == split and texts:
                found.append((prompt[:LONGEST], draw.choice(texts)))
    return draw.sample(found, len(found))
