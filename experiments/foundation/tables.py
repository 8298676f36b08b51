"""Tables and pictures of rings and arms, from the numbers of gram-135m. Reads no answer, asks no model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.claims.study import markdown
from experiments.foundation.arms import ARMS, BY_LABELS, CONFIGS, PLAIN, SAME_LABELS, Arm
from experiments.foundation.data import COUNT
from experiments.foundation.measure import FLOORS
from experiments.foundation.results import shown
from experiments.foundation.rows import RINGS
from experiments.foundation.ship import SHIPPED

from gram import plots
from gram.statistics import HIGHEST, Estimate
from gram.training.config import load_config

TITLES = {name: arm.title for name, arm in ARMS.items()} | FLOORS
KINDS = ("label", "other", "span")
"""Kinds of rows of superni's `eval`; of `negative` there are 14."""
SUPERNI = "superni, categories never labeled"
COLUMNS = ("headline", *RINGS)
SHOWN = (
    SHIPPED,
    "likelihood",
    SAME_LABELS,
    f"bradley_terry-{COUNT}",
    "zero_shot_mean",
    "zero_shot_judge",
    "bag_of_words",
    "length_rule",
)
"""Arms of the picture and of the README."""

Numbers = dict[str, Any]


def short_table(found: Numbers) -> str:
    """Accuracy of each arm with the common number of labels, on the headline and the rings."""
    sizes = next(iter(found["arms"].values()))["parts"]
    rows = [
        [TITLES[name], *(shown(arm["parts"][part]) for part in COLUMNS)]
        for name, arm in found["arms"].items()
    ]
    return markdown(["", *(f"{_title(part)} ({sizes[part][3]:,})" for part in COLUMNS)], rows)


STARTS = {"base": "the base", "stage_1": "stage 1", "easy": "stage 1, then easy labels"}


def arms_table() -> str:
    """What each arm is: where it starts, and how its stage 2 is trained."""
    rows = [[arm.title, STARTS[arm.start], *_stage_2(arm)] for name, arm in ARMS.items() if name != "easy"]
    head = ["arm", "begins with", "trained", "labels", "pairs a step", "rate", "smoothing"]
    return markdown(head, rows)


def _stage_2(arm: Arm) -> list[str]:
    if arm.stage_2 is None:
        return ["nothing", *[""] * 4]
    common = load_config(CONFIGS / "3-finetune.yaml")
    config = replace(common, **arm.stage_2)
    adapter = "LoRA" if config.lora else "" if config.freeze else "all weights"
    head = "a score head" if config.objective == "scalar" else ""
    labels = f"{arm.labels:,}" if arm.labels else "the short ones"
    numbers = (f"{config.batch_size}", f"{config.learning_rate:g}", f"{config.label_smoothing:g}")
    return [" and ".join(filter(None, (adapter, head))), labels, *numbers]


def _title(part: str) -> str:
    return SUPERNI if part == "headline" else part


def kinds_table(found: Numbers) -> str:
    """Accuracy on the headline by kind of row."""
    columns = [f"headline, {kind}" for kind in KINDS]
    sizes = next(iter(found["arms"].values()))["parts"]
    rows = [
        [TITLES[name], *(shown(arm["parts"][part]) for part in columns)]
        for name, arm in found["arms"].items()
    ]
    head = (f"{part.removeprefix('headline, ')} ({sizes[part][3]:,})" for part in columns)
    return markdown([SUPERNI, *head], rows)


def lead_table(found: Numbers, name: str) -> str:
    """Accuracy of one arm less that of every other, on the same rows."""
    rows = [
        [TITLES[other], *(shown(leads[part], "+") for part in COLUMNS)]
        for other, leads in found["leads"][name].items()
    ]
    return markdown([f"{TITLES[name]}, less", *map(_title, COLUMNS)], rows)


def source_table(found: Numbers, ring: str) -> str:
    """One row per arm, one column per source of a ring."""
    arms, sources = found["arms"], RINGS[ring].sources
    sizes = next(iter(arms.values()))["sources"][ring]
    rows = [
        [TITLES[name], *(f"{arm['sources'][ring][source][0]:.3f}" for source in sources)]
        for name, arm in arms.items()
    ]
    return markdown([ring, *(f"{source} ({sizes[source][3]})" for source in sources)], rows)


def curve_table(found: Numbers) -> str:
    """Accuracy on the headline by number of labels."""
    arms = found["arms"]
    rows = []
    for name, by_count in BY_LABELS.items():
        cells = [arms.get(arm) for arm in by_count.values()]
        rows.append([PLAIN[name], *(shown(arm["parts"]["headline"]) if arm else "" for arm in cells)])
    return markdown([SUPERNI, "1,000 labels", "4,000", f"{COUNT:,}"], rows)


def seeds_table(found: Numbers) -> str:
    """Accuracy of the arms whose stage 2 ran with another seed too."""
    rows = []
    for name in dict.fromkeys(name for arms in found["seeds"].values() for name in arms):
        every = {"0": found["arms"][name]["parts"]} if name in found["arms"] else {}
        every |= {seed: arms[name] for seed, arms in found["seeds"].items() if name in arms}
        rows += [
            [TITLES[name], seed, *(shown(parts[part]) for part in COLUMNS)] for seed, parts in every.items()
        ]
    return markdown(["", "seed", *map(_title, COLUMNS)], rows)


def calibration_table(found: Numbers) -> str:
    """Calibration on the headline, tempered by rows held back; position gap and label mass of judges."""
    rows = []
    for name, arm in found["arms"].items():
        if name in FLOORS:
            continue
        of = arm["calibration"]
        gap = f"{of['order_gap']:+.3f}" if ARMS[name].kind == "judge" else "none"
        mass = f"{of['label_mass']:.3f}" if "label_mass" in of else ""
        values = (f"{of[key]:.3f}" for key in ("ece", "ece_tempered", "log_loss", "log_loss_tempered"))
        temperature = "none" if arm["temperature"] >= HIGHEST else f"{arm['temperature']:.2f}"
        rows.append([TITLES[name], temperature, *values, gap, mass])
    head = [
        "",
        "temperature",
        "ECE",
        "... tempered",
        "log loss",
        "... tempered",
        "position gap",
        "label mass",
    ]
    return markdown(head, rows)


def bars(found: Numbers, path: Path) -> None:
    """Accuracy of the main arms on the headline and the rings."""
    figure, ax = plots.canvas(9.4, 8)
    rows = {
        TITLES[name]: {_title(part): Estimate(*found["arms"][name]["parts"][part]) for part in COLUMNS}
        for name in SHOWN
        if name in found["arms"]
    }
    plots.accuracy_bars(ax, rows)
    plots.save(figure, path, dpi=110)


def curve(found: Numbers, path: Path) -> bool:
    """Accuracy on the headline over the number of labels, of the arms that ran with all; False: none did."""
    arms = found["arms"]
    lines = {
        PLAIN[name]: [Estimate(*arms[arm]["parts"]["headline"]) for arm in by_count.values()]
        for name, by_count in BY_LABELS.items()
        if all(arm in arms for arm in by_count.values())
    }
    if lines:
        figure, ax = plots.canvas(7.4, 4.4)
        plots.curve(ax, (1_000, 4_000, COUNT), lines, title=SUPERNI)
        plots.save(figure, path, dpi=110)
    return bool(lines)
