"""Claim 1: pre-training on unlabeled responses is what makes the reward model generalise.

Where it stands: arXiv 2506.14175, the two-stage training and its ablation without pre-training; gains grow
with the amount of unlabeled data.
Our scale: the world, 0.7M parameters; stage 1 on none, 1%, 10% and 100% of 44,800 unlabeled pairs with the
same number of steps (1,400 x 32: a hundredth is read a hundred times), then stage 2 on 1,000 labels of half
of the families. Three seeds, 500 test pairs per half.
Expectation: never-labeled families stay at chance without stage 1 and rise with its data; families with
labels need it less.
Command: python -m experiments.claims.unlabeled_pretraining
Measured: partly; never labeled: stage 1 on all unlabeled pairs against none: +0.417 [+0.244, +0.590]. Cost:
16 minutes of one core. All of it: docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.claims import pictures
from experiments.claims.study import Cell, Result, Study, cell_text, main, markdown, paired, values
from experiments.claims.workshop import Workshop

SHARES = (0.0, 0.01, 0.1, 1.0)
KEYS = {
    "seen": "judge, families with labels",
    "unseen": "judge, never labeled",
    "likelihood_seen": "likelihood, with labels",
    "likelihood_unseen": "likelihood, never labeled",
}


def cells(smoke: bool) -> list[Cell]:
    return [{"share": share} for share in ((0.0, 1.0) if smoke else SHARES)]


def run(cell: Cell, models: Path, smoke: bool) -> Result:
    shop = Workshop(cell["seed"], models, smoke)
    pairs = round(cell["share"] * shop.recipe.unlabeled)
    body = shop.body(pairs) if pairs else shop.blank()
    likelihood = shop.measure(shop.lab.likelihood(body))
    found = {f"likelihood_{half}": likelihood[half] for half in ("seen", "unseen")}
    return {"unlabeled": pairs} | found | shop.measure(shop.lab.as_judge(shop.judge(body)))


def table(results: Sequence[Result]) -> str:
    rows = [
        [f"{share:.0%}" if share else "none", *(cell_text(values(results, key, share=share)) for key in KEYS)]
        for share in SHARES
        if values(results, "seen", share=share)
    ]
    return markdown(["unlabeled pairs", *KEYS.values()], rows)


def statements(results: Sequence[Result]) -> dict[str, list[float]]:
    def gain(key: str, more: float, less: float) -> list[float]:
        return paired(results, key, {"share": more}, {"share": less})

    return {
        "never labeled: stage 1 on all unlabeled pairs against none": gain("unseen", 1.0, 0.0),
        "never labeled: all against a tenth": gain("unseen", 1.0, 0.1),
        "never labeled: a tenth against a hundredth": gain("unseen", 0.1, 0.01),
        "with labels: all against none": gain("seen", 1.0, 0.0),
    }


def picture(results: Sequence[Result], path: Path) -> None:
    series = {
        name: [values(results, key, share=share) for share in SHARES]
        for key, name in KEYS.items()
        if key != "likelihood_seen"
    }
    x = [100 * share for share in SHARES]
    pictures.lines(path, [(x, series, {"xlabel": "unlabeled pairs read in stage 1, % of 44,800"})])


STUDY = Study("unlabeled_pretraining", (21, 22, 23), cells, run, table, statements, picture)

if __name__ == "__main__":
    main(STUDY, __doc__)
