"""What was expected of gram-135m, and the claims of the paper, held against the numbers on file.

A statement is a difference that a claim expects above 0, with its 95% interval. A claim held if every
interval lies above 0, partly if some do, and did not hold if none does. Statements without numbers are named
and do not count: the claim held, or did not, so far. Reads results; asks no model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from experiments.claims.study import markdown
from experiments.foundation import adaptation, best_of_n, grpo
from experiments.foundation.arms import ARMS, SAME_LABELS
from experiments.foundation.data import COUNT
from experiments.foundation.measure import FLOORS
from experiments.foundation.results import MODEL, NOT_RUN, numbers, read, shown
from experiments.foundation.ship import SHIPPED
from experiments.foundation.tasks import TASKS

from gram.statistics import over_seeds

RIVAL = f"bradley_terry-{COUNT}"
ZERO_SHOT = ("zero_shot_sum", "zero_shot_mean", "zero_shot_pmi")
TITLES = {name: arm.title for name, arm in ARMS.items()} | FLOORS

ON_ARMS: dict[str, tuple[tuple[str, str], ...]] = {
    "Labels of some tasks teach to judge tasks that never had one": tuple(
        (SHIPPED, name) for name in ZERO_SHOT
    ),
    "Generative beats discriminative from the same labels": (
        (SHIPPED, SAME_LABELS),
        (SHIPPED, RIVAL),
        ("likelihood", "bradley_terry"),
        ("judge", "bradley_terry"),
        ("likelihood", "bradley_terry_stage_1"),
        ("likelihood", "bradley_terry_text"),
    ),
    "Pre-training on unlabeled answers helps": (
        ("likelihood", "likelihood_no_stage_1"),
        ("judge", "judge_no_stage_1"),
    ),
    "Label smoothing helps": (
        ("likelihood", "likelihood_no_smoothing"),
        ("judge", "judge_no_smoothing"),
    ),
    "A quarter of the labels is enough": (
        ("likelihood-1000", "bradley_terry"),
        ("likelihood", RIVAL),
        ("judge-1000", "bradley_terry"),
        ("judge", RIVAL),
    ),
    "It knows more than surface cues": tuple((SHIPPED, name) for name in FLOORS),
}
"""Accuracy of the first arm less that of the second, on superni's `eval`."""
LEADERS = tuple(dict.fromkeys([SHIPPED, *(pair[0] for pairs in ON_ARMS.values() for pair in pairs)]))
"""The arms whose lead over all others is computed."""

_NONE = "not run yet"

Numbers = dict[str, Any]
Statements = dict[str, list[float] | None]


def statements(found: Numbers) -> dict[str, Statements]:
    """Claim -> statement -> its difference; None where it was not run."""
    said: dict[str, Statements] = {}
    for claim, pairs in ON_ARMS.items():
        said[claim] = dict(_lead(found, one, other) for one, other in pairs)
    said["It adapts with fewer labels"] = _adapted()
    said["It chooses the better of many"] = _chosen()
    said["It is a reward that improves a policy"] = _rewarded()
    return said


def _lead(found: Numbers, one: str, other: str) -> tuple[str, list[float] | None]:
    """What is said of two arms: row by row, or, where the answers of one are on no file any more, of each.

    Then the interval is that of two independent arms, and wider, as both were asked about the same rows.
    """
    text = f"{TITLES[one]}, less {TITLES[other]}"
    lead = found["leads"].get(one, {}).get(other, {}).get("headline")
    if lead or not {one, other} <= found["arms"].keys():
        return text, lead
    x, y = (found["arms"][name]["parts"]["headline"] for name in (one, other))
    value = x[0] - y[0]
    below, above = math.hypot(x[0] - x[1], y[2] - y[0]), math.hypot(x[2] - x[0], y[0] - y[1])
    return f"{text}, not row by row", [round(v, 4) for v in (value, value - below, value + above)] + [x[3]]


