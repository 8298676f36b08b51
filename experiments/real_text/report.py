"""What the answers on file say: numbers, tables and the picture of the real-text study.

Command: python -m experiments.real_text.report (seconds). Reads runs/gram-small/asked, writes
experiments/results/real_text.json, and from it the marked parts of docs/gram-small.md and its picture. With
--page only these are made again. Asks no model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from experiments.by_group import by_group
from experiments.claims.study import markdown
from experiments.pages import filled
from experiments.real_text import adaptation
from experiments.real_text.arms import ARMS
from experiments.real_text.measure import ASKED, FLOORS, read
from experiments.real_text.rows import CALIBRATION, SETS

from gram import plots
from gram.data.journal import atomic_write
from gram.evaluation import Estimate
from gram.evaluation.calibration import best_temperature, tempered
from gram.evaluation.metrics import credit, log_loss, reliability
from gram.types import FloatArray, Verdicts

RESULTS = Path("experiments/results/real_text.json")
POOLS = {
    "hard chat, graded 1 to 10 (arena_bench)": Path("experiments/results/gram_small_bon_arena_bench.json"),
    "maths and code, right or wrong (zeroeval)": Path("experiments/results/gram_small_bon_zeroeval.json"),
}
PAGE = Path("docs/gram-small.md")
PICTURE = Path("docs/images/gram_small.png")
TITLES = {name: arm.title for name, arm in ARMS.items()} | FLOORS
CHOOSERS = {
    "judge": "GRAM, judge",
    "likelihood": "likelihood, no labels",
    "bradley_terry_pretrained": "Bradley-Terry on the body",
    "ensemble": "mean of the three, standardised",
    "length": "length rule",
}
JUDGES = ("judge", "no_smoothing", "no_stage_1", "no_language")
OUT = "out of distribution"

Numbers = dict[str, Any]


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
        return by_group(self.right[where], self.groups[where])

    def lead(self, other: Answers, where: npt.NDArray[np.bool_]) -> Estimate:
        """Accuracy less that of another arm on the same rows."""
        if list(self.ids) != list(other.ids):
            raise ValueError("two arms were asked about different rows")
        return by_group((self.right - other.right)[where], self.groups[where])

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


def numbers(folder: Path = ASKED) -> Numbers:
    """Everything that the pages show, from the answers on file."""
    asked = {name: Answers(rows) for name in TITLES if (rows := read(name, folder))}
    found: Numbers = {"arms": {}, "lead_of_judge": {}}
    for name, answers in asked.items():
        sets = {kind: answers.sets == kind for kind in SETS}
        found["arms"][name] = {
            "sets": {kind: _triple(answers.accuracy(where)) for kind, where in sets.items()},
            "sources": {
                source: _triple(answers.accuracy(answers.sources == source))
                for rows in SETS.values()
                for source in rows.sources
            },
            "calibration": {kind: _round(answers.calibration(where)) for kind, where in sets.items()},
            "temperature": round(answers.temperature, 3),
        }
        if name != "judge":
            leads = {kind: _triple(asked["judge"].lead(answers, where)) for kind, where in sets.items()}
            found["lead_of_judge"][name] = leads
    return found


def _triple(found: Estimate) -> list[float]:
    return [round(found.value, 4), round(found.low, 4), round(found.high, 4), found.n]


def _round(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _cell(found: Sequence[float], sign: str = "") -> str:
    value, low, high = found[:3]
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def short_table(found: Numbers) -> str:
    """Accuracy of each arm on the three kinds of rows."""
    rows = [
        [TITLES[name], *(_cell(arm["sets"][kind]) for kind in SETS)] for name, arm in found["arms"].items()
    ]
    sizes = next(iter(found["arms"].values()))["sets"]
    return markdown(["", *(f"{kind} ({sizes[kind][3]:,} pairs)" for kind in SETS)], rows)


def lead_table(found: Numbers) -> str:
    """Accuracy of the judge less that of every other arm, on the same rows."""
    rows = [
        [TITLES[name], *(_cell(leads[kind], "+") for kind in SETS)]
        for name, leads in found["lead_of_judge"].items()
    ]
    return markdown(["GRAM, judge, less", *SETS], rows)


def source_table(found: Numbers, kind: str) -> str:
    """One row per source, one column per arm."""
    rows = []
    for source in SETS[kind].sources:
        cells = [arm["sources"][source] for arm in found["arms"].values()]
        rows.append([f"{source} ({cells[0][3]})", *map(_cell, cells)])
    return markdown([kind, *(TITLES[name] for name in found["arms"])], rows)


def calibration_table(found: Numbers) -> str:
    """Calibration and position gap of the arms out of distribution."""
    rows = []
    for name, arm in found["arms"].items():
        if name in FLOORS:
            continue
        of = arm["calibration"][OUT]
        gap = f"{of['position_gap']:+.3f}" if name in JUDGES else "none"
        rows.append(
            [TITLES[name], f"{arm['temperature']:.2f}"]
            + [f"{of[key]:.3f}" for key in ("ece", "ece_tempered", "log_loss", "log_loss_tempered")]
            + [gap]
        )
    head = ["out of distribution", "temperature", "ECE", "... tempered", "log loss", "... tempered"]
    return markdown([*head, "position gap"], rows)


def best_of_n_table(pools: Mapping[str, Path]) -> str:
    """Gold of the answer that each chooser takes out of all, from experiments/ranking_study.py."""
    found = {title: json.loads(path.read_text(encoding="utf-8")) for title, path in pools.items()}
    rows: dict[str, list[str]] = {}
    for result in found.values():
        n = max(row["n"] for row in result["best_of_n"])
        said = {CHOOSERS[row["chooser"]]: row["gold"] for row in result["best_of_n"] if row["n"] == n}
        said |= {
            row["schedule"]: row["gold"]
            for row in result["schedules"]
            if row["n"] == n and row["schedule"] in ("the best there is", "any of them (mean)")
        }
        for name, gold in said.items():
            rows.setdefault(name, []).append(_cell(gold))
    head = [
        f"{title}: {result['prompts']} prompts, n = {max(row['n'] for row in result['best_of_n'])}"
        for title, result in found.items()
    ]
    return markdown(["gold of the chosen answer", *head], [[name, *cells] for name, cells in rows.items()])


def page(found: Numbers) -> str:
    """The page as the numbers make it."""
    text = PAGE.read_text(encoding="utf-8")
    parts = {"accuracy": short_table(found), "leads": lead_table(found)}
    parts |= {"calibration": calibration_table(found)}
    parts |= {f"sources {kind}": source_table(found, kind) for kind in SETS}
    parts |= {"adaptation": adaptation.table(adaptation.results()), "best of n": best_of_n_table(POOLS)}
    for name, content in parts.items():
        text = filled(text, name, content)
    return text


def picture(found: Numbers, path: Path) -> None:
    """Accuracy of each arm on the three kinds of rows."""
    figure, ax = plots.canvas(7.0, 6.4)
    rows = {
        TITLES[name]: {kind: Estimate(*arm["sets"][kind]) for kind in SETS}
        for name, arm in found["arms"].items()
    }
    plots.accuracy_bars(ax, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


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
    text = page(found)
    with atomic_write(PAGE) as file:
        file.write(text)
    picture(found, PICTURE)
    print(short_table(found))


if __name__ == "__main__":
    main()
