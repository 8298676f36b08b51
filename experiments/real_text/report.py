"""What the answers on file say: the numbers of the real-text study, and the pages that show them.

Command: python -m experiments.real_text.report (seconds). Reads what the arms said, of every seed, writes
experiments/results/real_text.json, and from it the marked parts of docs/gram-small.md, README.md and the
model card, and the picture. With --page only these are made again. Asks no model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from experiments.pages import filled
from experiments.real_text import adaptation, tables
from experiments.real_text.arms import MODELS, SHIPPED
from experiments.real_text.measure import read
from experiments.real_text.rows import CALIBRATION, SETS, SPOILED
from experiments.real_text.spoiled import SPOILS
from experiments.real_text.tables import GRAM, TITLES, Numbers

from gram.evaluation import Estimate
from gram.files import atomic_write
from gram.statistics import best_temperature, credit, log_loss, mean_by_group, reliability, tempered
from gram.types import FloatArray, Verdicts

RESULTS = Path("experiments/results/real_text.json")
EVERYDAY = Path("experiments/foundation/everyday.jsonl")
RANKED = Path("experiments/results/gram_small_everyday.jsonl")
"""``gram rank --model gram-small --input EVERYDAY --output RANKED``."""
POOLS = {
    "hard chat, graded 1 to 10 (arena_bench)": Path("experiments/results/gram_small_bon_arena_bench.json"),
    "maths and code, right or wrong (zeroeval)": Path("experiments/results/gram_small_bon_zeroeval.json"),
}
PAGE = Path("docs/gram-small.md")
README = Path("README.md")
CARDS = (Path("configs/gram-small/MODEL_CARD.md"), Path("src/gram/shipped/gram-small/MODEL_CARD.md"))
PICTURE = Path("docs/images/gram_small.png")


class Answers:
    """What one arm said about the test rows."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.sets = np.array([row["set"] for row in rows])
        self.sources = np.array([row["source"] for row in rows])
        self.ids = np.array([f"{row['source']}/{row['id']}" for row in rows])
        self.groups = np.array([f"{row['source']}/{row['group'] or row['id']}" for row in rows])
        self.odds: FloatArray = np.array([row["log_odds"] for row in rows], dtype=np.float64)
        self.right = credit(tempered(self.odds, 1.0), np.ones(len(rows)))
        held = self.odds[self.sets == CALIBRATION]
        self.temperature = best_temperature(held, np.ones(len(held)))

    def accuracy(self, where: npt.NDArray[np.bool_]) -> Estimate:
        return mean_by_group(self.right[where], self.groups[where])

    def lead(self, other: Answers, where: npt.NDArray[np.bool_]) -> Estimate:
        """Accuracy less that of another arm on the same rows."""
        if list(self.ids) != list(other.ids):
            raise ValueError("two arms were asked about different rows")
        return mean_by_group((self.right - other.right)[where], self.groups[where])

    def calibration(self, where: npt.NDArray[np.bool_]) -> dict[str, float]:
        labels = np.ones(int(where.sum()))
        before = tempered(self.odds[where], 1.0)
        after = tempered(self.odds[where], self.temperature)
        odds = self.odds[where]
        gap = Verdicts(odds, np.ones_like(odds)).position_gap
        return {
            "ece": reliability(before, labels).ece,
            "ece_tempered": reliability(after, labels).ece,
            "log_loss": log_loss(before, labels),
            "log_loss_tempered": log_loss(after, labels),
            "position_gap": float(gap.mean()),
        }


def numbers() -> Numbers:
    """Everything that the pages show, from the answers on file."""
    asked = {name: Answers(rows) for name in TITLES if (rows := read(name))}
    found: Numbers = {"arms": {}, "leads": {name: _leads(asked, name) for name in GRAM}, "seeds": {}}
    for name, answers in asked.items():
        found["arms"][name] = {
            "sets": {kind: _triple(answers.accuracy(answers.sets == kind)) for kind in SETS},
            "sources": {
                source: _triple(answers.accuracy(answers.sources == source))
                for rows in SETS.values()
                for source in rows.sources
            },
            "calibration": {kind: _round(answers.calibration(answers.sets == kind)) for kind in SETS},
            "temperature": round(answers.temperature, 3),
            "held_back": {
                part: _triple(answers.accuracy((answers.sets == part) | (answers.sources == part)))
                for part in (CALIBRATION, SPOILED, *(f"{SPOILED}_{kind}" for kind in SPOILS))
            },
        }
    seeds = (path.parts[-3].removeprefix("seed-") for path in MODELS.glob(f"seed-*/asked/{SHIPPED}"))
    for seed in sorted(map(int, seeds)):
        again = {name: Answers(rows) for name in TITLES if (rows := read(name, seed))}
        found["seeds"][str(seed)] = {
            "arms": {
                name: {kind: _triple(answers.accuracy(answers.sets == kind)) for kind in (*SETS, CALIBRATION)}
                for name, answers in again.items()
            },
            "leads": _leads(again, SHIPPED),
        }
    return found


def _leads(asked: Mapping[str, Answers], name: str) -> dict[str, Any]:
    """Accuracy of one arm less that of each other."""
    ours = asked[name]
    return {
        other: {kind: _triple(ours.lead(answers, answers.sets == kind)) for kind in SETS}
        for other, answers in asked.items()
        if other != name
    }


def _triple(found: Estimate) -> list[float]:
    return [round(found.value, 4), round(found.low, 4), round(found.high, 4), found.n]


def _round(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def pages(found: Numbers) -> dict[Path, str]:
    """The pages that show these numbers, with their marked parts filled."""
    short = tables.short_table(found)
    ranked = {row["id"]: row for row in _lines(RANKED)}
    whole = {
        "accuracy": short,
        **{f"leads {name}": tables.lead_table(found, name) for name in GRAM},
        "seeds": tables.seeds_table(found),
        "held back": tables.held_back_table(found),
        "calibration": tables.calibration_table(found),
        **{f"sources {kind}": tables.source_table(found, kind) for kind in SETS},
        "adaptation": adaptation.table(adaptation.results()),
        "best of n": tables.best_of_n_table(POOLS),
        "everyday": tables.everyday([row | ranked[row["id"]] for row in _lines(EVERYDAY)]),
    }
    parts = {PAGE: whole, README: {"gram-small": short}} | {card: {"results": short} for card in CARDS}
    return {path: _filled(path, contents) for path, contents in parts.items()}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _filled(path: Path, contents: Mapping[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for name, content in contents.items():
        text = filled(text, name, content)
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="from the numbers on file")
    if parser.parse_args(arguments).page:
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    else:
        found = numbers()
        with atomic_write(RESULTS) as file:
            file.write(json.dumps(found, indent=1) + "\n")
    for path, text in pages(found).items():
        with atomic_write(path) as file:
            file.write(text)
    tables.picture(found, PICTURE)
    print(tables.short_table(found))


if __name__ == "__main__":
    main()
