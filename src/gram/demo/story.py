"""The story in order: learn without labels, align with few, test where no label ever was, choose answers.

Pure measurement: takes a lab, returns numbers. Knows nothing of pages and terminals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gram.demo.lab import Lab
from gram.demo.world import World
from gram.evaluation import Estimate
from gram.modeling.loading import LoadedModel
from gram.ranking import Ranking, rank, rank_many
from gram.statistics import accuracy, credit
from gram.types import Contest, FloatArray, Pair, Preference, PreferenceModel, Verdicts

HALVES = ("seen", "unseen")
METHODS = {
    "gram": "stage 1 + stage 2, asked in both orders",
    "gram_single_order": "the same model, asked in one order",
    "no_pretraining": "stage 2 only",
    "bradley_terry": "scalar head, from scratch",
    "bradley_terry_pretrained": "scalar head on the stage-1 body",
    "likelihood": "stage 1 only: which answer is likelier",
    "random": "a coin",
}


@dataclass
class Story:
    """Everything measured.

    Attributes:
        accuracy: method -> half of the families -> accuracy with interval.
        over_labels: number of labels -> curve name -> accuracy on never-labeled families.
        best_of_n: chooser -> n -> mean gold reward of the chosen answer, with interval, all families.
        example: one contest, its gold rewards and its ranking.
        model: the trained reward model.
        seconds: per part of the story.
    """

    accuracy: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    over_labels: dict[int, dict[str, Estimate]] = field(default_factory=dict)
    best_of_n: dict[str, dict[int, Estimate]] = field(default_factory=dict)
    example: tuple[Contest, list[float], Ranking] | None = None
    model: LoadedModel | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def tell(lab: Lab) -> Story:
    """Train and measure every method of the demonstration."""
    story, world, recipe = Story(), lab.world, lab.recipe
    tests = test_pairs(world, recipe.test_pairs)
    clock = _Clock(story.seconds)

    body = lab.pretrained()
    clock.lap("stage 1")
    story.model = lab.finetuned(body, recipe.labels)
    models: dict[str, PreferenceModel] = {
        "gram": lab.as_judge(story.model),
        "gram_single_order": lab.as_judge(story.model, both_orders=False),
        "no_pretraining": lab.judge(lab.blank, recipe.labels, title="no stage 1, judge"),
        "bradley_terry": lab.bradley_terry(lab.blank, recipe.labels),
        "bradley_terry_pretrained": lab.bradley_terry(body, recipe.labels, title="Bradley-Terry on stage 1"),
        "likelihood": lab.likelihood(body),
        "random": Coin(lab.seed),
    }
    clock.lap("stage 2")
    story.accuracy = {name: measure(model, tests) for name, model in models.items()}
    clock.lap("tests")
    for labels in recipe.few_labels:
        story.over_labels[labels] = {
            "gram": measure(lab.judge(body, labels, title=f"judge, {labels} labels"), tests)["unseen"],
            "bradley_terry": measure(
                lab.bradley_terry(lab.blank, labels, title=f"Bradley-Terry, {labels} labels"), tests
            )["unseen"],
        }
    curves = ("gram", "bradley_terry")
    story.over_labels[recipe.labels] = {name: story.accuracy[name]["unseen"] for name in curves}
    clock.lap("fewer labels")
    contests = world.contests(recipe.contests, families=None, candidates=recipe.candidates)
    choosers = {name: models[name] for name in ("gram", "likelihood", "bradley_terry", "random")}
    story.best_of_n = best_of_n(world, contests, choosers)
    contest = world.contests(1, families=world.unseen_families, candidates=4)[0]
    gold = [world.gold(contest.prompt, response) for response in contest.responses]
    story.example = (contest, gold, rank(models["gram"], contest.prompt, contest.responses))
    clock.lap("best of n")
    return story


def test_pairs(world: World, count: int) -> dict[str, list[Preference]]:
    """Fresh preferences of the families with labels (seen) and of those without (unseen)."""
    halves = (world.seen_families, world.unseen_families)
    return {
        half: world.preferences(count, families, split="test")
        for half, families in zip(HALVES, halves, strict=True)
    }


def measure(model: PreferenceModel, tests: Mapping[str, Sequence[Preference]]) -> dict[str, Estimate]:
    """Accuracy with a 95% interval on each half."""
    accuracies = {}
    for half, preferences in tests.items():
        p_a = model.compare([preference.pair for preference in preferences]).p_a
        labels = np.array([preference.p_a for preference in preferences])
        accuracies[half] = accuracy(credit(p_a, labels))
    return accuracies


def best_of_n(
    world: World, contests: Sequence[Contest], choosers: Mapping[str, PreferenceModel]
) -> dict[str, dict[int, Estimate]]:
    """Mean gold reward of the answer that each chooser takes among the first n, for n = 1, 2, 4, ..."""
    gold = [np.array([world.gold(c.prompt, response) for response in c.responses]) for c in contests]
    sizes = [2**k for k in range(int(math.log2(len(contests[0].responses))) + 1)]
    curves: dict[str, dict[int, Estimate]] = {}
    for name, model in choosers.items():
        # Round robin decides by mean wins, so the first n of a full table are a round robin of their own.
        tables = [ranking.p for ranking in rank_many(model, contests)]
        curves[name] = {
            n: mean_estimate(
                np.array(
                    [g[int(np.argmax(p[:n, :n].sum(axis=1)))] for g, p in zip(gold, tables, strict=True)]
                )
            )
            for n in sizes
        }
    curves["best possible"] = {n: mean_estimate(np.array([g[:n].max() for g in gold])) for n in sizes}
    return curves


def mean_estimate(values: FloatArray) -> Estimate:
    """A mean with its 95% normal interval."""
    half_width = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    mean = float(values.mean())
    return Estimate(mean, mean - half_width, mean + half_width, len(values))


class Coin:
    """A ``PreferenceModel`` that tosses a coin for every pair."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        odds = self._rng.normal(size=(len(pairs), 1)).repeat(2, axis=1)
        return Verdicts(odds, np.ones_like(odds))


class _Clock:
    def __init__(self, laps: dict[str, float]) -> None:
        self._laps, self._last = laps, time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._laps[name] = round(now - self._last, 1)
        self._last = now
