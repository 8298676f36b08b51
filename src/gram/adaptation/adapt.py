"""Adapting a model in memory: cross-validated steps and rate, one decision, one training on all rows.

Every fold starts from the same weights and is trained at a constant rate, so that the model after s steps is
the same whatever steps follow: one run per fold and rate shows all numbers of steps. Knows models,
objectives and labeled rows; knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from gram.adaptation.decision import Decision, Held, IntArray, decide
from gram.adaptation.learner import AdaptSettings, Learner
from gram.data import folds, questions
from gram.errors import DataError
from gram.objectives.objective import Objective
from gram.progress import parts_with_progress
from gram.types import FloatArray, Pair, Preference, RewardModel

LEAST_ROWS = 10
LEAST_QUESTIONS = 5
_CERTAIN = 1000.0  # log-odds beyond it say nothing more


@dataclass(frozen=True)
class Candidate:
    """One way to train: its rate and steps; 0 steps is the old model."""

    learning_rate: float
    steps: int


@dataclass(frozen=True)
class Adaptation:
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
        """The best by the rows held back; no model was trained so on all rows unless ``adopted``."""
        return self.candidates[self.decision.choice.candidate]


def adapt(
    model: PreTrainedModel,
    objective: Objective[Preference],
    asked: RewardModel,
    rows: Sequence[Preference],
    settings: AdaptSettings | None = None,
    *,
    before: RewardModel | None = None,
    progress: bool = True,
) -> Adaptation:
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
    steps = _checkpoints(settings.steps_for(len(rows)))
    candidates = (Candidate(0.0, 0), *(Candidate(r, s) for r in settings.rates for s in steps))
    labels = np.array([row.p_a for row in rows])
    fold, question = folds(rows, settings.folds), questions(rows)
    old = (before or asked).compare([row.pair for row in rows]).log_odds
    temperature, asked.temperature = asked.temperature, 1.0
    learner = Learner(model, objective, samples, settings)
    adopted, train_loss = False, None
    try:
        said = np.stack([old, *_held_back(learner, asked, rows, fold, candidates[1:], progress)])
        decision = decide(Held(np.clip(said, -_CERTAIN, _CERTAIN), labels, fold, question))
        if decision.adopted:
            chosen = candidates[decision.choice.candidate]
            train_loss = learner.learn(np.arange(len(rows)), chosen.learning_rate, chosen.steps)
            adopted, temperature = True, decision.choice.temperature
    finally:
        learner.settle(adopted)
        asked.temperature = temperature
    return Adaptation(
        decision,
        candidates,
        len(rows),
        int(np.sum(labels == 0.5)),
        sum(sample.cut > 0 for sample in samples),
        len(np.unique(question)),
        len(np.unique(fold)),
        train_loss,
    )


def _held_back(
    learner: Learner,
    asked: RewardModel,
    rows: Sequence[Preference],
    fold: IntArray,
    candidates: Sequence[Candidate],
    progress: bool,
) -> FloatArray:
    """(c, n, 2) log-odds of every candidate, each row asked while its fold is held back."""
    said = np.empty((len(candidates), len(rows), 2))
    steps = {rate: [c.steps for c in candidates if c.learning_rate == rate] for rate in _rates(candidates)}
    runs = [(rate, k) for rate in steps for k in np.unique(fold)]
    bar = parts_with_progress([range(steps[rate][-1]) for rate, _ in runs], title="held back", show=progress)
    for (rate, k), _ in zip(runs, bar, strict=True):
        mine = np.flatnonzero(fold == k)
        pairs = [rows[place].pair for place in mine.tolist()]

        def ask(step: int, rate: float = rate, mine: IntArray = mine, pairs: list[Pair] = pairs) -> None:
            if step in steps[rate]:
                said[candidates.index(Candidate(rate, step)), mine] = asked.compare(pairs).log_odds

        learner.learn(np.flatnonzero(fold != k), rate, steps[rate][-1], ask)
    return said


def _rates(candidates: Sequence[Candidate]) -> list[float]:
    return list(dict.fromkeys(candidate.learning_rate for candidate in candidates))


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


def _checkpoints(most: int) -> list[int]:
    """Numbers of steps at which held-back rows are asked: 2, 3, 4, 6, 8, 11, 16, ... up to ``most``."""
    grid = {round(2 ** (half / 2)) for half in range(2, 2 * most.bit_length() + 1)}
    return sorted({step for step in grid if step < most} | {most})
