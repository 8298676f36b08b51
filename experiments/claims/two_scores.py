"""Claim 6: a foundation reward model can be asked in two ways, and each has its place.

Where it stands: arXiv 2506.14175 asks for the label (the judge); the likelihood of an answer is its
zero-shot reward, with the confounders that docs/theory.md names.
Our scale: the world; judge and likelihood with its variants (sum, mean per token, minus the likelihood
without a prompt, minus the body's), before and after stage 2 on 1,000 labels. Three seeds, 500 test pairs
per half.
Expectation: zero-shot only the likelihood says anything, and the mean per token differs little as lengths
hardly vary; fine-tuned they are on a par. On real text: docs/claims.md says what a small model gives.
Command: python -m experiments.claims.two_scores
Measured: partly; never labeled, zero-shot: likelihood against judge: +0.491 [+0.391, +0.590]. Cost: 3
minutes of one core. All of it: docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.claims import pictures
from experiments.claims.study import Cell, Result, Study, cell_text, main, markdown, paired, values
from experiments.claims.workshop import Workshop

from gram.engine.runner import Runner
from gram.modeling.loading import LoadedModel
from gram.scoring.scalar import LikelihoodModel

STAGES = ("zero-shot", "fine-tuned")
SCORES: dict[str, dict[str, Any]] = {
    "judge": {},
    "sum": {},
    "mean per token": {"length_power": 1.0},
    "PMI": {"baseline": "unconditional"},
    "reference ratio": {"reference": True},
}


def cells(smoke: bool) -> list[Cell]:
    found = [{"stage": stage, "score": score} for stage in STAGES for score in SCORES]
    return [cell for cell in found if cell != {"stage": "zero-shot", "score": "reference ratio"}]


def run(cell: Cell, models: Path, smoke: bool) -> Result:
    shop = Workshop(cell["seed"], models, smoke)
    body = shop.body()
    tuned = cell["stage"] == "fine-tuned"
    if cell["score"] == "judge":
        return shop.measure(shop.lab.as_judge(shop.judge(body) if tuned else body))
    trained = shop.kept("likelihood", lambda: shop.train(body, shop.likely(), shop.labels)) if tuned else body
    return shop.measure(likelihood(shop, trained, body, **SCORES[cell["score"]]))


def likelihood(
    shop: Workshop, model: LoadedModel, body: LoadedModel, *, reference: bool = False, **options: Any
) -> LikelihoodModel:
    """One variant of the likelihood score."""
    return LikelihoodModel(
        shop.lab.renderer,
        Runner(model.model),
        context="judge",
        reference=Runner(body.model) if reference else None,
        **options,
    )


def table(results: Sequence[Result]) -> str:
    rows = []
    for score in SCORES:
        found = [
            values(results, half, stage=stage, score=score) for stage in STAGES for half in ("seen", "unseen")
        ]
        rows.append([score, *(cell_text(one) if one else "" for one in found)])
    return markdown(
        ["score", *(f"{stage}, {half}" for stage in STAGES for half in ("with labels", "never labeled"))],
        rows,
    )


def statements(results: Sequence[Result]) -> dict[str, list[float]]:
    def gain(key: str, one: tuple[str, str], other: tuple[str, str]) -> list[float]:
        cells = ({"stage": stage, "score": score} for stage, score in (one, other))
        return paired(results, key, *cells)

    zero, tuned = STAGES
    return {
        "never labeled, zero-shot: likelihood against judge": gain("unseen", (zero, "sum"), (zero, "judge")),
        "never labeled: judge, tuned against zero-shot": gain("unseen", (tuned, "judge"), (zero, "judge")),
        "with labels: likelihood, tuned against zero-shot": gain("seen", (tuned, "sum"), (zero, "sum")),
    }


def picture(results: Sequence[Result], path: Path) -> None:
    rows = {
        score: {
            stage: found for stage in STAGES if (found := values(results, "unseen", stage=stage, score=score))
        }
        for score in SCORES
    }
    pictures.bars(path, rows)


STUDY = Study("two_scores", (21, 22, 23), cells, run, table, statements, picture)

if __name__ == "__main__":
    main(STUDY, __doc__)
