"""Six tasks that gram-135m never had a label of, each cut into rows to take labels from and test rows.

Reads ../shared/data (see experiments/public_files.py). Knows no model.

No question is on both sides: persona and conala have splits of their own; of the debate, labels come from
the side "yes" and tests from the side "no"; the translations are cut by document, the analogies by prompt.
`group` becomes the smallest unit whose rows belong together, so that `gram adapt` can hold some back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from experiments.foundation.data import Row, read

LABELS = 300
"""Most labels of a task."""
TESTS = 200
"""Most test rows of a task, a sample."""
TRAITS = ("optionality-preservation", "risk-averse")
"""Two of the eighteen traits: Random(0).sample(sorted(traits), 2), so that nobody chose them."""
DEBATE = "670275e7a002"
"""India has the potential to lead the world: a group of the test split of ukp_convarg."""
ANALOGIES = "Word Analogy"
"""A category of superni's `eval`: one source, five tasks of 60 rows. One task alone would have left 30
labels and 30 test rows."""
DIRECTION = "zh-en"
"""Of wmt_mqm: the answers are in English, which the base knows best, and half as long as those in German."""

Sides = tuple[list[Row], list[Row]]


@dataclass(frozen=True)
class Task:
    """A task: its title in tables, and its rows to take labels from and to test on."""

    title: str
    sides: Callable[[], Sides]

    def rows(self) -> Sides:
        """At most LABELS rows in a random order (the first are the smaller budgets), and TESTS rows."""
        labels, tests = self.sides()
        draw = Random(0)
        return draw.sample(labels, min(LABELS, len(labels))), draw.sample(tests, min(TESTS, len(tests)))


def _trait(name: str) -> Task:
    def sides() -> Sides:
        train, test = (
            [row for row in read("pref", "persona", split) if row["subset"] == name]
            for split in ("train", "test")
        )
        return train, test

    return Task(f"persona: {name}", sides)


def _conala() -> Sides:
    return read("pref", "conala", "train"), read("pref", "conala", "test")


def _debate() -> Sides:
    rows = [row for row in read("pref", "ukp_convarg", "test") if row["group"] == DEBATE]
    rows = _grouped(rows, "chosen")  # pairs of one winning argument stay together
    yes = [row for row in rows if row["subset"].endswith("yes-for")]
    return yes, [row for row in rows if row not in yes]


def _analogies() -> Sides:
    rows = [row for row in read("pref", "superni", "eval") if row["category"] == ANALOGIES]
    return _cut(_grouped(rows, "prompt"), LABELS // 2)


def _translations() -> Sides:
    rows = [row for row in read("pref", "wmt_mqm", "eval") if row["subset"] == DIRECTION]
    labels, tests = _cut(rows, LABELS)
    return _grouped(labels, "prompt"), tests  # few documents: `gram adapt` holds back sentences


def _grouped(rows: Sequence[Row], field: str) -> list[Row]:
    """The rows with the hash of a field as their group."""
    return [row | {"group": blake2b(row[field].encode(), digest_size=6).hexdigest()} for row in rows]


def _cut(rows: Sequence[Row], labels: int) -> Sides:
    """Whole groups in a random order, until there are so many labels; the rest are test rows."""
    groups = sorted({row["group"] for row in rows})
    taken: list[Row] = []
    kept = set(groups)
    for group in Random(0).sample(groups, len(groups)):
        if len(taken) >= labels:
            break
        taken += [row for row in rows if row["group"] == group]
        kept.remove(group)
    return taken, [row for row in rows if row["group"] in kept]


TASKS = {
    **{name: _trait(name) for name in TRAITS},
    "conala": Task("conala: one line of Python", _conala),
    "debate": Task("ukp_convarg: one debate", _debate),
    "analogies": Task("superni: word analogies", _analogies),
    "translations": Task("wmt_mqm: Chinese to English", _translations),
}
