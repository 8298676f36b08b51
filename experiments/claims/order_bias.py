"""Claim 7: both orders, in training and in asking, take the position bias out.

Where it stands: arXiv 2506.14175 trains and asks with the answers in either place; docs/theory.md shows
that the mean over both orders decides as the opinion does, whatever the bias.
Our scale: the world; 1,000 labels in which the better answer stands first in half or in 80% of the pairs,
trained as they are or with swapped copies (at half weight each: same pairs, same steps), then asked in one
order or in both. Three seeds, 500 test pairs per half.
Expectation: with 80% first and no copies the judge prefers the first place; asking twice repairs its
accuracy.
Command: python -m experiments.claims.order_bias
Measured: did not hold; 80% first, no copies: both orders against one, never labeled: +0.125 [-0.010,
+0.259]. Cost: 4 minutes of one core. All of it: docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from experiments.claims import pictures
from experiments.claims.study import Cell, Result, Study, cell_text, main, markdown, paired, select, values
from experiments.claims.workshop import Workshop

from gram.types import Preference

FIRST = (0.5, 0.8)


def cells(smoke: bool) -> list[Cell]:
    return [{"first": first, "copies": copies} for first in FIRST for copies in (True, False)]


def run(cell: Cell, models: Path, smoke: bool) -> Result:
    shop = Workshop(cell["seed"], models, smoke)
    labels = better_first(shop.labels, cell["first"], cell["seed"])
    trained = shop.train(shop.body(), shop.judging(both_orders=cell["copies"]), labels)
    one = shop.measure(shop.lab.as_judge(trained, both_orders=False))
    found = {f"one_order_{key}": one[key] for key in ("seen", "unseen")}
    return found | shop.measure(shop.lab.as_judge(trained))


def better_first(preferences: Sequence[Preference], share: float, seed: int) -> list[Preference]:
    """The same preferences, the better answer shown first with probability ``share``."""
    draw = np.random.default_rng([seed, 11]).random(len(preferences)) < share
    return [
        preference if (preference.p_a > 0.5) == first else preference.swapped()
        for preference, first in zip(preferences, draw, strict=True)
    ]


KEYS = {
    "one_order_unseen": "never labeled, one order",
    "unseen": "never labeled, both orders",
    "one_order_seen": "with labels, one order",
    "seen": "with labels, both orders",
    "unseen_position_gap": "position gap",
}


def table(results: Sequence[Result]) -> str:
    rows = []
    for first in FIRST:
        for copies in (True, False):
            wanted = {"first": first, "copies": copies}
            if values(results, "seen", **wanted):
                found = (cell_text(values(results, key, **wanted)) for key in KEYS)
                rows.append([f"{first:.0%}", "yes" if copies else "no", *found])
    return markdown(["better answer first", "swapped copies", *KEYS.values()], rows)


def statements(results: Sequence[Result]) -> dict[str, list[float]]:
    bare = select(results, first=0.8, copies=False)
    copies = {"first": 0.8, "copies": True}
    return {
        "80% first, no copies: both orders against one, never labeled": [
            result["unseen"] - result["one_order_unseen"] for result in bare
        ],
        "80% first, one order: with copies against without, never labeled": paired(
            results, "one_order_unseen", copies, copies | {"copies": False}
        ),
        "80% first, with copies: both orders against one, never labeled": [
            result["unseen"] - result["one_order_unseen"] for result in select(results, **copies)
        ],
    }


def picture(results: Sequence[Result], path: Path) -> None:
    rows = {
        f"{first:.0%} first, {'with' if copies else 'no'} copies": {
            name: values(results, key, first=first, copies=copies)
            for key, name in (("one_order_unseen", "one order"), ("unseen", "both orders"))
        }
        for first in FIRST
        for copies in (True, False)
    }
    pictures.bars(path, rows)


STUDY = Study("order_bias", (21, 22, 23), cells, run, table, statements, picture)

if __name__ == "__main__":
    main(STUDY, __doc__)
