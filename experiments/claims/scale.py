"""Claim 5: more pre-training is better, and so is a larger model.

Where it stands: arXiv 2506.14175, scaling of the unlabeled data and of the model.
Our scale: the world; three widths (48, 80 and 128: 0.11 to 0.7M parameters), 5,600 to 44,800 unlabeled
pairs, each read once, then stage 2 on the same 1,000 labels. Three seeds. The loss of stage 1 on fresh
pairs is fitted by L = floor + scale / pairs ** power for each width.
Expectation: the loss falls with both; judging comes late and suddenly, once the second answer is read in
the light of the first.
Command: python -m experiments.claims.scale
Measured: partly; fall of the loss, eight times the pairs: +0.187 [-0.018, +0.393]. Cost: 22 minutes of one
core. All of it: docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from experiments.claims import pictures
from experiments.claims.study import Cell, Result, Study, cell_text, main, markdown, paired, select, values
from experiments.claims.workshop import Workshop

from gram.demo.world import World
from gram.modeling.loading import LoadedModel
from gram.objectives.language import Language
from gram.statistics import over_seeds

WIDTHS = (48, 80, 128)
PAIRS = (5600, 16_000, 44_800)


def cells(smoke: bool) -> list[Cell]:
    if smoke:
        return [{"hidden": 48, "unlabeled": 160}]
    return [{"hidden": hidden, "unlabeled": pairs} for hidden in WIDTHS for pairs in PAIRS]


def run(cell: Cell, models: Path, smoke: bool) -> Result:
    shop = Workshop(cell["seed"], models, smoke)
    hidden = None if cell["hidden"] == 128 else cell["hidden"]
    once = cell["unlabeled"] != shop.recipe.unlabeled  # all of them are read once anyway
    body = shop.body(cell["unlabeled"], hidden=hidden, once=once)
    likelihood = shop.measure(shop.lab.likelihood(body))
    numbers = {f"likelihood_{half}": likelihood[half] for half in ("seen", "unseen")}
    numbers["parameters"] = sum(p.numel() for p in body.model.parameters())
    numbers["loss"] = held_out(shop, body)
    return numbers | shop.measure(shop.lab.as_judge(shop.judge(body)))


def held_out(shop: Workshop, body: LoadedModel) -> float:
    """Stage-1 loss on pairs that nobody has read, in nats per scored token."""
    fresh = World(shop.seed).unlabeled_pairs(shop.recipe.unlabeled + 400)[-400:]
    objective = Language(shop.lab.renderer)
    samples = objective.encode(fresh)
    total = count = 0.0
    with torch.no_grad():
        for start in range(0, len(samples), 50):
            batch = objective.collate(samples[start : start + 50])
            total += objective.loss_sum(body.model, batch).loss.item()
            count += objective.count(batch).item()
    return total / count


def fitted(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """(floor, scale, power) of y = floor + scale * x ** -power: a line in logs, with the best floor."""
    best = (float("inf"), 0.0, 0.0, 0.0)
    for floor in np.linspace(0, min(y) - 1e-3, 400):
        slope, start = np.polyfit(np.log(x), np.log(np.asarray(y) - floor), 1)
        error = float(np.sum((floor + np.exp(start) * np.asarray(x) ** slope - y) ** 2))
        best = min(best, (error, float(floor), float(np.exp(start)), float(-slope)))
    return best[1:]


KEYS = {
    "loss": "stage-1 loss, nats per token",
    "likelihood_unseen": "likelihood, never labeled",
    "seen": "judge, with labels",
    "unseen": "judge, never labeled",
}


def table(results: Sequence[Result]) -> str:
    rows = []
    for hidden, pairs in sorted({(result["hidden"], result["unlabeled"]) for result in results}):
        runs = select(results, hidden=hidden, unlabeled=pairs)
        numbers = (cell_text([result[key] for result in runs]) for key in KEYS)
        rows.append([f"{runs[0]['parameters'] / 1e6:.2f}M", f"{pairs:,}", *numbers])
    parts = [markdown(["parameters", "unlabeled pairs", *KEYS.values()], rows)]
    for hidden in WIDTHS:
        losses = [values(results, "loss", hidden=hidden, unlabeled=pairs) for pairs in PAIRS]
        if all(losses):
            floor, scale, power = fitted(PAIRS, [over_seeds(one).value for one in losses])
            parts.append(f"Width {hidden}: loss = {floor:.3f} + {scale:.3g} * pairs^-{power:.2f}")
    return "\n\n".join(parts)


def statements(results: Sequence[Result]) -> dict[str, list[float]]:
    most, least = {"unlabeled": PAIRS[-1]}, {"unlabeled": PAIRS[0]}
    wide, narrow = {"hidden": WIDTHS[-1]}, {"hidden": WIDTHS[0]}
    return {
        "fall of the loss, eight times the pairs": paired(results, "loss", least | wide, most | wide),
        "fall of the loss, width 128 against 48": paired(results, "loss", most | narrow, most | wide),
        "never labeled, eight times the pairs": paired(results, "unseen", most | wide, least | wide),
        "never labeled, width 128 against 48": paired(results, "unseen", most | wide, most | narrow),
    }


def picture(results: Sequence[Result], path: Path) -> None:
    def by_width(key: str) -> dict[str, list[list[float]]]:
        return {
            f"width {hidden}": [values(results, key, hidden=hidden, unlabeled=pairs) for pairs in PAIRS]
            for hidden in WIDTHS
        }

    x = {"xlabel": "unlabeled pairs, each read once"}
    loss = x | {"ylabel": "stage-1 loss, nats per token", "chance": None}
    pictures.lines(path, [(PAIRS, by_width("loss"), loss), (PAIRS, by_width("unseen"), x)])


STUDY = Study("scale", (21, 22, 23), cells, run, table, statements, picture)

if __name__ == "__main__":
    main(STUDY, __doc__)
