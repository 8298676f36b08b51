"""Adapting a model in memory: cross-validated steps and rate, one decision, one training on all rows.

Every fold starts from the same weights and is trained at a constant rate, so that the model after s steps is
the same whatever steps follow: one run per fold and rate shows all numbers of steps. Knows models,
objectives and labeled rows; knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from gram.adaptation.decision import OLD, Decision, Held, IntArray, decide
from gram.data import folds, questions
from gram.errors import ConfigError, DataError
from gram.modeling.trainable import LoraSettings, add_lora, freeze, merged, without_adapters
from gram.objectives.base import Objective, Sample
from gram.progress import parts_with_progress
from gram.scoring.judge import JudgeModel
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel
from gram.training.fit import FitSettings, fit
from gram.types import Preference

Method: TypeAlias = Literal["lora", "all", "frozen"]
Model: TypeAlias = JudgeModel | LikelihoodModel | ScalarHeadModel

RATES: dict[Method, tuple[float, ...]] = {
    "lora": (3e-4, 1e-3),
    "all": (3e-5, 1e-4),
    "frozen": (1e-3, 1e-2),
}
LEAST_ROWS = 10
LEAST_QUESTIONS = 5
_CERTAIN = 1000.0  # log-odds beyond it say nothing more
_PASSES = 12
_STEPS = (32, 200)  # least and most steps tried by default


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt; the defaults are meant to be left alone.

    Attributes:
        method: low-rank adapters, all weights, or the output head of a frozen model.
        learning_rates: tried in turn; empty: those of the method.
        max_steps: most optimizer steps tried; by default by the number of rows.
        batch_size: rows per step.
        folds: of the cross-validation.
        lora_rank, lora_alpha: of the adapters.
        seed: of adapters and of the order of training.
    """

    method: Method = "lora"
    learning_rates: tuple[float, ...] = ()
    max_steps: int | None = None
    batch_size: int = 16
    folds: int = 5
    lora_rank: int = 16
    lora_alpha: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in RATES:
            raise ConfigError(f"method must be one of {', '.join(RATES)}, got '{self.method}'")
        if not all(0 < rate < math.inf for rate in self.learning_rates):
            raise ConfigError(f"learning rates must be positive, got {self.learning_rates}")
        if self.folds < 2:
            raise ConfigError(f"folds must be at least 2, got {self.folds}")
        for name in ("max_steps", "batch_size", "lora_rank", "lora_alpha"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")

    @property
    def rates(self) -> tuple[float, ...]:
        return self.learning_rates or RATES[self.method]

    def steps_for(self, rows: int) -> int:
        """Most steps tried: twelve passes over the rows, but no fewer than 32 and no more than 200."""
        least, most = _STEPS
        return self.max_steps or min(most, max(least, math.ceil(_PASSES * rows / self.batch_size)))


@dataclass(frozen=True)
class Candidate:
    """One way to train: its rate and steps; 0 steps is the old model."""

    learning_rate: float
    steps: int


@dataclass(frozen=True)
class Outcome:
    """What came of an adaptation.

    Attributes:
        decision: whether the adapted model was taken, and why.
        candidates: everything tried, the old model first; ``decision.choice`` counts in this order.
        rows, ties, truncated, questions, folds: of the data.
        train_loss: mean loss of the training on all rows; None if the old model was kept.
    """

    decision: Decision
    candidates: tuple[Candidate, ...]
    rows: int
    ties: int
    truncated: int
    questions: int
    folds: int
    train_loss: float | None

    @property
    def adopted(self) -> bool:
        return self.decision.adopted

    @property
    def chosen(self) -> Candidate:
        """What the rows held back say is best; used only where ``adopted``."""
        return self.candidates[self.decision.choice.candidate]


def adapt(
    model: PreTrainedModel,
    objective: Objective[Preference],
    asked: Model,
    rows: Sequence[Preference],
    settings: AdaptSettings | None = None,
    *,
    before: Model | None = None,
    progress: bool = True,
) -> Outcome:
    """Adapt ``model`` in place to labeled ``rows``, unless that does not help.

    Rows held back in turn, their questions whole, choose the number of steps and the rate and say whether
    the result beats the old model (``decision.decide``). If it does, the model is trained on all rows, and
    ``asked`` gets the temperature fitted on the held-back verdicts. If not, both are what they were.

    Args:
        model: in evaluation mode, without adapters.
        objective: to train on; of the kind of ``asked``.
        asked: ``model``, ready to be asked.
        rows: at least 10 that are no ties, over at least 5 questions.
        before: the old model, where it is asked in another way than ``asked``; by default ``asked`` itself.

    Raises:
        DataError: the rows are too few, or cannot be split.
        TrainingError: the training diverges.
    """
    settings = settings or AdaptSettings()
    check_rows(rows)
    samples = objective.encode(rows)
    if lost := sum(sample.collapsed for sample in samples):
        raise DataError(f"{lost} of {len(rows)} pairs have equal answers after truncation")
    pairs = [row.pair for row in rows]
    old = (before or asked).compare(pairs).log_odds
    temperature, asked.temperature = asked.temperature, 1.0
    learner = _Learner(model, objective, samples, settings)
    adopted, train_loss = False, None
    try:
        fold, question = folds(rows, settings.folds), questions(rows)
        steps = _checkpoints(settings.steps_for(len(rows)))
        candidates = [Candidate(0.0, 0), *(Candidate(r, s) for r in settings.rates for s in steps)]
        said = np.empty((len(candidates), len(rows), 2))
        said[OLD] = old
        runs = [(rate, k) for rate in settings.rates for k in np.unique(fold)]
        bar = parts_with_progress([range(steps[-1])] * len(runs), title="held back", show=progress)
        for (rate, k), _ in zip(runs, bar, strict=True):
            mine = np.flatnonzero(fold == k)

            def ask(step: int, rate: float = rate, mine: IntArray = mine) -> None:
                if step in steps:
                    number = candidates.index(Candidate(rate, step))
                    said[number, mine] = asked.compare([pairs[place] for place in mine]).log_odds

            learner.learn(np.flatnonzero(fold != k), rate, steps[-1], ask)
        labels = np.array([row.p_a for row in rows])
        decision = decide(Held(np.clip(said, -_CERTAIN, _CERTAIN), labels, fold, question))
        if decision.adopted:
            chosen = candidates[decision.choice.candidate]
            everything = np.arange(len(rows))
            train_loss = learner.learn(everything, chosen.learning_rate, chosen.steps, None)
            adopted, temperature = True, decision.choice.temperature
    finally:
        learner.settle(adopted)
        asked.temperature = temperature
    return Outcome(
        decision,
        tuple(candidates),
        len(rows),
        int(np.sum(labels == 0.5)),
        sum(sample.cut > 0 for sample in samples),
        len(np.unique(question)),
        len(np.unique(fold)),
        train_loss,
    )


def check_rows(rows: Sequence[Preference]) -> None:
    """Refuse rows from which nothing could be learned, or nothing held back.

    Raises:
        DataError: too few rows, or too few questions.
    """
    decided = sum(row.p_a != 0.5 for row in rows)
    if rows and not decided:
        raise DataError(f"all {len(rows)} rows are ties: nothing says which answer is better")
    if decided < LEAST_ROWS:
        ties = f", besides {len(rows) - decided} ties" if decided < len(rows) else ""
        raise DataError(f"too few rows: {decided}{ties}; adapting takes at least {LEAST_ROWS}")
    asked = len(np.unique(questions(rows)))
    if asked < LEAST_QUESTIONS:
        raise DataError(
            f"the {len(rows)} rows ask only {asked} different question{'s' * (asked > 1)}; at least "
            f"{LEAST_QUESTIONS} are needed, so that some can be held back. Where one prompt states a "
            "constant task, name the underlying question of each row in the field 'group'"
        )


class _Learner:
    """Trains one model again and again from the same weights."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective[Preference],
        samples: Sequence[Sample],
        settings: AdaptSettings,
    ) -> None:
        self._model: nn.Module = model
        self._objective = objective
        self._samples = samples
        self._settings = settings
        self._device: Literal["cpu", "cuda"] = "cuda" if model.device.type == "cuda" else "cpu"
        torch.manual_seed(settings.seed)  # of the adapters
        if settings.method == "lora":
            lora = LoraSettings(settings.lora_rank, settings.lora_alpha)
            self._model = add_lora(model, lora, score_head=objective.head == "score")
        elif settings.method == "frozen":
            freeze(model)
        trained = [weight for weight in self._model.parameters() if weight.requires_grad]
        self._start = [(weight, weight.detach().clone()) for weight in trained]

    def learn(self, rows: IntArray, rate: float, steps: int, observe: Callable[[int], None] | None) -> float:
        """Train on ``rows`` from the start; returns the mean loss."""
        self._restart()
        how = FitSettings(
            steps=steps,
            batch_size=min(self._settings.batch_size, len(rows)),
            learning_rate=rate,
            schedule="constant_with_warmup",
            warmup=0.0,
            seed=self._settings.seed,
            device=self._device,
            log_steps=steps,
        )
        samples = [self._samples[place] for place in rows]
        model = cast(PreTrainedModel, self._model)
        return fit(model, self._objective, samples, how, title=None, observe=observe).train_loss

    def settle(self, adopted: bool) -> None:
        """Leave a plain model behind: as trained last, or as it was."""
        if not adopted:
            self._restart()
        plain = merged(self._model) if adopted else without_adapters(self._model)
        plain.requires_grad_(True)

    def _restart(self) -> None:
        with torch.no_grad():
            for weight, value in self._start:
                weight.copy_(value)


def _checkpoints(most: int) -> list[int]:
    """Numbers of steps at which held-back rows are asked: 2, 3, 4, 6, 8, 11, 16, ... up to ``most``."""
    grid = {round(2 ** (half / 2)) for half in range(2, 2 * most.bit_length() + 1)}
    return sorted({step for step in grid if step < most} | {most})
