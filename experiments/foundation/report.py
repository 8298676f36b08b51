"""What the answers on file say: the numbers of gram-135m, and the tables of its page.

Command: python -m experiments.foundation.report (seconds). Reads what the arms said, of every seed, writes
experiments/results/gram_135m.json (arms whose answers are on no file keep the numbers that they have there),
and from it and the results of adaptation, best_of_n, grpo and everyday
the marked parts of docs/gram-135m.md and docs/results-gram-135m.md, with their pictures, of its card
and of README.md. With
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
from experiments.foundation import adaptation, attributions, best_of_n, claims, everyday, grpo, tables
from experiments.foundation.arms import ARMS, CONFIGS, MODELS
from experiments.foundation.claims import LEADERS
from experiments.foundation.measure import KEPT, read
from experiments.foundation.results import NOT_RUN
from experiments.foundation.results import numbers as four
from experiments.foundation.results import read as read_lines
from experiments.foundation.rows import HEADLINE, HELD, RINGS
from experiments.foundation.ship import SHIPPED
from experiments.foundation.tables import KINDS, TITLES
from experiments.pages import filled

from gram.evaluation import Estimate
from gram.files import atomic_write
from gram.statistics import best_temperature, credit, log_loss, mean_by_group, reliability, tempered
from gram.types import FloatArray, Verdicts

RESULTS = Path("experiments/results/gram_135m.json")
PAGE = Path("docs/gram-135m.md")
DETAILS = Path("docs/results-gram-135m.md")
CARD = CONFIGS / "MODEL_CARD.md"
README = Path("README.md")
_CHOSEN = "Of the two kinds this one was better on rows held back from training."
KIND = {
    "likelihood": "It is a **likelihood**: its score of an answer is the mean log-probability of its tokens, "
    f"and the log-odds of two answers are the difference of their scores, times a slope. {_CHOSEN}",
    "judge": "It is a **judge**: it reads both answers, names the better one, and is asked in both orders. "
    f"{_CHOSEN}",
}
IMAGES = Path("docs/images")
EMPTY: dict[str, Any] = {"arms": {}, "leads": {}, "seeds": {}}

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
        self.mass: FloatArray = np.array([row.get("mass", np.nan) for row in rows], dtype=np.float64)
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
        if not np.isnan(self.mass[where]).any():  # the first arms were asked before it was kept
            found["label_mass"] = float(self.mass[where].mean())
        return {name: round(value, 4) for name, value in found.items()}


def numbers(earlier: Numbers = EMPTY) -> Numbers:
    """Everything that the page shows, from the answers on file.

    Args:
        earlier: numbers of arms whose answers are no longer there; they stay as they are.
    """
    asked = {name: Answers(rows) for name in TITLES if (rows := read(name))}
    arms = dict(earlier["arms"])
    for name, answers in asked.items():
        arms[name] = {
            "parts": {part: four(answers.accuracy(where)) for part, where in answers.parts().items()},
            "sources": {
                ring: {
                    source: four(answers.accuracy((answers.rings == ring) & (answers.sources == source)))
                    for source in RINGS[ring].sources
                }
                for ring in RINGS
            },
            "temperature": round(answers.temperature, 3),
            "calibration": answers.calibration(answers.headline),
        }
    leads = {name: dict(others) for name, others in earlier["leads"].items()}
    for leader in (name for name in LEADERS if name in asked):
        leads.setdefault(leader, {}).update(
            {
                other: {
                    part: four(asked[leader].lead(answers, answers.parts()[part])) for part in tables.COLUMNS
                }
                for other, answers in asked.items()
                if other != leader
            }
        )
    return {
        "arms": _in_order(arms),
        "leads": {name: _in_order(others) for name, others in leads.items()},
        "seeds": earlier["seeds"] | _of_seeds(),
    }


def _in_order(arms: Mapping[str, Any]) -> Numbers:
    return {name: arms[name] for name in TITLES if name in arms}


def _of_seeds() -> Numbers:
    """Accuracy by parts, of every further seed."""
    found = {}
    for folder in sorted({path.name for home in (MODELS, KEPT) for path in home.glob("seed-[1-9]*")}):
        seed = int(folder.removeprefix("seed-"))
        again = {name: Answers(rows) for name in TITLES if (rows := read(name, seed))}
        found[str(seed)] = {
            name: {part: four(answers.accuracy(where)) for part, where in answers.parts().items()}
            for name, answers in again.items()
        }
    return found


def write_page(found: Numbers) -> None:
    """Fill the marked parts of the page, and draw its pictures; what has no result says so."""
    accuracy = _few(found)
    if found["arms"]:
        tables.bars(found, IMAGES / "gram_135m.png")
        accuracy = _pictured("gram_135m.png", "Accuracy of the main arms") + accuracy
    _fill(PAGE, {"kind": KIND[ARMS[SHIPPED].kind], "accuracy": accuracy} | _used(found))


def write_details(found: Numbers) -> None:
    """Fill the marked parts of the page of all arms."""
    _fill(DETAILS, {"arms": tables.arms_table()} | _measured(found))


def write_card(found: Numbers) -> None:
    """Fill the marked parts of the card."""
    parts = {
        "expected": claims.expected_table(found),
        "accuracy": tables.short_table(found) if found["arms"] else NOT_RUN,
        "superni": attributions.table(attributions.trained_on()),
    }
    _fill(CARD, parts)


def write_readme(found: Numbers) -> None:
    """Fill the table of the README."""
    _fill(README, {"gram-135m": _few(found)})


def _few(found: Numbers) -> str:
    """The model that ships, its rivals and the floors."""
    few = {"arms": {name: found["arms"][name] for name in tables.SHOWN if name in found["arms"]}}
    return tables.short_table(few) if few["arms"] else NOT_RUN


def _fill(path: Path, parts: Mapping[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for name, content in parts.items():
        text = filled(text, name, content)
    with atomic_write(path) as file:
        file.write(text)


def _measured(found: Numbers) -> dict[str, str]:
    """The parts about rings and arms."""
    leaders = {"shipped": SHIPPED} | {name: name for name in ("likelihood", "judge")}
    names = ("accuracy", "kinds", "curve", "seeds", "calibration")
    parts = dict.fromkeys(names, NOT_RUN)
    parts |= {f"leads {name}": NOT_RUN for name in leaders} | {f"sources {ring}": NOT_RUN for ring in RINGS}
    if not found["arms"]:
        return parts
    parts["accuracy"] = tables.short_table(found)
    parts["kinds"] = tables.kinds_table(found)
    parts["curve"] = tables.curve_table(found)
    if tables.curve(found, IMAGES / "gram_135m_labels.png"):
        image = _pictured("gram_135m_labels.png", "Accuracy over the number of labels")
        parts["curve"] = image + parts["curve"]
    parts["calibration"] = tables.calibration_table(found)
    if found["seeds"]:
        parts["seeds"] = tables.seeds_table(found)
    for name, arm in leaders.items():
        if arm in found["leads"]:
            parts[f"leads {name}"] = tables.lead_table(found, arm)
    return parts | {f"sources {ring}": tables.source_table(found, ring) for ring in RINGS}


def _used(found: Numbers) -> dict[str, str]:
    """The parts about what it is used for, and what all say together."""
    parts = {
        "expected": claims.expected_table(found),
        "claims": claims.table(claims.statements(found)),
        "adaptation": adaptation.section(),
        "best of n": best_of_n.section(),
        "grpo": grpo.section(),
        "everyday": everyday.section(),
    }
    for name, study, words in (
        ("adaptation", adaptation, "Accuracy over the number of labels, a panel for each task"),
        ("grpo", grpo, "Gold and reward over the steps of GRPO"),
    ):
        results = read_lines(study.RESULTS)
        if results and study.picture(results, IMAGES / f"gram_135m_{name}.png"):
            parts[name] = _pictured(f"gram_135m_{name}.png", words) + parts[name]
    return parts


def _pictured(file: str, words: str) -> str:
    return f"![{words}](images/{file})\n\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="from the numbers on file")
    found = EMPTY if not RESULTS.exists() else json.loads(RESULTS.read_text(encoding="utf-8"))
    if not parser.parse_args(arguments).page:
        found = numbers(found)
        with atomic_write(RESULTS) as file:
            file.write(json.dumps(found, indent=1) + "\n")
    write_page(found)
    write_details(found)
    write_card(found)
    write_readme(found)
    print(claims.expected_table(found))


if __name__ == "__main__":
    main()
