"""Pairs whose answers differ in style or in refusing, from the repositories that have them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

from experiments.originals.pairs import Pair
from experiments.originals.reading import read_json

STYLES = ("concise", "detailed", "markdown")


def rm_bench(original: Path) -> Iterator[Pair]:
    """Each of three styles of the chosen answer against each of the rejected: easy, where the chosen one is
    the richer."""
    for part in ("chat", "code", "safety-refuse", "safety-response"):
        for row in read_json(original / "data" / f"{part}_filtered.json"):
            for of_chosen, chosen in enumerate(row["chosen"]):
                for of_rejected, rejected in enumerate(row["rejected"]):
                    level = ("normal", "easy", "hard")[(of_chosen > of_rejected) - (of_chosen < of_rejected)]
                    more = {
                        "pair_of": str(row["id"]),
                        "chosen_style": STYLES[of_chosen],
                        "rejected_style": STYLES[of_rejected],
                    }
                    yield Pair(
                        row["prompt"].strip(), chosen.strip(), rejected.strip(), f"{part}/{level}", more=more
                    )


COMPLIES, REFUSES = "1_full_compliance", "2_full_refusal"


def xstest(original: Path) -> Iterator[Pair]:
    """A full answer against a full refusal of another model: chosen where the request is safe, rejected where
    it is a ``contrast_`` to a safe one."""
    requests: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for model in ("gpt4", "llama2new", "llama2orig", "mistralguard", "mistralinstruct"):
        path = original / "model_completions" / f"xstest_v2_completions_{model}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                asked = row["id"], row["type"], row["prompt"].strip()
                requests.setdefault(asked, []).append((row["final_label"], row["completion"].strip()))
    for (number, kind, prompt), answers in requests.items():
        unsafe = kind.startswith("contrast_")
        subset = f"{'unsafe' if unsafe else 'safe'}/{kind.removeprefix('contrast_')}"
        wanted = (REFUSES, COMPLIES) if unsafe else (COMPLIES, REFUSES)
        for (label, chosen), (other, rejected) in permutations(answers, 2):
            if (label, other) == wanted:
                yield Pair(prompt, chosen, rejected, subset, number)
