"""What is kept of one judged preference: raw numbers, from which every metric is derived later.

Knows neither models nor texts, so a report can be made again without either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gram.errors import DataError
from gram.types import sigmoid


@dataclass(frozen=True, slots=True)
class Record:
    """One preference and what the model said about it.

    Attributes:
        id: of the row.
        subset: of the row; may be empty.
        label: probability that answer a is the better one: 1, 0, or 0.5 for a tie.
        log_odds: natural-log odds that a beats b, with a shown first and with a shown second. Finite, since
            JSON has no infinity, or NaN: not asked.
        mass: probability the model gave to the two labels together, in both orders.
        length_a: characters of answer a.
        length_b: characters of answer b.
    """

    id: str
    subset: str
    label: float
    log_odds: tuple[float, float]
    mass: tuple[float, float]
    length_a: int
    length_b: int

    @property
    def p_a(self) -> float:
        """The model's probability that a beats b, averaged over the orders that were asked."""
        asked = [x for x in self.log_odds if not math.isnan(x)]
        return float(np.mean(sigmoid(np.array(asked)))) if asked else math.nan

    @property
    def choice(self) -> float:
        """1 if the model prefers a, 0 if it prefers b, 0.5 on an exact tie, NaN if it was not asked.

        Read off the sum of the log-odds, whose sign is that of ``p_a - 0.5`` without its rounding: a model
        that only looks at the position of an answer has log-odds x and -x, and ties exactly.
        """
        asked = [x for x in self.log_odds if not math.isnan(x)]
        if not asked:
            return math.nan
        return 0.5 * (1.0 + float(np.sign(sum(asked))))

    @property
    def correct(self) -> float | None:
        """1, 0, or 0.5 if the model ties; None if the label does (then no answer is right)."""
        if self.label == 0.5:
            return None
        return self.choice if self.label > 0.5 else 1.0 - self.choice

    @property
    def consistent(self) -> bool | None:
        """Whether both orders prefer the same answer; None unless both were asked."""
        first, second = np.sign(self.log_odds)
        return None if np.isnan(first + second) else bool(first == second)

    @property
    def position_gap(self) -> float:
        """P(a) when shown first minus P(a) when shown second: above 0 favours the first place."""
        first, second = sigmoid(np.array(self.log_odds))
        return float(first - second)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to JSON Lines."""
        row = asdict(self)
        return {**row, "log_odds": list(self.log_odds), "mass": list(self.mass)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Record:
        """The inverse of ``to_dict``; null stands for NaN.

        Raises:
            DataError: a field is missing or of the wrong kind.
        """
        field = ""
        try:
            values: dict[str, Any] = {}
            for field, read in _READ.items():
                values[field] = read(row[field])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("missing or malformed in a record", field=field) from error
        return cls(**values)


def _two_floats(value: Any) -> tuple[float, float]:
    first, second = (math.nan if x is None else float(x) for x in value)
    return first, second


_READ = {
    "id": str,
    "subset": str,
    "label": float,
    "log_odds": _two_floats,
    "mass": _two_floats,
    "length_a": int,
    "length_b": int,
}
