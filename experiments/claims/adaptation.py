"""Claim 4: little or no labeled data suffices for a new task.

Where it stands: arXiv 2506.14175, adaptation of the foundation reward model with few task-specific labels
against baselines that need many.
Our scale: the world; a family that never had a label, and 0 to 1,000 labels of it. Every model has first
learned from the same 1,000 labels of the other half: the judge on the stage-1 body, a Bradley-Terry head on
the same body, and one from scratch. Then 60 steps of 16 pairs on the new labels (judge: all weights, LoRA,
head only). Three seeds, 500 test pairs of the family. The headline: how many labels a baseline needs to
reach the judge without any.
Expectation: the judge needs none; the head on the body few; the one from scratch hundreds, or never.
Command: python -m experiments.claims.adaptation
Measured: partly; judge without a label against Bradley-Terry on the body with 30: +0.103 [+0.073, +0.134].
Cost: 9 minutes of one core. All of it: docs/claims.md. On real text: adaptation_real.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.claims import pictures
from experiments.claims.study import Cell, Result, Study, cell_text, main, markdown, paired, values
from experiments.claims.workshop import Trained, Workshop

from gram.modeling.loading import LoadedModel
from gram.statistics import over_seeds
from gram.types import PreferenceModel

COUNTS = (0, 10, 30, 100, 300, 1000)
TESTS = 500
METHODS: dict[str, tuple[str, str, Trained]] = {
    "judge": ("judge, all weights", "judge", "all"),
    "judge_lora": ("judge, LoRA", "judge", "lora"),
    "judge_head": ("judge, head only", "judge", "frozen"),
    "bt": ("Bradley-Terry on the body", "bt", "all"),
    "bt_scratch": ("Bradley-Terry from scratch", "bt_scratch", "all"),
}
NAMES = {method: name for method, (name, _, _) in METHODS.items()}
RATES: dict[Trained, float] = {"all": 3e-4, "lora": 1e-3, "frozen": 3e-3}


def cells(smoke: bool) -> list[Cell]:
    counts = (0, 10) if smoke else COUNTS
    return [{"method": method, "labels": count} for method in METHODS for count in counts]


def run(cell: Cell, models: Path, smoke: bool) -> Result:
    shop = Workshop(cell["seed"], models, smoke)
    _, start, trained = METHODS[cell["method"]]
    family = shop.world.unseen_families[0]
    labels = shop.preferences(cell["labels"], [family], "train")
    tests = {"new": shop.preferences(20 if smoke else TESTS, [family], "test")}
    loaded = started(shop, start)
    if labels:
        how = replace(
            shop.stage_2,
            steps=2 if smoke else 60,
            batch_size=16,
            learning_rate=RATES[trained],
            warmup=0.1,
        )
        objective = shop.judging() if start == "judge" else shop.scoring()
        loaded = shop.train(loaded, objective, labels, how, trained=trained)
    model: PreferenceModel = shop.lab.as_judge(loaded) if start == "judge" else shop.as_scalar(loaded)
    return {"family": family} | shop.measure(model, tests)


def started(shop: Workshop, name: str) -> LoadedModel:
    """What each method starts from, made once per seed and kept."""
    make = {
        "judge": lambda: shop.judge(shop.body()),
        "bt": lambda: shop.train(shop.body(), shop.scoring(), shop.labels),
        "bt_scratch": lambda: shop.train(shop.blank(), shop.scoring(), shop.labels),
    }
    return shop.kept(name, make[name], score_head=name != "judge")


def table(results: Sequence[Result]) -> str:
    return by_labels(results, NAMES, "labels of the new family")


def by_labels(results: Sequence[Result], names: Mapping[str, str], title: str) -> str:
    """Methods by number of labels, and the headline."""
    rows = []
    for method, name in names.items():
        found = [values(results, "new", method=method, labels=count) for count in COUNTS]
        rows.append([name, *(cell_text(one) if one else "" for one in found)])
    head = [title, *(str(count) for count in COUNTS)]
    return "\n\n".join([markdown(head, rows), headline(results)])


def headline(results: Sequence[Result]) -> str:
    """Labels until the mean over seeds reaches the judge's without any."""
    zero_shot = values(results, "new", method="judge", labels=0)
    if not zero_shot:
        return ""
    goal = over_seeds(zero_shot).value
    parts = []
    for method, (name, _, _) in METHODS.items():
        counts = [
            count
            for count in COUNTS
            if (v := values(results, "new", method=method, labels=count)) and over_seeds(v).value >= goal
        ]
        needed = str(counts[0]) if counts else f"more than {COUNTS[-1]}"
        parts.append(f"{name}: {needed}")
    return f"Labels needed to reach {goal:.3f}, the judge without any: {'; '.join(parts)}."


def lead(results: Sequence[Result], labels: int, other: str, others: int) -> list[float]:
    """By how much the judge with ``labels`` leads ``other`` with ``others``, seed by seed."""
    return paired(results, "new", {"method": "judge", "labels": labels}, {"method": other, "labels": others})


def statements(results: Sequence[Result]) -> dict[str, list[float]]:
    return {
        "judge without a label against Bradley-Terry on the body with 30": lead(results, 0, "bt", 30),
        "judge without a label against Bradley-Terry from scratch with 1,000": lead(
            results, 0, "bt_scratch", 1000
        ),
        "what 100 labels add to the judge": lead(results, 100, "judge", 0),
    }


def picture(results: Sequence[Result], path: Path, xlabel: str = "labels of the new family") -> None:
    series = {
        name: [values(results, "new", method=method, labels=count) for count in COUNTS]
        for method, name in NAMES.items()
    }
    pictures.lines(path, [(COUNTS, series, {"xlabel": xlabel})])


STUDY = Study("adaptation", (21, 22, 23), cells, run, table, statements, picture)

if __name__ == "__main__":
    main(STUDY, __doc__)
