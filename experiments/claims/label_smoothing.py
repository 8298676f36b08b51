"""Claim 2: label smoothing helps, and is a ranking loss with a price on the margin.

Where it stands: arXiv 2506.14175, fine-tuning with label smoothing, and its ablation; the optimum of the
margin, log((1 - eps) / eps), is derived in docs/theory.md.
Our scale: the world; stage 2 on the stage-1 body with 250 labels of which a share is turned round, 150
steps of 16 (ten passes: enough to learn wrong labels by heart), eps from 0 to 0.2. Three seeds, 500 clean
test pairs per half.
Expectation: with clean labels little changes but the margin; with noisy ones smoothing keeps calibration,
and some accuracy. The margin on the training pairs comes to rest at the optimum of each eps and, for eps =
0, grows on.
Command: python -m experiments.claims.label_smoothing
Measured: partly; never labeled, 20% wrong labels: accuracy, eps 0.1 against 0: -0.033 [-0.092, +0.027].
Cost: 14 minutes of one core. All of it: docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.claims import pictures
from experiments.claims.study import Cell, Result, Study, cell_text, main, markdown, paired, values
from experiments.claims.workshop import Workshop, flipped
from torch import nn

from gram.engine.base import Batch
from gram.objectives.formulas import optimal_margin
from gram.objectives.objective import Sums
from gram.objectives.preference import Judge
from gram.rendering import Renderer

SMOOTHING = (0.0, 0.05, 0.1, 0.2)
NOISE = (0.0, 0.1, 0.2, 0.3)
LABELS, STEPS, BATCH, WINDOW = 250, 150, 16, 10


class Watched(Judge):
    """The judge's objective, keeping the mean margin of every training batch."""

    def __init__(self, renderer: Renderer, eps: float) -> None:
        super().__init__(renderer, label_smoothing=eps)
        self.margins: list[float] = []

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        sums = super().loss_sum(model, batch)
        self.margins.append(sums.metrics["margin"].item() / self.count(batch).item())
        return sums


def cells(smoke: bool) -> list[Cell]:
    if smoke:
        return [{"eps": 0.0, "noise": 0.0}, {"eps": 0.1, "noise": 0.2}]
    return [{"eps": eps, "noise": noise} for noise in NOISE for eps in SMOOTHING]


def run(cell: Cell, models: Path, smoke: bool) -> Result:
    shop = Workshop(cell["seed"], models, smoke)
    objective = Watched(shop.lab.renderer, cell["eps"])
    how = replace(shop.stage_2, steps=2 * WINDOW if smoke else STEPS, batch_size=BATCH)
    labels = flipped(shop.labels[:LABELS], cell["noise"], cell["seed"])
    trained = shop.train(shop.body(), objective, labels, how)
    windows = [
        sum(objective.margins[start : start + WINDOW]) / WINDOW for start in range(0, how.steps, WINDOW)
    ]
    return shop.measure(shop.lab.as_judge(trained)) | {"training_margins": [round(m, 3) for m in windows]}


def table(results: Sequence[Result]) -> str:
    rows = []
    for noise in NOISE:
        for eps in SMOOTHING:
            wanted = {"eps": eps, "noise": noise}
            if not values(results, "seen", **wanted):
                continue
            difference = paired(results, "unseen", wanted, {"eps": 0.0, "noise": noise}) if eps else []
            last = [margins[-1] for margins in values(results, "training_margins", **wanted)]
            keys = ("seen", "unseen", "unseen_ece", "unseen_log_loss", "unseen_margin")
            rows.append(
                [
                    f"{noise:.0%}",
                    f"{eps:g}",
                    *(cell_text(values(results, key, **wanted)) for key in keys),
                    f"{cell_text(last, 2)} ({optimal_margin(eps):.2f})",
                    cell_text(difference, sign=True) if difference else "",
                ]
            )
    head = ["wrong labels", "eps", "with labels", "never labeled", "ECE", "log loss", "margin, tests"]
    return markdown([*head, "margin, training (optimum)", "never labeled, against eps 0"], rows)


def statements(results: Sequence[Result]) -> dict[str, list[float]]:
    def gain(key: str, noise: float) -> list[float]:
        return paired(results, key, {"eps": 0.1, "noise": noise}, {"eps": 0.0, "noise": noise})

    return {
        "never labeled, 20% wrong labels: accuracy, eps 0.1 against 0": gain("unseen", 0.2),
        "... fall of the calibration error": [-x for x in gain("unseen_ece", 0.2)],
        "never labeled, clean labels: accuracy, eps 0.1 against 0": gain("unseen", 0.0),
        "... fall of the calibration error ": [-x for x in gain("unseen_ece", 0.0)],
        "... fall of the margin, nats": [-x for x in gain("unseen_margin", 0.0)],
    }


def picture(results: Sequence[Result], path: Path) -> None:
    x = [WINDOW * (k + 1) for k in range(STEPS // WINDOW)]
    growth = {
        f"eps {eps:g}": list(zip(*values(results, "training_margins", eps=eps, noise=0.0), strict=True))
        for eps in SMOOTHING
    }
    by_noise = {
        f"eps {eps:g}": [values(results, "unseen_ece", eps=eps, noise=noise) for noise in NOISE]
        for eps in SMOOTHING
    }
    margin = {"xlabel": "step", "ylabel": "training margin, nats", "chance": None, "log": False}
    noise = {"xlabel": "wrong labels, %", "ylabel": "calibration error", "chance": None, "log": False}
    optima = [optimal_margin(eps) for eps in SMOOTHING if eps]
    pictures.lines(
        path, [(x, growth, margin), ([100 * share for share in NOISE], by_noise, noise)], levels=optima
    )


STUDY = Study("label_smoothing", (21, 22, 23), cells, run, table, statements, picture)

if __name__ == "__main__":
    main(STUDY, __doc__)
