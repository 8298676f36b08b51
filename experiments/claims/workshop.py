"""Models of the claims in the world: one body per seed, made once and kept, and every way to train on it.

The recipe is that of ``gram demo`` with fewer labels (1,000, a hundred steps of 32 pairs): few labels are
what the claims are about. Seeds 21 to 25 were not used to tune it. Knows how models are made; knows no
claim.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gram.demo.lab import LABEL_SMOOTHING, Lab, Recipe
from gram.demo.recipe import FULL
from gram.demo.story import test_pairs
from gram.demo.world import World
from gram.engine.runner import Runner
from gram.modeling.loading import LoadedModel, add_score_head
from gram.modeling.trainable import LoraSettings, add_lora, freeze
from gram.objectives.likelihood import Likelihood
from gram.objectives.objective import Objective
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.scoring.scalar import ScalarHeadModel
from gram.statistics import credit, log_loss, reliability
from gram.training.fit import FitSettings, fit
from gram.types import Preference, PreferenceModel

Trained = Literal["all", "lora", "frozen"]

LABELS = 1000
STEPS = 100
SMOKE = Recipe(
    unlabeled=320,
    labels=64,
    few_labels=(),
    pretraining=replace(FULL.pretraining, steps=10),
    finetuning=replace(FULL.finetuning, steps=4),
    test_pairs=40,
    contests=4,
)
RATES: dict[Trained, float] = {"all": 1e-3, "lora": 3e-3, "frozen": 1e-2}


class Workshop:
    """Makes and measures the models of one seed.

    Args:
        seed: of the world, the weights and the order of training.
        models: folder for bodies that are made once.
        smoke: a few steps of everything.
    """

    def __init__(self, seed: int, models: Path, smoke: bool = False) -> None:
        self.seed = seed
        self.world = World(seed)
        self.recipe = SMOKE if smoke else replace(FULL, labels=LABELS, few_labels=())
        self.lab = Lab(self.world, self.recipe, seed)
        self.labels = self.lab.labels
        self.stage_2 = replace(
            FULL.finetuning, steps=self.recipe.finetuning.steps if smoke else STEPS, seed=seed
        )
        self._models = models
        self._smoke = smoke

    @cached_property
    def tests(self) -> dict[str, list[Preference]]:
        """Fresh pairs: families with labels (seen) and without (unseen)."""
        return test_pairs(self.world, self.recipe.test_pairs)

    def blank(self, hidden: int | None = None) -> LoadedModel:
        """Random weights; ``hidden`` makes them smaller than the preset's, in proportion."""
        blank = self.lab.blank
        if hidden is None:
            return replace(blank, model=copy.deepcopy(blank.model))
        config: Any = LlamaConfig.from_dict(blank.model.config.to_dict())
        config.intermediate_size = config.intermediate_size * hidden // config.hidden_size
        config.hidden_size, config.head_dim = hidden, hidden // config.num_attention_heads
        torch.manual_seed(self.seed)
        return replace(blank, model=LlamaForCausalLM(config))

    def body(
        self, unlabeled: int | None = None, *, hidden: int | None = None, once: bool = False
    ) -> LoadedModel:
        """Stage 1 on that many unlabeled pairs (default: all of the recipe's, each read once).

        Args:
            once: read the pairs once, in as many steps as that takes; else as many steps as for all of them.
        """
        count = self.recipe.unlabeled if unlabeled is None else min(unlabeled, self.recipe.unlabeled)
        name = (
            f"seed-{self.seed}-{count}" + (f"-hidden-{hidden}" if hidden else "") + ("-once" if once else "")
        )
        loaded, path = self.blank(hidden), self._models / "bodies" / f"{name}.pt"
        if path.is_file():
            return load_weights(loaded, path)
        how = self.recipe.pretraining
        if once:
            how = replace(how, steps=max(1, count // how.batch_size))
        lab = Lab(self.world, replace(self.recipe, unlabeled=count, pretraining=how), self.seed)
        lab.__dict__["blank"] = loaded  # the same tokenizer whatever the count
        trained = lab.pretrained()
        save_weights(trained, path)
        return trained

    def kept(self, name: str, make: Callable[[], LoadedModel], *, score_head: bool = False) -> LoadedModel:
        """A trained model that several cells start from, made once."""
        path = self._models / "trained" / f"seed-{self.seed}-{name}.pt"
        if not path.is_file():
            save_weights(make(), path)
        loaded = self.blank()
        return load_weights(add_score_head(loaded, self.seed) if score_head else loaded, path)

    def train(
        self,
        start: LoadedModel,
        objective: Objective[Any],
        examples: Sequence[Any],
        how: FitSettings | None = None,
        *,
        trained: Trained = "all",
    ) -> LoadedModel:
        """A copy of ``start`` trained on ``examples``, as stage 2 of the recipe unless ``how`` is given."""
        how = how or replace(self.stage_2, learning_rate=RATES[trained])
        return trained_copy(start, objective, examples, replace(how, seed=self.seed), trained=trained)

    def judge(
        self, start: LoadedModel, *, eps: float = LABEL_SMOOTHING, trained: Trained = "all"
    ) -> LoadedModel:
        """Stage 2 on the labels of the recipe."""
        return self.train(start, self.judging(eps), self.labels, trained=trained)

    def judging(self, eps: float = LABEL_SMOOTHING, *, both_orders: bool = True) -> Judge:
        return Judge(self.lab.renderer, label_smoothing=eps, both_orders=both_orders)

    def scoring(self, **options: Any) -> Scalar:
        return Scalar(self.lab.renderer, **options)

    def likely(self, **options: Any) -> Likelihood:
        return Likelihood(self.lab.renderer, label_smoothing=LABEL_SMOOTHING, context="judge", **options)

    def as_scalar(self, loaded: LoadedModel) -> ScalarHeadModel:
        return ScalarHeadModel(self.lab.renderer, Runner(loaded.model))

    def measure(
        self, model: PreferenceModel, tests: dict[str, list[Preference]] | None = None
    ) -> dict[str, float]:
        """Accuracy, log loss and calibration error per half, and the size of the margin in nats."""
        numbers: dict[str, float] = {}
        for half, preferences in (tests or self.tests).items():
            verdicts = model.compare([preference.pair for preference in preferences])
            labels = np.array([preference.p_a for preference in preferences])
            numbers |= {
                half: float(credit(verdicts.p_a, labels).mean()),
                f"{half}_log_loss": log_loss(verdicts.p_a, labels),
                f"{half}_ece": reliability(verdicts.p_a, labels).ece,
                f"{half}_margin": float(np.nanmean(np.abs(verdicts.log_odds))),
                f"{half}_position_gap": float(np.mean(verdicts.position_gap)),
            }
        return numbers

    def preferences(
        self, count: int, families: Iterable[str], split: Literal["train", "test"]
    ) -> list[Preference]:
        return self.world.preferences(count, families, split=split)


def trained_copy(
    start: LoadedModel,
    objective: Objective[Any],
    examples: Sequence[Any],
    how: FitSettings,
    *,
    trained: Trained = "all",
) -> LoadedModel:
    """A copy of ``start``, with a score head if the objective needs one, trained on ``examples``."""
    score_head = objective.head == "score"
    loaded = replace(start, model=copy.deepcopy(start.model))
    if score_head and not hasattr(start.model, "score"):
        loaded = add_score_head(loaded, how.seed)
    model = loaded.model
    if trained == "frozen":
        freeze(model)
    elif trained == "lora":
        model = add_lora(model, LoraSettings(), score_head=score_head)
    fit(model, objective, objective.encode(examples), how, title=objective.name)
    if trained == "lora":
        model = model.merge_and_unload()  # type: ignore[operator]
    model.requires_grad_(True)
    return replace(loaded, model=model)


def flipped(preferences: Sequence[Preference], share: float, seed: int) -> list[Preference]:
    """The preferences with each label turned round with probability ``share``."""
    turn = np.random.default_rng([seed, 7]).random(len(preferences)) < share
    return [
        replace(preference, p_a=1 - preference.p_a) if t else preference
        for preference, t in zip(preferences, turn, strict=True)
    ]


def save_weights(loaded: LoadedModel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(loaded.model.state_dict(), temporary)
    temporary.rename(path)


def load_weights(loaded: LoadedModel, path: Path) -> LoadedModel:
    loaded.model.load_state_dict(torch.load(path, weights_only=True))
    loaded.model.eval()
    return loaded
