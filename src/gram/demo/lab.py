"""The models that the demonstration compares: one world, one tokenizer, one recipe.

Every method starts from the same random weights or from the same stage 1, sees the same labels, and gets the
same number of steps. Rows of forty tokens share too little for the tree engine to pay in training, so that
models are trained on the plain one. Knows how models are made; knows nothing of reports.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gram.demo.world import World
from gram.engine.runner import Runner
from gram.modeling.loading import LoadedModel, add_score_head, build_preset
from gram.objectives.language import Language
from gram.objectives.objective import Objective
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Renderer, load_template
from gram.scoring.judge import JudgeModel
from gram.scoring.local import LocalBackend
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel
from gram.training.fit import FitSettings, fit
from gram.types import Answer, Preference

TEMPLATE = "world"
PRESET = "preset:tiny"
LABEL_SMOOTHING = 0.1


@dataclass(frozen=True)
class Recipe:
    """How much of everything.

    Attributes:
        unlabeled: pairs for stage 1, over all families.
        labels: preferences for stage 2, over the families that get labels.
        few_labels: smaller numbers of labels for the curve.
        pretraining, finetuning: how to optimise the two stages.
        test_pairs: preferences to test on, per half of the families.
        contests, candidates: best-of-n prompts per half, and answers to each.
    """

    unlabeled: int
    labels: int
    few_labels: tuple[int, ...]
    pretraining: FitSettings
    finetuning: FitSettings
    test_pairs: int
    contests: int
    candidates: int = 8


class Lab:
    """Makes the models of one demonstration.

    Args:
        world: where prompts, answers and gold come from.
        recipe: how much of everything.
        seed: of weights and of the order of training.
    """

    def __init__(self, world: World, recipe: Recipe, seed: int) -> None:
        self.world = world
        self.recipe = recipe
        self.seed = seed

    @cached_property
    def blank(self) -> LoadedModel:
        """A model that knows nothing, with a tokenizer trained on unlabeled answers."""
        unlabeled = self.world.unlabeled_pairs(min(self.recipe.unlabeled, 4000))
        texts = [text for p in unlabeled for text in (p.prompt[0].content, p.first, p.second)]
        return build_preset(PRESET, [load_template(TEMPLATE).text, *texts], seed=self.seed)

    @cached_property
    def labels(self) -> list[Preference]:
        """The labeled preferences; fewer labels are the first of these."""
        return self.world.preferences(self.recipe.labels, self.world.seen_families, split="train")

    def pretrained(self, families: Iterable[str] | None = None, *, correlated: bool = True) -> LoadedModel:
        """Stage 1: the blank model after reading unlabeled pairs (of ``families``; default: all)."""
        body = self._copy(self.blank)
        pairs = self.world.unlabeled_pairs(self.recipe.unlabeled, families, correlated=correlated)
        self._fit(body, Language(self.renderer), pairs, self.recipe.pretraining, "stage 1, no labels")
        return body

    def judge(self, body: LoadedModel, labels: int, *, title: str = "stage 2, judge") -> JudgeModel:
        """Stage 2 on a copy of ``body``: the generative reward model."""
        trained = self.finetuned(body, labels, title=title)
        return self.as_judge(trained)

    def finetuned(self, body: LoadedModel, labels: int, *, title: str = "stage 2, judge") -> LoadedModel:
        """The weights behind ``judge``."""
        trained = self._copy(body)
        objective = Judge(self.renderer, label_smoothing=LABEL_SMOOTHING)
        self._fit(trained, objective, self.labels[:labels], self._finetuning(labels), title)
        return trained

    def as_judge(self, body: LoadedModel, *, both_orders: bool = True) -> JudgeModel:
        """``body`` asked which of two answers is better."""
        backend = LocalBackend(self.renderer, Runner(body.model))
        return JudgeModel(backend, self.renderer.template, both_orders=both_orders)

    def bradley_terry(
        self, body: LoadedModel, labels: int, *, title: str = "Bradley-Terry"
    ) -> ScalarHeadModel:
        """The discriminative baseline: a scalar head on a copy of ``body``, all weights trained."""
        trained = self.scalar_head(body, labels, title=title)
        return ScalarHeadModel(self.renderer, Runner(trained.model))

    def scalar_head(self, body: LoadedModel, labels: int, *, title: str = "Bradley-Terry") -> LoadedModel:
        """The weights behind ``bradley_terry``."""
        trained = add_score_head(self._copy(body), self.seed)
        self._fit(trained, Scalar(self.renderer), self.labels[:labels], self._finetuning(labels), title)
        return trained

    def likelihood(self, body: LoadedModel) -> LikelihoodModel:
        """``body`` asked how likely an answer is, in the place where stage 1 has learned to write it."""
        return LikelihoodModel(self.renderer, Runner(body.model), context="judge")

    def policy(self, how: FitSettings) -> LoadedModel:
        """A small policy for reinforcement learning: the blank model after reading single answers.

        It has read strong and weak answers alike and writes both: what is left for a reward to teach is to
        write the strong ones only.
        """
        trained = self._copy(self.blank)
        pairs = self.world.unlabeled_pairs(how.steps * how.batch_size)
        answers = [Answer(pair.prompt, pair.first) for pair in pairs]
        objective = Language(self.renderer)
        self._fit(trained, objective, answers, how, "policy")
        return trained

    @cached_property
    def renderer(self) -> Renderer:
        """The one rendering of all stages and methods."""
        return Renderer(self.blank.tokenizer, load_template(TEMPLATE), max_length=self.blank.context)

    def _finetuning(self, labels: int) -> FitSettings:
        """Fewer labels get fewer steps, but at least a third: enough passes to use what there is."""
        settings = self.recipe.finetuning
        share = max(1 / 3, labels / self.recipe.labels)
        return replace(settings, steps=max(1, round(settings.steps * share)))

    def _copy(self, body: LoadedModel) -> LoadedModel:
        return replace(body, model=copy.deepcopy(body.model))

    def _fit(
        self,
        body: LoadedModel,
        objective: Objective[Any],
        examples: Sequence[Any],
        how: FitSettings,
        title: str,
    ) -> None:
        fit(body.model, objective, objective.encode(examples), replace(how, seed=self.seed), title=title)
