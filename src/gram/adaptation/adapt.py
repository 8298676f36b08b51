"""Adapting a model in memory: cross-validated steps and rate, one decision, one training on all rows.

Every fold starts from the same weights and is trained at a constant rate, so that the model after s steps is
the same whatever steps follow: one run per fold and rate gives the verdicts after every number of steps.
Knows models, objectives and labeled rows; knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from gram.adaptation.decision import Decision, HeldOutVerdicts, IntArray, decide
from gram.adaptation.learner import AdaptSettings, Learner
from gram.data import folds, questions
from gram.errors import DataError
from gram.objectives.objective import Objective
from gram.progress import parts_with_progress
from gram.types import FloatArray, Pair, Preference, RewardModel

LEAST_ROWS = 10
LEAST_QUESTIONS = 5
_CERTAIN = 1000.0  # log-odds are clipped here: the probability is 0 or 1 long before


@dataclass(frozen=True)
class Candidate:
    """One way to train: its rate and steps; 0 steps is the old model."""

    learning_rate: float
    steps: int


@dataclass(frozen=True)
class Adaptation:
    """The result of an adaptation.

    Attributes:
        decision: whether the adapted model was taken, and why.
        candidates: all of them, the old model first; ``decision.choice.candidate`` is a place in this list.
        rows, ties, truncated, questions, folds: how many of each there were in the data.
        train_loss: mean loss of the training on all rows; None if the old model was kept.
        model: that was adapted, with its adapters apart if the settings keep them.
    """

    decision: Decision
    candidates: tuple[Candidate, ...]
    rows: int
    ties: int
    truncated: int
    questions: int
    folds: int
    train_loss: float | None
    model: nn.Module

    @property
    def adopted(self) -> bool:
        return self.decision.adopted

    @property
    def chosen(self) -> Candidate:
        """The best candidate on the rows held back; trained on all rows only if ``adopted``."""
        return self.candidates[self.decision.choice.candidate]


def adapt(
    model: PreTrainedModel,
    objective: Objective[Preference],
    reward_model: RewardModel,
    rows: Sequence[Preference],
    settings: AdaptSettings | None = None,
    *,
    before: RewardModel | None = None,
    progress: bool = True,
) -> Adaptation:
    """Adapt ``model`` in place to labeled ``rows``, unless that does not help.

    Questions are held back in turn. The verdicts on their rows choose the steps and the rate, and decide
    whether the result beats the old model (``decision.decide``). If so, the model is trained on all rows, and
    ``reward_model`` gets the temperature fitted on these verdicts. If not, both stay what they were.

    Args:
        model: in evaluation mode, without adapters.
        objective: to train on; of the kind of ``reward_model``.
        reward_model: ``model`` in the form in which it is asked.
        rows: at least 10 that are no ties, over at least 5 questions.
        before: the old model, where it is asked in another way than the new one; by default ``reward_model``.

    Raises:
        DataError: the rows are too few, or cannot be split.
        TrainingError: the training diverges.
    """
    settings = settings or AdaptSettings()
    check_rows(rows)
    samples = objective.encode(rows)
    if lost := sum(sample.collapsed for sample in samples):
        raise DataError(f"{lost} of {len(rows)} pairs have equal answers after truncation")
    steps = _checkpoints(settings.steps_for(len(rows)))
    candidates = (Candidate(0.0, 0), *(Candidate(r, s) for r in settings.rates for s in steps))
    labels = np.array([row.p_a for row in rows])
    fold, question = folds(rows, settings.folds), questions(rows)
    old = (before or reward_model).compare([row.pair for row in rows]).log_odds
    temperature, reward_model.temperature = reward_model.temperature, 1.0
    learner, adopted, train_loss = Learner(model, objective, samples, settings), False, None
    try:
        log_odds = np.stack([old, *_held_back(learner, reward_model, rows, fold, candidates[1:], progress)])
        decision = decide(HeldOutVerdicts(np.clip(log_odds, -_CERTAIN, _CERTAIN), labels, fold, question))
        if decision.adopted:
            best = candidates[decision.choice.candidate]
            train_loss = learner.learn(np.arange(len(rows)), best.learning_rate, best.steps)
            adopted, temperature = True, decision.choice.temperature
    finally:
        result = learner.settle(adopted)
        reward_model.temperature = temperature
    return Adaptation(
        decision,
        candidates,
        len(rows),
        int(np.sum(labels == 0.5)),
        sum(sample.cut > 0 for sample in samples),
        len(np.unique(question)),
        len(np.unique(fold)),
        train_loss,
        result,
    )


def _held_back(
    learner: Learner,
    reward_model: RewardModel,
    rows: Sequence[Preference],
    fold: IntArray,
    candidates: Sequence[Candidate],
    progress: bool,
) -> FloatArray:
    """(c, n, 2) log-odds of every candidate, each row judged by a model trained on the other folds."""
    log_odds = np.full((len(candidates), len(rows), 2), np.nan)
    steps = {rate: [c.steps for c in candidates if c.learning_rate == rate] for rate in _rates(candidates)}
    runs = [(rate, k) for rate in steps for k in np.unique(fold)]
    bar = parts_with_progress([range(steps[rate][-1]) for rate, _ in runs], title="held back", show=progress)
    for (rate, k), _ in zip(runs, bar, strict=True):
        inside = np.flatnonzero(fold == k)
        pairs = [rows[place].pair for place in inside.tolist()]

        def ask(step: int, rate: float = rate, inside: IntArray = inside, pairs: list[Pair] = pairs) -> None:
            if step in steps[rate]:
                place = candidates.index(Candidate(rate, step))
                log_odds[place, inside] = reward_model.compare(pairs).log_odds

        learner.learn(np.flatnonzero(fold != k), rate, steps[rate][-1], ask)
    return log_odds


def _rates(candidates: Sequence[Candidate]) -> list[float]:
    return list(dict.fromkeys(candidate.learning_rate for candidate in candidates))


def check_rows(rows: Sequence[Preference]) -> None:
    """Refuse data that are too few to learn from, or to hold rows back.

    Raises:
        DataError: too few rows, or too few questions.
    """
    decided = sum(row.p_a != 0.5 for row in rows)
    if rows and not decided:
        raise DataError(f"all {len(rows)} rows are ties: nothing says which answer is better")
    if decided < LEAST_ROWS:
        ties = f", besides {len(rows) - decided} ties" if decided < len(rows) else ""
        raise DataError(f"too few rows: {decided}{ties}; adapting takes at least {LEAST_ROWS}")
    count = len(np.unique(questions(rows)))
    if count < LEAST_QUESTIONS:
        raise DataError(
            f"the {len(rows)} rows ask only {count} different question{'s' * (count > 1)}; at least "
            f"{LEAST_QUESTIONS} are needed, so that some can be held back. Where one prompt states a "
            "constant task, name the underlying question of each row in the field 'group'"
        )


def _checkpoints(most: int) -> list[int]:
    """Numbers of steps at which held-back rows are asked: 2, 3, 4, 6, 8, 11, 16, ... up to ``most``."""
    grid = {round(2 ** (half / 2)) for half in range(2, 2 * most.bit_length() + 1)}
    return sorted({step for step in grid if step < most} | {most})
