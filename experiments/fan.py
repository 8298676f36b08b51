"""The fan judge in the world: what is lost by reading each answer by itself, and what wins it back.

Claim (ours): a judge that reads each answer once, without the other, and looks at two of them with two tokens
is as accurate as one that reads them one behind the other.

Scale: the full recipe of ``gram demo`` (0.7M parameters, 44,800 unlabeled pairs, 3,000 labels of half of the
families), with right labels and with 20% turned round. Arms, all of the same body or its twin:
  sequence         stage 1 and stage 2 as in the demonstration
  sequence_longer  trained on, on the same labels, for as many steps as a conversion takes: its control
  fan_zero_shot    the sequence judge, asked in the fan layout
  fan_start        stage 1 and stage 2 in the fan layout
  fan_body         stage 1 in the sequence, stage 2 in the fan layout
  fan_converted    the sequence judge, trained on in the fan layout on the same labels
  fan_distilled    ... on its own verdicts in the sequence layout on the same pairs
  fan_unlabeled    ... on its own verdicts on as many unlabeled pairs, of all families
  scalar           a scalar head on the same body, on the same labels

Cost: about 20 minutes of one core a seed. Command: python -m experiments.fan [--seeds 41 42 43] [--arms ...]
[--labels clean wrong] [--looking 2] [--smoke]; an arm whose result is on file is not run again. The tables
are written into docs/results-fan.md by experiments/fan_page.py.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from experiments.claims.workshop import SMOKE, flipped, load_weights, save_weights

from gram.asking import Layout
from gram.demo.lab import LABEL_SMOOTHING, Lab, Recipe
from gram.demo.recipe import FULL
from gram.demo.story import test_pairs
from gram.demo.world import World
from gram.engine.base import Engine
from gram.engine.choose_fan import choose_fan
from gram.engine.plain import Plain
from gram.engine.runner import Runner
from gram.modeling.loading import LoadedModel, add_score_head
from gram.modeling.quiet import quiet_libraries
from gram.objectives.language import Language
from gram.objectives.objective import Objective
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import FanRenderer, Renderer
from gram.rendering.fan import LOOKING
from gram.scoring.judge import JudgeModel
from gram.scoring.local import LocalBackend
from gram.scoring.scalar import ScalarHeadModel
from gram.statistics import credit
from gram.training.distil import labeled_by
from gram.training.fit import FitSettings, fit
from gram.types import Pair, Preference, PreferenceModel, RewardModel

RESULTS = Path("experiments/results/fan_world.jsonl")
ARMS = (
    "sequence",
    "sequence_longer",
    "fan_zero_shot",
    "fan_start",
    "fan_body",
    "fan_converted",
    "fan_distilled",
    "fan_unlabeled",
    "scalar",
)
WRONG = {"clean": 0.0, "wrong": 0.2}


class Study:
    """The models of one seed and one share of wrong labels.

    Args:
        models: folder for models that several arms start from.
        looking: of the fan layout, how many tokens see both answers.
    """

    def __init__(self, seed: int, labels: str, recipe: Recipe, models: Path, looking: int) -> None:
        self.world, self.recipe, self.seed = World(seed), recipe, seed
        self.lab = Lab(self.world, recipe, seed)
        self.labels = flipped(self.lab.labels, WRONG[labels], seed)
        self._models, self._name, self._looking = models, labels, looking

    def model(self, arm: str) -> RewardModel:
        """The trained model of an arm, ready to be asked."""
        if arm == "scalar":
            return ScalarHeadModel(self.lab.renderer, Runner(self.scalar.model))
        layout: Layout = "sequence" if arm.startswith("sequence") else "fan"
        trained = self.judge if arm in ("sequence", "fan_zero_shot") else getattr(self, arm)
        return self._asked(trained, layout)

    @cached_property
    def body(self) -> LoadedModel:
        return self._kept("body", lambda: self._stage_1("sequence"))

    @cached_property
    def judge(self) -> LoadedModel:
        return self._kept(f"judge-{self._name}", lambda: self._judged(self.body, "sequence", self.labels))

    @property
    def sequence_longer(self) -> LoadedModel:
        return self._judged(self.judge, "sequence", self.labels)

    @property
    def fan_start(self) -> LoadedModel:
        return self._judged(self._kept("body-fan", lambda: self._stage_1("fan")), "fan", self.labels)

    @property
    def fan_body(self) -> LoadedModel:
        return self._judged(self.body, "fan", self.labels)

    @property
    def fan_converted(self) -> LoadedModel:
        return self._judged(self.judge, "fan", self.labels)

    @property
    def fan_distilled(self) -> LoadedModel:
        return self._judged(self.judge, "fan", self._taught(self.labels), smoothing=0.0)

    @property
    def fan_unlabeled(self) -> LoadedModel:
        pairs = self.world.unlabeled_pairs(len(self.labels))
        rows = [Preference(Pair(item.prompt, item.first, item.second), 0.5) for item in pairs]
        return self._judged(self.judge, "fan", self._taught(rows), smoothing=0.0)

    @property
    def scalar(self) -> LoadedModel:
        start = add_score_head(self._copy(self.body), self.seed)
        return self._fit(start, lambda _: Scalar(self.lab.renderer), self.labels, self.recipe.finetuning)

    def renderer(self, layout: Layout) -> Renderer:
        how = self.lab.blank.tokenizer, self.lab.renderer.template, self.lab.blank.context
        return FanRenderer(*how, looking=self._looking) if layout == "fan" else Renderer(*how)

    def _stage_1(self, layout: Layout) -> LoadedModel:
        pairs = self.world.unlabeled_pairs(self.recipe.unlabeled)
        how, renderer = self.recipe.pretraining, self.renderer(layout)
        return self._fit(self._copy(self.lab.blank), lambda _: Language(renderer), pairs, how)

    def _judged(
        self,
        start: LoadedModel,
        layout: Layout,
        rows: Sequence[Preference],
        smoothing: float = LABEL_SMOOTHING,
    ) -> LoadedModel:
        """A copy of ``start`` after stage 2 on ``rows``."""

        def objective(model: Any) -> Judge:
            engine: Engine = choose_fan(model, training=True) if layout == "fan" else Plain()
            return Judge(self.renderer(layout), label_smoothing=smoothing, engine=engine)

        return self._fit(self._copy(start), objective, rows, self.recipe.finetuning)

    def _taught(self, rows: Sequence[Preference]) -> list[Preference]:
        """``rows`` with the verdicts of the sequence judge as labels."""
        return labeled_by(self.renderer("sequence"), Runner(self._copy(self.judge).model), rows)

    def _asked(self, loaded: LoadedModel, layout: Layout) -> JudgeModel:
        renderer = self.renderer(layout)
        return JudgeModel(
            LocalBackend(renderer, Runner(self._copy(loaded).model, layout=layout)), renderer.template
        )

    def _fit(
        self,
        loaded: LoadedModel,
        objective: Callable[[Any], Objective[Any]],
        rows: Sequence[Any],
        how: FitSettings,
    ) -> LoadedModel:
        loss = objective(loaded.model)
        fit(loaded.model, loss, loss.encode(rows), replace(how, seed=self.seed), title=loss.name)
        return loaded

    def _copy(self, loaded: LoadedModel) -> LoadedModel:
        return replace(loaded, model=copy.deepcopy(loaded.model))

    def _kept(self, name: str, make: Callable[[], LoadedModel]) -> LoadedModel:
        path = self._models / f"seed-{self.seed}-{self.recipe.unlabeled}-{name}.pt"
        if not path.is_file():
            save_weights(make(), path)
        return load_weights(self._copy(self.lab.blank), path)


def run(seed: int, labels: str, arm: str, recipe: Recipe, models: Path, looking: int) -> dict[str, Any]:
    """What an arm says of fresh pairs: right or wrong one by one, and what the order changes."""
    began, study = time.monotonic(), Study(seed, labels, recipe, models, looking)
    model = study.model(arm)
    result: dict[str, Any] = {"seed": seed, "labels": labels, "arm": arm, "looking": looking}
    for half, rows in test_pairs(study.world, recipe.test_pairs).items():
        result[half] = said(model, rows)
    return result | {"seconds": round(time.monotonic() - began, 1)}


def said(model: PreferenceModel, rows: Sequence[Preference]) -> dict[str, Any]:
    """Right or wrong one by one, and what the order changes."""
    verdicts = model.compare([row.pair for row in rows])
    right = credit(verdicts.p_a, np.array([row.p_a for row in rows]))
    both = np.sign(verdicts.log_odds)
    return {
        "accuracy": float(right.mean()),
        "right": "".join(str(round(2 * value)) for value in right),  # 2: right, 1: a tie, 0: wrong
        "position_gap": float(np.abs(verdicts.position_gap).mean()),
        "one_winner": float(np.mean(both[:, 0] == both[:, 1])),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The results on file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[41, 42, 43])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--labels", nargs="+", choices=list(WRONG), default=list(WRONG))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--models", type=Path, default=Path("runs/fan"))
    parser.add_argument("--looking", type=int, default=LOOKING, help="tokens that look at both answers")
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything")
    options = parser.parse_args(arguments)
    quiet_libraries()
    recipe = SMOKE if options.smoke else replace(FULL, few_labels=())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["seed"], row["labels"], row["arm"]) for row in read(options.output)}
    cells = [(s, labels, arm) for s in options.seeds for labels in options.labels for arm in options.arms]
    for cell in cells:
        if cell not in done:
            result = run(*cell, recipe, options.models, options.looking)
            with options.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
