"""The data of gram-135m, made from public files into `data/`: labels, rows held back, and unlabeled
answers.

Command: python -m experiments.foundation.data (half a minute; reads ../shared/data, see
experiments/public_files.py). The folder that it writes comes with the repository, so that nobody has to run
it. Knows licences; knows no model.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from gram.files import atomic_write_bytes

SHARED = Path("../shared/data")
DATA = Path("data")
LABELS, HELD_BACK, UNLABELED = (DATA / f"{name}.jsonl.gz" for name in ("labels", "held_back", "unlabeled"))
COUNT = 16_000
"""Labels; the first 1,000 and 4,000 are the smaller budgets."""
LICENCES = Path(__file__).with_name("superni_licences.json")
"""Task of Super-NaturalInstructions -> licence of its instances, as its file says."""
FREE = (
    "MIT",
    "Apache 2.0",
    "BSD",
    "BSD 2-Clause",
    "CC BY",
    "CC BY 3.0",
    "CC BY 4.0",
    "CC0",
    "CC0 1.0 Universal",
    "CC0: Public Domain",
    "Public Domain",
    "LibriVox: Public Domain (https://librivox.org/pages/public-domain/)",
)
"""Licences under which rows may become part of a model under Apache-2.0 with attribution."""
TASKS = "Super-NaturalInstructions"
"""The source whose groups are tasks."""
MADE_HERE = "Program Execution"
"""A category whose instances were generated for the repository, and are under its Apache-2.0."""
CAPS = {
    "superni": 10_000,
    MADE_HERE: 3_000,
    "gsm8k_models": 1_400,
    "hh_harmless": 1_250,
    "blimp": 1_200,
    "zeroeval": 900,
    "oasst_trees": 550,
    "arena_bench": 250,
    "debugbench": 250,
    "dpo_demo": 100,
}
"""Most labels of a source. Left out: share-alike (sensemaking), what teaches a task of the first ring (ecare,
sf_d2t: cause and effect, data to text), and targets of adaptation (conala, ukp_convarg, rose_summ, lamp)."""
KNOWLEDGE = {"mmmlu": 300, "mathqa": 150, "head": 60}
"""Data sets of many tasks that ask what a model of this size cannot know: at most so many labels of each."""
UNLABELED_CAPS = {
    "superni": 3_600,
    "qlora_generations": 300,
    "oasst_eval": 230,
    "self_instruct_eval": 190,
    "arena_hard_v01": 120,
}
LONGEST = 3_000
"""Most characters of a prompt and two answers together."""
_HELD_BACK = 16
_HELD_BACK_CAP = 60
"""One group in so many is held back; at most so many rows of a source but the tasks."""

Row = dict[str, Any]


def read(kind: str, source: str, split: str) -> list[Row]:
    """The rows of one split of a file of ../shared/data."""
    with gzip.open(SHARED / kind / f"{source}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row["split"] == split]


def is_free(task: str, category: str, licences: dict[str, str]) -> bool:
    """Whether the instances of a task may be trained on.

    Example:
        >>> is_free("a", "Misc.", {"a": "CC BY-SA 4.0"}), is_free("a", "Misc.", {"a": "MIT"})
        (False, True)
    """
    licence = licences[task]
    return licence in FREE or (licence == "Unknown" and category == MADE_HERE)


def is_held_back(group: str) -> bool:
    """Whether the rows of a group are held back: a sixteenth of all groups, whatever the sample."""
    return int.from_bytes(blake2b(group.encode(), digest_size=4).digest()) % _HELD_BACK == 0


def size(row: Row) -> int:
    """Characters of the prompt and the two answers, or of the first two."""
    answers = row["responses"][:2] if "responses" in row else (row["chosen"], row["rejected"])
    return len(json.dumps(row["prompt"], ensure_ascii=False)) + sum(map(len, answers))


def pools() -> dict[str, list[Row]]:
    """Train rows by the name of their cap."""
    licences = json.loads(LICENCES.read_text(encoding="utf-8"))
    found: dict[str, list[Row]] = {}
    for source in CAPS:
        if source == MADE_HERE:
            continue
        rows = read("pref", source, "train")
        if source == "superni":
            free = [row for row in rows if is_free(row["task"], row["category"], licences)]
            free = _capped(free)
            found[MADE_HERE] = [row for row in free if row["category"] == MADE_HERE]
            rows = [row for row in free if row["category"] != MADE_HERE]
        found[source] = rows
    return {name: [row for row in rows if size(row) <= LONGEST] for name, rows in found.items()}


def _capped(rows: Sequence[Row]) -> list[Row]:
    """``rows`` of tasks without the knowledge questions beyond their caps; the first in order of id stay."""
    taken: Counter[str] = Counter()
    kept = []
    for row in sorted(rows, key=lambda row: row["id"]):
        origin = row["task"].split("_")[1]
        if taken[origin] < KNOWLEDGE.get(origin, len(rows)):
            kept.append(row)
        taken[origin] += 1
    return kept


def labels(draw: Random) -> tuple[list[Row], list[Row]]:
    """Labels in a random order, and rows of other groups, which are held back."""
    chosen: list[Row] = []
    held: list[Row] = []
    for name, rows in sorted(pools().items()):
        rest = [row for row in rows if not is_held_back(row["group"])]
        back = [row for row in rows if is_held_back(row["group"])]
        chosen += draw.sample(rest, min(CAPS[name], len(rest)))
        held += back if name == "superni" else draw.sample(back, min(_HELD_BACK_CAP, len(back)))
    return draw.sample(chosen, min(COUNT, len(chosen))), draw.sample(held, len(held))


def unlabeled(draw: Random) -> list[Row]:
    """Prompts with answers, of which nobody says which is better; none of a group that is held back."""
    licences = json.loads(LICENCES.read_text(encoding="utf-8"))
    categories = {row["task"]: row["category"] for row in read("pref", "superni", "train")}
    found: list[Row] = []
    for source, most in UNLABELED_CAPS.items():
        rows = [row for row in read("unlabeled", source, "train") if size(row) <= LONGEST]
        if source == "superni":
            rows = [row for row in rows if is_free(row["group"], categories[row["group"]], licences)]
        rows = [row for row in rows if not is_held_back(row["group"])]
        found += draw.sample(rows, min(most, len(rows)))
    return draw.sample(found, len(found))


def write(rows: Sequence[Row], path: Path) -> None:
    """One row a line, compressed, whole or not at all; the same bytes for the same rows."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write_bytes(path, gzip.compress(text.encode(), 9, mtime=0))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    chosen, held = labels(Random(0))
    free = unlabeled(Random(1))
    for rows, path in ((chosen, LABELS), (held, HELD_BACK), (free, UNLABELED)):
        write(rows, path)
        sources = Counter(row["source"] for row in rows)
        print(f"{path}: {len(rows)} rows, {path.stat().st_size / 1e6:.1f} MB;", dict(sources))


if __name__ == "__main__":
    main()
