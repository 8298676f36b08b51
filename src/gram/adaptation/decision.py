"""Which of several adapted models to take, and whether it is better than the old one, by held-back verdicts.

Knows log-odds, labels, folds and questions; knows no model. The verdicts on a row come from a model that
was not trained on the row's question, so the numbers of one candidate can be trusted. Those of the best of
many candidates, on the rows that chose it, are too good. Each fold is therefore scored with the candidate and
the temperature chosen on the other folds. This is nested selection, but nothing has to be trained again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gram.statistics import (
    Z95,
    Estimate,
    PairedDifference,
    accuracy,
    best_temperature,
    clustered_error,
    log_loss,
    log_losses,
    paired_difference,
    tempered,
)
from gram.types import FloatArray

IntArray = npt.NDArray[np.int64]

OLD = 0  # the candidate that is no training at all


@dataclass(frozen=True, slots=True)
class HeldOutVerdicts:
    """The verdicts of c candidates on n rows that they were not trained on.

    Attributes:
        log_odds: (c, n, 2) that a beats b, in both orders. Candidate 0 is the old model, as it is used.
        labels: (n,) probability that a is better.
        fold: (n,) fold that each row belongs to.
        question: (n,) question of a row; rows of one question are not independent.
    """

    log_odds: FloatArray
    labels: FloatArray
    fold: IntArray
    question: IntArray


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate with the lowest log loss at its own best temperature.

    Attributes:
        losses: (c,) of all candidates.
    """

    candidate: int
    temperature: float
    losses: FloatArray


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy, on the rows that have a better answer, and log loss in nats, on all."""

    accuracy: Estimate
    log_loss: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the adapted model is taken, and the numbers behind it, all of them on held-back rows.

    Attributes:
        adopted: whether the adapted model replaces the old one.
        reason: why, or why not, in words.
        choice: of the candidate to train on all rows, and of its temperature.
        before: the old model as it was, its stored temperature included.
        before_fitted: the old model with a temperature fitted on the other folds.
        after: the adapted model, candidate and temperature chosen on the other folds.
        gain: log loss of ``before_fitted`` minus that of ``after``, in nats per row, with its 95% interval.
        standard_error: of ``gain``; rows of one question count as one observation.
        accuracy_gain: accuracy of ``after`` minus that of ``before``.
    """

    adopted: bool
    reason: str
    choice: Choice
    before: Score
    before_fitted: Score
    after: Score
    gain: Estimate
    standard_error: float
    accuracy_gain: PairedDifference


def choose(log_odds: FloatArray, labels: FloatArray) -> Choice:
    """The best of c candidates by (c, n, 2) held-back log-odds; of equally good ones the first.

    Temperatures are fitted to the smoothed labels (n q + 1) / (n + 2), as in Platt (1999): on few rows, all
    of them right, the best temperature for the labels q themselves would be 0.

    Example:
        >>> right, wrong = [[2.0, 2.0], [-2.0, -2.0]], [[-1.0, -1.0], [1.0, 1.0]]
        >>> choose(np.array([wrong, right]), labels=np.array([1.0, 0.0])).candidate
        1
    """
    n = len(labels)
    smooth_labels = (n * labels + 1) / (n + 2)
    temperatures = [best_temperature(candidate, smooth_labels) for candidate in log_odds]
    probabilities = [tempered(candidate, t) for candidate, t in zip(log_odds, temperatures, strict=True)]
    losses = np.array([log_loss(p_a, labels) for p_a in probabilities], dtype=np.float64)
    best = int(np.argmin(losses))
    return Choice(best, temperatures[best], losses)


