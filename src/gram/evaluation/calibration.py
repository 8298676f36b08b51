"""One temperature for all verdicts, so that the model is right as often as its probabilities say.

Knows log-odds and labels; knows no model and no file. Guo et al. (2017), "On Calibration of Modern Neural
Networks": dividing all log-odds by one number changes no verdict of a single order, only its certainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gram.errors import DataError
from gram.evaluation.records import Record
from gram.statistics import HIGHEST, LOWEST, best_temperature, log_loss, reliability, tempered

_NONE_IS_BEST = {
    LOWEST: "the smaller it is, the better: give harder rows",
    HIGHEST: "always saying 0.5 is better than these verdicts at any temperature",
}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted temperature, and the calibration on the same rows before and after.

    Attributes:
        temperature: log-odds are divided by it; above 1 means that the model was too sure.
        n: rows.
        log_loss_before, log_loss_after: mean cross-entropy in nats.
        ece_before, ece_after: expected calibration error.
    """

    temperature: float
    n: int
    log_loss_before: float
    log_loss_after: float
    ece_before: float
    ece_after: float


def fit_temperature(records: Sequence[Record]) -> Calibration:
    """The temperature with the lowest log loss of P(a), averaged over the orders asked.

    Raises:
        DataError: there are no rows, or no temperature is best: the smaller the better where no verdict is
            wrong, the larger the better where the verdicts do not know better answers from worse.

    Example:
        >>> three_right_of_four = [
        ...     Record("q", "", 1.0, log_odds=(x, x), mass=(1.0, 1.0), length_a=1, length_b=1)
        ...     for x in (4.0, 4.0, 4.0, -4.0)
        ... ]
        >>> round(fit_temperature(three_right_of_four).temperature, 2)  # 4 / log 3, since 3 of 4 are right
        3.64
    """
    if not records:
        raise DataError("there are no records to fit a temperature on")
    log_odds = np.array([record.log_odds for record in records])
    labels = np.array([record.label for record in records])
    temperature = best_temperature(log_odds, labels)
    if temperature in (LOWEST, HIGHEST):
        raise DataError(f"no temperature is best: {_seen(records)}; {_NONE_IS_BEST[temperature]}")
    before, after = tempered(log_odds, 1.0), tempered(log_odds, temperature)
    return Calibration(
        temperature,
        len(records),
        log_loss(before, labels),
        log_loss(after, labels),
        reliability(before, labels).ece,
        reliability(after, labels).ece,
    )


def _seen(records: Sequence[Record]) -> str:
    right = sum(record.correct == 1.0 for record in records)
    wrong = sum(record.correct == 0.0 for record in records)
    tied = len(records) - right - wrong
    return f"of {len(records)} rows the model is right on {right}, wrong on {wrong} and tied on {tied}"
