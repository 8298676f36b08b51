"""Tables and the picture of the real-text study, from its numbers. Reads no answer and asks no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.claims.study import markdown
from experiments.real_text.arms import ARMS, SHIPPED
from experiments.real_text.measure import FLOORS
from experiments.real_text.rows import CALIBRATION, SETS, SPOILED

from gram import plots
from gram.evaluation import Estimate

TITLES = {name: arm.title for name, arm in ARMS.items()} | FLOORS
GRAM = ("judge", "likelihood")
"""The arms whose lead is shown."""
CHOOSERS = {
    "judge": "GRAM, judge",
    "likelihood": "GRAM, likelihood",
    "zero_shot": "likelihood, no labels",
    "bradley_terry_pretrained": "Bradley-Terry on the body",
    "ensemble": "mean of judge, likelihood and Bradley-Terry, standardised",
    "length": "length rule",
}
OUT = "out of distribution"

Numbers = dict[str, Any]


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


def lead_table(found: Numbers, name: str) -> str:
    """Accuracy of one arm less that of every other, on the same rows."""
    rows = [
        [TITLES[other], *(_cell(leads[kind], "+") for kind in SETS)]
        for other, leads in found["leads"][name].items()
    ]
    return markdown([f"{TITLES[name]}, less", *SETS], rows)


def source_table(found: Numbers, kind: str) -> str:
    """One row per source, one column per arm."""
    rows = []
    for source in SETS[kind].sources:
        cells = [arm["sources"][source] for arm in found["arms"].values()]
        rows.append([f"{source} ({cells[0][3]})", *map(_cell, cells)])
    return markdown([kind, *(TITLES[name] for name in found["arms"])], rows)


def held_back_table(found: Numbers) -> str:
    """Accuracy on labels held back and, by kind, on spoiled answers to test prompts."""
    rows = [[TITLES[name], *map(_cell, arm["held_back"].values())] for name, arm in found["arms"].items()]
    sizes = next(iter(found["arms"].values()))["held_back"]
    names = {CALIBRATION: "labels", SPOILED: "spoiled, all kinds"}
    head = [names.get(part, part.removeprefix(f"{SPOILED}_")) for part in sizes]
    return markdown(
        ["", *(f"{name} ({size[3]})" for name, size in zip(head, sizes.values(), strict=True))], rows
    )


def seeds_table(found: Numbers) -> str:
    """Accuracy of the arms whose stage 2 ran with more than one seed, and the lead of the shipped one."""
    seeds = found["seeds"]
    rows = [
        [TITLES[name], seed, *(_cell(sets[kind]) for kind in SETS)]
        for name in dict.fromkeys(name for of in seeds.values() for name in of["arms"])
        for seed, sets in (
            ("0", found["arms"][name]["sets"]),
            *((seed, of["arms"][name]) for seed, of in seeds.items() if name in of["arms"]),
        )
    ]
    rows += [
        [f"{TITLES[SHIPPED]}, less {TITLES[name]}", seed, *(_cell(leads[name][kind], "+") for kind in SETS)]
        for name in dict.fromkeys(name for of in seeds.values() for name in of["leads"])
        for seed, leads in (
            ("0", found["leads"][SHIPPED]),
            *((seed, of["leads"]) for seed, of in seeds.items() if name in of["leads"]),
        )
    ]
    return markdown(["", "seed", *SETS], rows)


def calibration_table(found: Numbers) -> str:
    """Calibration and position gap of the arms out of distribution."""
    rows = []
    for name, arm in found["arms"].items():
        if name in FLOORS:
            continue
        of = arm["calibration"][OUT]
        gap = f"{of['position_gap']:+.3f}" if ARMS[name].kind == "judge" else "none"
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


def everyday(prompts: Sequence[Mapping[str, Any]]) -> str:
    """The first five prompts that are ranked as they were written, and the first three that are not."""
    hits = [row for row in prompts if row["order"] == sorted(row["order"])]
    misses = [row for row in prompts if row not in hits]
    first = sum(row["order"][0] == 0 for row in prompts)
    last = sum(row["order"][-1] == len(row["order"]) - 1 for row in prompts)
    lines = [
        f"Of {len(prompts)} prompts, {len(hits)} are ranked in the intended order, {first} have the best "
        f"answer first, and {last} the worst one last. Answers stand here as the model ranks them, with "
        "their strengths (mean log-odds against the others); the number is the intended place."
    ]
    for title, rows in (("Ranked sensibly", hits[:5]), ("Where it fails", misses[:3])):
        lines.append(f"**{title}**")
        lines += [_ranking(row) for row in rows]
    return "\n\n".join(lines)


def _ranking(row: Mapping[str, Any]) -> str:
    answers = []
    for place in row["order"]:
        text = " ".join(row["responses"][place].split())
        answers.append(f"- {place + 1} ({row['strengths'][place]:+.2f}): {text}")
    return f"*{row['prompt']}*\n\n" + "\n".join(answers)


def picture(found: Numbers, path: Path) -> None:
    """Accuracy of each arm on the three kinds of rows."""
    figure, ax = plots.canvas(8.4, 6.4)
    rows = {
        TITLES[name]: {kind: Estimate(*arm["sets"][kind]) for kind in SETS}
        for name, arm in found["arms"].items()
    }
    plots.accuracy_bars(ax, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
