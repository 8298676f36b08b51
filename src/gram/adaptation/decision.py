"""Which of several adapted models to take, and whether it has beaten the old one, from held-back verdicts.

Knows log-odds, labels, folds and questions; knows no model. The verdicts on a row come from a model that
has not learned from the row's question, so they can be trusted; the best of many candidates cannot be
trusted on the rows that chose it. What is reported for a fold is therefore said by the candidate, and with
the temperature, that the *other* folds choose: nested selection without training anything again.
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
class Held:
    """What c candidates said about n rows that they had not learned from.

    Attributes:
        log_odds: (c, n, 2) that a beats b, in both orders. Candidate 0 is the old model, as it is used.
        labels: (n,) probability that a is better.
        fold: (n,) fold in which a row was held back.
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
        adopted: the adapted model has won.
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

    Temperatures are fitted to labels drawn in to (n q + 1) / (n + 2), as Platt (1999) does: on few rows, all
    of them right, no temperature would else be small enough.
    """
    n = len(labels)
    drawn_in = (n * labels + 1) / (n + 2)
    temperatures = [best_temperature(said, drawn_in) for said in log_odds]
    told = [tempered(said, t) for said, t in zip(log_odds, temperatures, strict=True)]
    losses = np.array([log_loss(p_a, labels) for p_a in told], dtype=np.float64)
    best = int(np.argmin(losses))
    return Choice(best, temperatures[best], losses)


def reported(held: Held) -> tuple[FloatArray, FloatArray]:
    """What is said of the rows of each fold by what the other folds choose.

    Returns:
        Two (n, 2) arrays of log-odds: of the old model at its best temperature, and of the best candidate at
        its own. No label of a row has a part in what is said of it.
    """
    fitted, after = np.empty_like(held.log_odds[OLD]), np.empty_like(held.log_odds[OLD])
    for k in np.unique(held.fold):
        mine, others = held.fold == k, held.fold != k
        said, labels = held.log_odds[:, others], held.labels[others]
        best, old = choose(said, labels), choose(said[:1], labels)
        after[mine] = held.log_odds[best.candidate, mine] / best.temperature
        fitted[mine] = held.log_odds[OLD, mine] / old.temperature
    return fitted, after


def decide(held: Held) -> Decision:
    """Whether the best candidate has won over the old model.

    It has if all of this holds of the rows held back:

    - some training beats none;
    - the log loss falls by more than its standard error, against the old model *at its best temperature*
      (between 0.01 and 100): a mere change of confidence is no win;
    - it ends below log 2, the loss of always saying 0.5;
    - the accuracy does not fall.
    """
    before = held.log_odds[OLD]
    fitted, after = reported(held)
    choice = choose(held.log_odds, held.labels)
    gains = _losses(fitted, held) - _losses(after, held)
    gain, error = float(np.mean(gains)), clustered_error(gains, held.question)
    right_before, right_after = _right(before, held.labels), _right(after, held.labels)
    decided = held.question[held.labels != 0.5].tolist()
    accuracy_gain = paired_difference(right_after, right_before, decided)
    scores = _score(before, held), _score(fitted, held), _score(after, held)
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
    """Why the adapted model is not taken; None: it is."""
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


def _losses(log_odds: FloatArray, held: Held) -> FloatArray:
    return log_losses(tempered(log_odds, 1.0), held.labels)


def _score(log_odds: FloatArray, held: Held) -> Score:
    decided = held.question[held.labels != 0.5].tolist()
    right = accuracy(_right(log_odds, held.labels), decided)
    return Score(right, float(np.mean(_losses(log_odds, held))))


def _right(log_odds: FloatArray, labels: FloatArray) -> FloatArray:
    """1, 0 or 0.5 for each row that has a better answer, as in ``Record.correct``."""
    decided = labels != 0.5
    choice = 0.5 * (1.0 + np.sign(np.nansum(log_odds[decided], axis=1)))
    return np.where(labels[decided] > 0.5, choice, 1.0 - choice)
