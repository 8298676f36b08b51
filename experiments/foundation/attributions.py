"""Licences of the Super-NaturalInstructions tasks that gram-135m was trained on, for its card.

Reads data/, which comes with the repository. Knows no model.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable

from experiments.claims.study import markdown
from experiments.foundation.data import LABELS, LICENCES, UNLABELED

ASKS = "CC BY"
"""How the names of licences begin that ask for attribution: their tasks are named."""
NOT_STATED = "Unknown"


def trained_on() -> set[str]:
    """The tasks of the labels and of the unlabeled answers."""
    licences = json.loads(LICENCES.read_text(encoding="utf-8"))
    tasks = set()
    for path in (LABELS, UNLABELED):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            tasks |= {row["group"] for row in map(json.loads, file)}
    return tasks & licences.keys()


def table(tasks: Iterable[str]) -> str:
    """One row for each licence: how many tasks, and their names where it asks for attribution."""
    licences = json.loads(LICENCES.read_text(encoding="utf-8"))
    by_licence: dict[str, list[str]] = {}
    for task in sorted(tasks):
        by_licence.setdefault(licences[task], []).append(task)
    rows = []
    for licence, names in sorted(by_licence.items()):
        told = ", ".join(names) if licence.startswith(ASKS) else ""
        title = "not stated (made for the repository)" if licence == NOT_STATED else licence
        rows.append([title, str(len(names)), told])
    return markdown(["licence of the instances", "tasks", "named, as the licence asks for attribution"], rows)