def nested_selection(verdicts: HeldOutVerdicts) -> tuple[FloatArray, FloatArray]:
    """The verdicts on each fold, with the candidate and the temperatures chosen on the other folds.

    Returns:
        Two (n, 2) arrays of log-odds: of the old model at its best temperature, and of the best candidate at
        its own. The label of a row has no influence on the log-odds of that row.
    """
    fitted, after = np.empty_like(verdicts.log_odds[OLD]), np.empty_like(verdicts.log_odds[OLD])
    for k in np.unique(verdicts.fold):
        inside, others = verdicts.fold == k, verdicts.fold != k
        log_odds, labels = verdicts.log_odds[:, others], verdicts.labels[others]
        best, old = choose(log_odds, labels), choose(log_odds[:1], labels)
        after[inside] = verdicts.log_odds[best.candidate, inside] / best.temperature
        fitted[inside] = verdicts.log_odds[OLD, inside] / old.temperature
    return fitted, after


def decide(verdicts: HeldOutVerdicts) -> Decision:
    """Whether the best candidate is to replace the old model.

    It is if all of this is true on the rows held back:

    - the candidate with the lowest log loss is not the old model;
    - the log loss falls by more than its standard error, against the old model *at its best temperature*: a
      mere change of confidence is no win;
    - it ends below log 2, the loss of always saying 0.5;
    - the accuracy does not fall.

    Example:
        >>> labels = np.array([1.0, 0.0] * 10)
        >>> right = np.stack([labels - 0.5, labels - 0.5], axis=1)
        >>> log_odds = np.stack([np.zeros((20, 2)), right])  # the old model cannot tell, the new one is right
        >>> decide(HeldOutVerdicts(log_odds, labels, np.arange(20) % 5, np.arange(20))).adopted
        True
    """
    before = verdicts.log_odds[OLD]
    fitted, after = nested_selection(verdicts)
    choice = choose(verdicts.log_odds, verdicts.labels)
    gains = _losses(fitted, verdicts) - _losses(after, verdicts)
    gain, error = float(np.mean(gains)), clustered_error(gains, verdicts.question)
    right_before, right_after = _right(before, verdicts.labels), _right(after, verdicts.labels)
    decided = verdicts.question[verdicts.labels != 0.5].tolist()
    accuracy_gain = paired_difference(right_after, right_before, decided)
    scores = _score(before, verdicts), _score(fitted, verdicts), _score(after, verdicts)
    reason = _objection(choice, gain, error, scores[2].log_loss, accuracy_gain.difference)
    return Decision(
        reason is None,
        reason or f"{_fall(gain, error)}, and accuracy changes by {accuracy_gain.difference:+.3f}",
        choice,
        *scores,
        Estimate(gain, gain - Z95 * error, gain + Z95 * error, len(gains)),
        error,
        accuracy_gain,
    )


def _objection(choice: Choice, gain: float, error: float, after: float, accuracy_gain: float) -> str | None:
    """Why the adapted model is not taken, or None if it is."""
    if choice.candidate == OLD:
        return "no amount of training beats the old model on held-back rows"
    if not gain > error:
        return f"{_fall(gain, error)}: no clear fall"
    if not after < math.log(2):
        return f"log loss on held-back rows is {after:.4f}, no better than always saying 0.5"
    if accuracy_gain < 0:
        return f"accuracy on held-back rows falls by {-accuracy_gain:.3f}"
    return None


def _fall(gain: float, error: float) -> str:
    return f"log loss on held-back rows changes by {-gain:+.4f} with a standard error of {error:.4f}"


def _losses(log_odds: FloatArray, verdicts: HeldOutVerdicts) -> FloatArray:
    return log_losses(tempered(log_odds, 1.0), verdicts.labels)


def _score(log_odds: FloatArray, verdicts: HeldOutVerdicts) -> Score:
    decided = verdicts.question[verdicts.labels != 0.5].tolist()
    right = accuracy(_right(log_odds, verdicts.labels), decided)
    return Score(right, float(np.mean(_losses(log_odds, verdicts))))


def _right(log_odds: FloatArray, labels: FloatArray) -> FloatArray:
    """1, 0 or 0.5 for each row that has a better answer, as in ``Record.correct``."""
    decided = labels != 0.5
    choice = 0.5 * (1.0 + np.sign(np.nansum(log_odds[decided], axis=1)))
    return np.where(labels[decided] > 0.5, choice, 1.0 - choice)
