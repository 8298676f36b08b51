"""What the fields of a row say about which of two answers is better, as a probability.

Knows numbers under field names; knows no form of row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from gram.errors import DataError


def number(fields: Mapping[str, Any], field: str) -> float:
    """A finite number.

    Raises:
        DataError: naming ``field``; so do all functions here.
    """
    value = fields[field]
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
    """Share of the votes that went to ``one``; a vote for a tie (``votes_tie``) counts half for each."""
    counts = []
    for name in (one, other, "votes_tie"):
        counts.append(number(fields, name) if name in fields else 0.0)
        if counts[-1] < 0:
            raise DataError(f"expected a number of votes, got {counts[-1]}", field=name)
    if not sum(counts):
        raise DataError("nobody voted", field=one)
    return (counts[0] + 0.5 * counts[2]) / sum(counts)


def bradley_terry(fields: Mapping[str, Any], one: str, other: str) -> float:
    """The difference of two scores, taken for log-odds."""
    return 0.5 * (1.0 + math.tanh(0.5 * (number(fields, one) - number(fields, other))))