def _adapted() -> Statements:
    """Accuracy less that of the Bradley-Terry model with the same labels, mean over the tasks.

    Without labels nothing is adapted: what is known before any stands in the table only.
    """
    known = {
        (row["task"], row["method"], row["labels"]): row["accuracy"][0] for row in read(adaptation.RESULTS)
    }
    said: Statements = {}
    for count in filter(None, adaptation.COUNTS):
        leads = [
            known[task, "gram", count] - known[task, "bradley_terry", count]
            for task in TASKS
            if (task, "gram", count) in known and (task, "bradley_terry", count) in known
        ]
        whole = len(leads) == len(TASKS)
        said[f"{count} labels: accuracy, less Bradley-Terry, over {len(TASKS)} tasks"] = (
            numbers(over_seeds(leads)) if whole else None
        )
    return said


def _chosen() -> Statements:
    path = best_of_n.RESULTS
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        f"{name}: gold of the chosen, less {title}": found.get(name, {}).get("leads", {}).get(who)
        for name in best_of_n.POOLS
        for who, title in (("random", "at random"), ("bradley_terry", "Bradley-Terry"))
    }


def _rewarded() -> Statements:
    runs = read(grpo.RESULTS)
    curves = [grpo.passes(run["gold"]) for run in runs]
    changes = [curve[-1] - curve[0] for curve in curves]
    change = numbers(over_seeds(changes)) if changes else None
    seeds = "one seed" if len(changes) == 1 else f"{len(changes)} seeds"
    return {f"gold of the last pass of {grpo.STEPS} steps, less that of the first, {seeds}": change}


def outcome(said: Statements) -> str:
    """held, partly, did not hold, each "so far" where a statement was not run, or not run yet.

    Example:
        >>> outcome({"a": [0.2, 0.1, 0.3], "b": [0.1, -0.1, 0.3], "c": None})
        'partly so far'
    """
    above = [difference[1] > 0 for difference in said.values() if difference]
    if not above:
        return _NONE
    word = "held" if all(above) else "partly" if any(above) else "did not hold"
    return word if len(above) == len(said) else f"{word} so far"


def table(said: Mapping[str, Statements]) -> str:
    """One row for each claim."""
    rows = []
    for claim, parts in said.items():
        cells = [
            f"{text}: {shown(difference, '+') if difference else _NONE}"
            for text, difference in parts.items()
            if outcome(parts) != _NONE
        ]
        rows.append([claim, outcome(parts), "<br>".join(cells)])
    return markdown(["claim", "here", "the differences it rests on, 95% intervals"], rows)


def expected_table(found: Numbers) -> str:
    """What was written down before, and what came out, on superni's `eval`."""
    if SHIPPED not in found["leads"]:
        return NOT_RUN
    arms, leads = found["arms"], found["leads"][SHIPPED]
    accuracy = arms[SHIPPED]["parts"]["headline"]
    rows = [_row("accuracy", "at least 0.70", accuracy, accuracy[0] >= 0.70, "")]
    asked = [name for name in ZERO_SHOT if name in leads]
    if asked:
        best = max(asked, key=lambda name: arms[name]["parts"]["headline"][0])
        lead = leads[best]["headline"]
        rows.append(_row(f"less {TITLES[best]}, the best one", "at least 0.05", lead, lead[0] >= 0.05))
    for rival in (name for name in (SAME_LABELS, RIVAL) if name in leads):
        lead = leads[rival]["headline"]
        rows.append(_row(f"less {TITLES[rival]}", "interval above 0", lead, lead[1] > 0))
    for name in (name for name in FLOORS if name in leads):
        lead = leads[name]["headline"]
        rows.append(_row(f"less {TITLES[name]}", "at least 0.15", lead, lead[0] >= 0.15))
    return markdown([f"{MODEL} on superni's categories never labeled", "expected", "found", "so it is"], rows)


def _row(what: str, expected: str, found: list[float], holds: bool, sign: str = "+") -> list[str]:
    return [what, expected, shown(found, sign), "yes" if holds else "no"]
