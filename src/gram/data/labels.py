"""From the label fields of a row to the probability that one of two answers is better.

Knows numbers under field names; knows no form of row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gram.data.row import Cell
from gram.errors import DataError


def number(fields: Mapping[str, Any], field: str) -> float:
    """A finite number.

    Raises:
        DataError: naming ``field``; so do all functions here.
    """
    value = fields[field]
    if isinstance(value, Cell):
        with suppress(ValueError):  # the next line says that it is no number
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_finite(value):
        raise DataError(f"expected a finite number, got {value!r}", field=field)
    return float(value)


def is_finite(value: float) -> bool:
    """Whether a number is a finite float, or an integer that fits into one (``math.isfinite`` raises)."""
    return abs(value) <= sys.float_info.max


def probability(fields: Mapping[str, Any], field: str) -> float:
    """A number between 0 and 1."""
    p = number(fields, field)
    if not 0.0 <= p <= 1.0:
        raise DataError(f"expected a probability between 0 and 1, got {p}", field=field)
    return p


def vote_share(fields: Mapping[str, Any], one: str, other: str) -> float:
    """Share of the votes that went to ``one``; a vote for a tie (``votes_tie``) counts half for each.

    Example:
        >>> vote_share({"votes_a": 2, "votes_b": 1, "votes_tie": 1}, "votes_a", "votes_b")
        0.625
    """
    counts = []
    for name in (one, other, "votes_tie"):
        counts.append(number(fields, name) if name in fields else 0.0)
        if counts[-1] < 0:
            raise DataError(f"expected a number of votes, got {counts[-1]}", field=name)
    if not any(counts):
        raise DataError("nobody voted", field=one)
    shares = [count / max(counts) for count in counts]  # the sum of large floats may be beyond all floats
    return (shares[0] + 0.5 * shares[2]) / sum(shares)


def bradley_terry(fields: Mapping[str, Any], one: str, other: str) -> float:
    """Probability that ``one`` is better, if the difference of the two scores is read as log-odds.

    Example:
        >>> round(bradley_terry({"score_a": 2.0, "score_b": 1.0}, "score_a", "score_b"), 3)
        0.731
    """
    return 0.5 * (1.0 + math.tanh(0.5 * (number(fields, one) - number(fields, other))))
