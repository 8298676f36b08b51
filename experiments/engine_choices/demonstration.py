"""Training on the short rows of the demonstration: the plain engine beside the tree.

Knows the demonstration's models and objectives; does not know what an engine does with rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from experiments.engine_choices.setting import Setting, backward

from gram.demo.lab import LABEL_SMOOTHING
from gram.engine.base import Engine
from gram.engine.choose import choose_engine
from gram.engine.plain import Plain
from gram.modeling.loading import add_score_head
from gram.objectives.language import Language
from gram.objectives.objective import Objective
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar


def demo(setting: Setting) -> dict[str, Any]:
    """Forward and backward of a batch of the demonstration: the plain engine, and the tree."""
    found = {}
    for name in ("stage 1", "judge", "scalar"):
        paths = {}
        for engine in ("plain", "tree"):
            kind = setting.lab.blank.model if name != "scalar" else _scorer(setting).model
            known = trainings(setting, Plain() if engine == "plain" else choose_engine(kind))
            paths[engine] = passes(setting, *known[name])
        found[name] = setting.in_turn(paths, "tree")[0] | {"pairs": setting.demo_batch}
    return found


def _scorer(setting: Setting) -> Any:
    return add_score_head(setting.lab.blank, setting.seed)


def trainings(setting: Setting, engine: Engine) -> dict[str, tuple[Any, Objective[Any], Sequence[Any]]]:
    """Model, objective and examples of each training of the demonstration."""
    lab = setting.lab
    pairs = lab.world.unlabeled_pairs(lab.recipe.labels)
    body = lab.blank.model
    judge = Judge(lab.renderer, label_smoothing=LABEL_SMOOTHING, engine=engine)
    return {
        "stage 1": (body, Language(lab.renderer, engine=engine), pairs),
        "judge": (body, judge, lab.labels),
        "scalar": (_scorer(setting).model, Scalar(lab.renderer, engine=engine), lab.labels),
    }


def passes(
    setting: Setting, model: Any, objective: Objective[Any], examples: Sequence[Any]
) -> Callable[[], float]:
    """Forward and backward of each batch; what runs once only is done. Returns seconds per batch."""
    samples = objective.encode(examples)
    size = setting.demo_batch
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]

    def steps() -> float:
        model.train()
        began = setting.machine.clock()
        for batch in batches:
            backward(model, objective, batch)
            model.zero_grad()
        return (setting.machine.clock() - began) / len(batches)

    steps()
    return steps
