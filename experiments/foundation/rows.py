"""The test rows of gram-135m in experiments/real_text.md. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from experiments.foundation.data import HELD_BACK, LABELS, SHARED

from gram.data import find_leaks, read_preferences
from gram.types import Preference


@dataclass(frozen=True)
class Ring:
    """Rows of one kind: of the ``split`` of each source, at most so many (None: all)."""

    split: str
    sources: Mapping[str, int | None]


RINGS = {
    "tasks never labeled": Ring(
        "eval",
        {
            "superni": None,
            "bigbench": 620,
            "piqa": 300,
            "truthfulqa": 400,
            "humanevalpack": 200,
            "summedits": 200,
        },
    ),
    "chat": Ring(
        "eval",
        {
            "llmbar": None,
            "hhh": None,
            "pandalm": 250,
            "tulu_human": 200,
            "xstest": 200,
            "rm_bench": 120,
            "ifbench": 120,
            "judgebench": 100,
            "qlora_vicuna": 100,
        },
    ),
    "in distribution": Ring(
        "test",
        {
            "superni": 600,
            "arena_bench": 60,
            "blimp": 60,
            "debugbench": 60,
            "dpo_demo": 60,
            "gsm8k_models": 60,
            "hh_harmless": 60,
            "oasst_trees": 60,
            "zeroeval": 60,
        },
    ),
}
HEADLINE = ("tasks never labeled", "superni")
"""The ring and the source that the expectation is about."""
HELD = "held back"
"""Rows of other groups than the labels: to choose by, and to fit temperatures on."""


def labels(count: int) -> list[Preference]:
    """The first ``count`` labels."""
    return list(read_preferences([str(LABELS)]).examples)[:count]


def test_rows() -> Iterator[tuple[str, str, list[Preference]]]:
    """Name of the ring, of the source, and its rows: the held-back ones first.

    A row out of distribution that shares a question or a pair with any label is left out.
    """
    yield HELD, HELD, list(read_preferences([str(HELD_BACK)]).examples)
    known = labels(10**9)
    for name, ring in RINGS.items():
        for source, most in ring.sources.items():
            path = f"{SHARED}/pref/{source}.jsonl.gz::{ring.split}"
            found = read_preferences([path], max_per_source=most, seed=0).examples
            if ring.split == "eval":
                leaked = {id(leak.held_out) for leak in find_leaks(known, found)}
                found = [row for row in found if id(row) not in leaked]
            yield name, source, list(found)
