"""What the answers on file say: the numbers of gram-135m, and the tables of its page.

Command: python -m experiments.foundation.report (seconds). Reads what the arms said, of every seed, writes
experiments/results/gram_135m.json, and from it the marked parts of docs/gram-135m.md. With --page only
these are made again. Asks no model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from experiments.claims.study import markdown
from experiments.foundation.arms import ARMS, MODELS
from experiments.foundation.data import COUNT
from experiments.foundation.measure import FLOORS, read
from experiments.foundation.rows import HEADLINE, HELD, RINGS
from experiments.pages import filled

from gram.evaluation import Estimate
from gram.files import atomic_write
from gram.statistics import best_temperature, credit, log_loss, mean_by_group, reliability, tempered
from gram.types import FloatArray, Verdicts

RESULTS = Path("experiments/results/gram_135m.json")
PAGE = Path("docs/gram-135m.md")
TITLES = {name: arm.title for name, arm in ARMS.items()} | FLOORS
KINDS = ("label", "other", "span")
"""Kinds of rows of superni's `eval`; of `negative` there are 14."""
CURVE = ("likelihood", "judge", "bradley_terry")

Numbers = dict[str, Any]
Where = npt.NDArray[np.bool_]


class Answers:
    """What one arm said about the test rows."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rings = np.array([row["ring"] for row in rows])
        self.sources = np.array([row["source"] for row in rows])
        self.kinds = np.array([row["subset"].rsplit("/", 1)[-1] for row in rows])
        self.ids = np.array([f"{row['source']}/{row['id']}" for row in rows])
        self.groups = np.array([f"{row['source']}/{row['group'] or row['id']}" for row in rows])
        self.odds: FloatArray = np.array([row["log_odds"] for row in rows], dtype=np.float64)
        self.right = credit(tempered(self.odds, 1.0), np.ones(len(rows)))
        held = self.odds[self.rings == HELD]
        self.temperature = best_temperature(held, np.ones(len(held)))

    @property
    def headline(self) -> Where:
        return (self.rings == HEADLINE[0]) & (self.sources == HEADLINE[1])

    def parts(self) -> dict[str, Where]:
        """The rows of the headline, of its kinds, of each ring, and those held back."""
        found = {"headline": self.headline}
        found |= {f"headline, {kind}": self.headline & (self.kinds == kind) for kind in KINDS}
        return found | {ring: self.rings == ring for ring in (*RINGS, HELD)}

    def accuracy(self, where: Where) -> Estimate:
        return mean_by_group(self.right[where], self.groups[where])

    def lead(self, other: Answers, where: Where) -> Estimate:
        """Accuracy less that of another arm on the same rows."""
        if list(self.ids) != list(other.ids):
            raise ValueError("two arms were asked about different rows")
        return mean_by_group((self.right - other.right)[where], self.groups[where])

    def calibration(self, where: Where) -> dict[str, float]:
        odds, labels = self.odds[where], np.ones(int(where.sum()))
        before, after = tempered(odds, 1.0), tempered(odds, self.temperature)
        gap = Verdicts(odds, np.ones_like(odds)).position_gap
        found = {
            "ece": reliability(before, labels).ece,
            "ece_tempered": reliability(after, labels).ece,
            "log_loss": log_loss(before, labels),
            "log_loss_tempered": log_loss(after, labels),
            "order_gap": float(gap.mean()),
        }
        return {name: round(value, 4) for name, value in found.items()}


def numbers() -> Numbers:
    """Everything that the page shows, from the answers on file."""
    asked = {name: Answers(rows) for name in TITLES if (rows := read(name))}
    found: Numbers = {"arms": {}, "leads": {}, "seeds": {}}
    for name, answers in asked.items():
        parts = answers.parts()
        found["arms"][name] = {
            "parts": {part: _four(answers.accuracy(where)) for part, where in parts.items()},
            "sources": {
                ring: {
                    source: _four(answers.accuracy((answers.rings == ring) & (answers.sources == source)))
                    for source in RINGS[ring].sources
                }
                for ring in RINGS
            },
            "temperature": round(answers.temperature, 3),
            "calibration": answers.calibration(answers.headline),
        }
    for shipped in (name for name in ("likelihood", f"likelihood-{COUNT}", "judge") if name in asked):
        found["leads"][shipped] = {
            other: {
                part: _four(asked[shipped].lead(answers, where)) for part, where in answers.parts().items()
            }
            for other, answers in asked.items()
            if other != shipped
        }
    for path in sorted(MODELS.glob("seed-*")):
        seed = int(path.name.removeprefix("seed-"))
        again = {name: Answers(rows) for name in TITLES if (rows := read(name, seed))}
        found["seeds"][str(seed)] = {
            name: {part: _four(answers.accuracy(where)) for part, where in answers.parts().items()}
            for name, answers in again.items()
        }
    return found


def _four(found: Estimate) -> list[float]:
    return [round(found.value, 4), round(found.low, 4), round(found.high, 4), found.n]


def _cell(found: Sequence[float], sign: str = "") -> str:
    value, low, high = found[:3]
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def short_table(found: Numbers) -> str:
    """Accuracy of each arm with the common number of labels, on the headline and the rings."""
    columns = ("headline", *RINGS)
    sizes = next(iter(found["arms"].values()))["parts"]
    rows = [
        [TITLES[name], *(_cell(arm["parts"][part]) for part in columns)]
        for name, arm in found["arms"].items()
    ]
    names = {"headline": "superni, categories never labeled"}
    return markdown(["", *(f"{names.get(part, part)} ({sizes[part][3]:,})" for part in columns)], rows)


def kinds_table(found: Numbers) -> str:
    """Accuracy on the headline by kind of row."""
    columns = [f"headline, {kind}" for kind in KINDS]
    sizes = next(iter(found["arms"].values()))["parts"]
    rows = [
        [TITLES[name], *(_cell(arm["parts"][part]) for part in columns)]
        for name, arm in found["arms"].items()
    ]
    head = (f"{part.removeprefix('headline, ')} ({sizes[part][3]:,})" for part in columns)
    return markdown(["superni, categories never labeled", *head], rows)


def lead_table(found: Numbers, name: str) -> str:
    """Accuracy of one arm less that of every other, on the same rows."""
    columns = ("headline", *RINGS)
    rows = [
        [TITLES[other], *(_cell(leads[part], "+") for part in columns)]
        for other, leads in found["leads"][name].items()
    ]
    return markdown([f"{TITLES[name]}, less", *columns], rows)


def source_table(found: Numbers, ring: str) -> str:
    """One row per source of a ring, one column per arm."""
    arms = found["arms"]
    rows = []
    for source in RINGS[ring].sources:
        cells = [arm["sources"][ring][source] for arm in arms.values()]
        rows.append([f"{source} ({cells[0][3]})", *(f"{cell[0]:.3f}" for cell in cells)])
    return markdown([ring, *(TITLES[name] for name in arms)], rows)


def curve_table(found: Numbers) -> str:
    """Accuracy on the headline by number of labels."""
    arms = found["arms"]
    rows = []
    for name in CURVE:
        cells = [arms.get(arm) for arm in (f"{name}-1000", name, f"{name}-{COUNT}")]
        rows.append([TITLES[name], *(_cell(arm["parts"]["headline"]) if arm else "" for arm in cells)])
    return markdown(["superni, categories never labeled", "1,000 labels", "4,000", f"{COUNT:,}"], rows)


def calibration_table(found: Numbers) -> str:
    """Calibration on the headline, with a temperature from rows held back, and the order gap of judges."""
    rows = []
    for name, arm in found["arms"].items():
        if name in FLOORS:
            continue
        of = arm["calibration"]
        gap = f"{of['order_gap']:+.3f}" if ARMS[name].kind == "judge" else "none"
        values = (f"{of[key]:.3f}" for key in ("ece", "ece_tempered", "log_loss", "log_loss_tempered"))
        rows.append([TITLES[name], f"{arm['temperature']:.2f}", *values, gap])
    head = ["", "temperature", "ECE", "... tempered", "log loss", "... tempered", "order gap"]
    return markdown(head, rows)


def page(found: Numbers) -> str:
    """The page, with its marked parts filled."""
    text = PAGE.read_text(encoding="utf-8")
    parts = {"accuracy": short_table(found), "kinds": kinds_table(found), "curve": curve_table(found)}
    parts |= {f"leads {name}": lead_table(found, name) for name in found["leads"]}
    parts |= {f"sources {ring}": source_table(found, ring) for ring in RINGS}
    for name, content in (parts | {"calibration": calibration_table(found)}).items():
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
    if PAGE.exists():
        text = page(found)
        with atomic_write(PAGE) as file:
            file.write(text)
    print(short_table(found))


if __name__ == "__main__":
    main()
