"""Claim 4 on real text: one line of Python from an intent (conala), with 0 to 1,000 labels.

Where it stands: see adaptation.py.
Our scale: 2.6M parameters that have read 4.9M tokens (`experiments/harmless`: text, then stage 1 on unlabeled
answers). Judge and Bradley-Terry head learn from the same 1,500 labels of hh_harmless, sensemaking and
blimp, on the stage-1 body; a second head starts from random weights. Then conala's train rows, 30 steps of
16; its 404 test rows. The three seeds draw the labels and the order. The floors, taught on the same conala
labels, stand beside: bag of words, length rule (0 labels).
Expectation: far from the world: at this size judges of real text are near chance before they see labels of
the task, so nothing is free; the stage-1 body should still need fewer labels than random weights.
Command: python -m experiments.claims.adaptation_real (after `make -f experiments/harmless/Makefile`;
needs ../shared/data, see experiments/public_files.py)
Measured: partly; judge with 100 labels against Bradley-Terry from scratch with 100: -0.013 [-0.132,
+0.106]. Cost: 42 minutes of one core. All of it: docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from experiments.claims import adaptation
from experiments.claims.adaptation import COUNTS, METHODS, RATES
from experiments.claims.study import Cell, Result, Study, main
from experiments.claims.workshop import load_weights, save_weights, trained_copy

from gram.data import read_preferences
from gram.engine.runner import Runner
from gram.evaluation.floors import bag_of_words, length_rule
from gram.modeling.loading import LoadedModel, add_score_head, build_preset, load_model
from gram.objectives.objective import Objective
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Renderer, load_template
from gram.scoring.judge import JudgeModel
from gram.scoring.local import LocalBackend
from gram.scoring.scalar import ScalarHeadModel
from gram.statistics import credit
from gram.training.fit import FitSettings
from gram.types import Preference, PreferenceModel

PREF = "../shared/data/pref"
BODY = Path("runs/harmless/pretrained")
TASK = "conala"
BEFORE = ("hh_harmless", "sensemaking", "blimp")
FLOORS = ("bag of words", "length rule")
FIRST_LABELS = FitSettings(steps=94, batch_size=16, learning_rate=5e-4, log_steps=50)
NEW_LABELS = FitSettings(steps=30, batch_size=16, warmup=0.1, log_steps=50)


class Place:
    """The models and rows of one seed."""

    def __init__(self, seed: int, models: Path, smoke: bool) -> None:
        self.seed, self.smoke = seed, smoke
        self.body = _toy() if smoke else load_model(str(BODY), "lm")
        self.renderer = Renderer(self.body.tokenizer, load_template("compact"), max_length=256)
        self._models = models / "trained"

    def labels(self, count: int) -> list[Preference]:
        """The first ``count`` of the task's train rows in this seed's order."""
        return _shuffled(_rows(TASK, "train", self.smoke), self.seed)[:count]

    def objective(self, judge: bool) -> Objective[Preference]:
        return Judge(self.renderer, label_smoothing=0.1) if judge else Scalar(self.renderer)

    def started(self, name: str) -> LoadedModel:
        """A method after the labels of other tasks, made once per seed and kept."""
        judge = name == "judge"
        path = self._models / f"{TASK}-{self.seed}-{name}{'-smoke' if self.smoke else ''}.pt"
        if not path.is_file():
            rows = [row for source in BEFORE for row in _rows(source, "train", self.smoke, most=500)]
            how = replace(FIRST_LABELS, seed=self.seed, steps=2 if self.smoke else FIRST_LABELS.steps)
            start = self._random() if name == "bt_scratch" else self.body
            save_weights(trained_copy(start, self.objective(judge), rows, how), path)
        return load_weights(self.body if judge else add_score_head(self.body, self.seed), path)

    def _random(self) -> LoadedModel:
        torch.manual_seed(self.seed)
        return replace(self.body, model=type(self.body.model)(self.body.model.config))

    def model(self, loaded: LoadedModel, judge: bool) -> PreferenceModel:
        runner = Runner(loaded.model)
        if judge:
            return JudgeModel(LocalBackend(self.renderer, runner), self.renderer.template)
        return ScalarHeadModel(self.renderer, runner)


def cells(smoke: bool) -> list[Cell]:
    counts = (0, 10) if smoke else COUNTS
    kinds = [{"method": method, "labels": count} for method in METHODS for count in counts]
    kinds += [{"method": "bag of words", "labels": count} for count in counts if count]
    return [*kinds, {"method": "length rule", "labels": 0}]


def run(cell: Cell, models: Path, smoke: bool) -> Result:
    place = Place(cell["seed"], models, smoke)
    tests, labels = _rows(TASK, "test", smoke), place.labels(cell["labels"])
    if cell["method"] in FLOORS:
        p_a = bag_of_words(tests, labels) if labels else length_rule(tests)
    else:
        _, start, trained = METHODS[cell["method"]]
        loaded, judge = place.started(start), start == "judge"
        if labels:
            how = replace(NEW_LABELS, seed=cell["seed"], learning_rate=RATES[trained])
            how = replace(how, steps=2) if smoke else how
            loaded = trained_copy(loaded, place.objective(judge), labels, how, trained=trained)
        p_a = place.model(loaded, judge).compare([row.pair for row in tests]).p_a
    return {"new": float(credit(p_a, np.array([row.p_a for row in tests])).mean())}


def _rows(source: str, split: str, smoke: bool, most: int | None = None) -> list[Preference]:
    """Rows with the answers in random places; each row's place is fixed by its number."""
    if smoke:
        from gram.demo.world import World

        return World(1).preferences(30, split="train" if split == "train" else "test")
    rows = read_preferences([f"{PREF}/{source}.jsonl.gz"], split=split, max_per_source=most).examples
    places = np.random.default_rng(5).random(len(rows)) < 0.5
    return [row.swapped() if turn else row for row, turn in zip(rows, places, strict=True)]


def _shuffled(rows: list[Preference], seed: int) -> list[Preference]:
    return Random(seed).sample(rows, len(rows))


def _toy() -> LoadedModel:
    rows = _rows(TASK, "train", True)
    texts = [text for row in rows for text in (row.pair.prompt[0].content, row.pair.a, row.pair.b)]
    return build_preset("preset:tiny", [load_template("compact").text, *texts], seed=1)


def table(results: Sequence[Result]) -> str:
    floors = {name: name for name in FLOORS}
    return adaptation.by_labels(results, adaptation.NAMES | floors, "labels of conala")


def statements(results: Sequence[Result]) -> dict[str, list[float]]:
    against = {
        "Bradley-Terry from scratch": "bt_scratch",
        "Bradley-Terry on the body": "bt",
        "a bag of words": "bag of words",
    }
    return {
        f"judge with 100 labels against {name} with 100": adaptation.lead(results, 100, method, 100)
        for name, method in against.items()
    } | {"what 100 labels add to the judge": adaptation.lead(results, 100, "judge", 0)}


def picture(results: Sequence[Result], path: Path) -> None:
    adaptation.picture(results, path, "labels of conala")


STUDY = Study("adaptation_real", (1, 2, 3), cells, run, table, statements, picture)

if __name__ == "__main__":
    main(STUDY, __doc__)
