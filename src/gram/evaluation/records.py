"""The record of one comparison: raw numbers, from which every metric is computed later.

Knows neither models nor texts, so a report can be made again without either.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gram.errors import DataError
from gram.types import sigmoid

VERSION = 1

Place: TypeAlias = tuple[str, str, str, int, int]
"""Source, id and variant of an item, and two of its answers."""


@dataclass(frozen=True, slots=True)
class Record:
    """Two answers of one item, and the model's verdict on them. Answer a is never the worse one.

    Attributes:
        id: of the item.
        subset: of the item; may be empty.
        label: probability that answer a is the better one: 1, a soft label, or 0.5 for a tie.
        log_odds: natural-log odds that a beats b, with a shown first and with a shown second. Finite, since
            JSON has no infinity (1000 for a model that is certain), or NaN: not asked.
        mass: probability the model gave to the two labels together, in both orders.
        length_a: characters of answer a.
        length_b: characters of answer b.
        source: where the item comes from.
        unit: the items that its benchmark's rule scores together; its own id where there is one only.
        group: the underlying question, where the data name it; rows of one group are not independent.
        variant: what was done to the answers; empty: nothing.
        pair: places of a and b among the item's answers.
        gold: quality of a and b.
        styles: style of a and b; empty where the data have no styles.
        scores: what a model that scores single answers gave a and b; None for a model that compares.
        repetition: share of the words of a, and of b, that only repeat what stands before them.
        truncated: tokens cut from the prompt to fit the model; None if the model does not count them.
        run: fingerprint of the run: model, options and data.
        template: fingerprint of the judge template; empty for models without.
        seed: of the run.
        bounded: where ``log_odds`` are a bound, in both orders: a server told no more, and the true ones have
            the same sign and are at least as far from 0.

    Example:
        >>> record = Record("q1", "", 1.0, log_odds=(2.0, -1.0), mass=(1.0, 1.0), length_a=4, length_b=9)
        >>> record.margin, record.correct, record.consistent
        (0.5, 1.0, False)
    """

    id: str
    subset: str
    label: float
    log_odds: tuple[float, float]
    mass: tuple[float, float]
    length_a: int
    length_b: int
    source: str = ""
    unit: str = ""
    group: str = ""
    variant: str = ""
    pair: tuple[int, int] = (0, 1)
    gold: tuple[float, float] = (1.0, 0.0)
    styles: tuple[str, str] = ("", "")
    scores: tuple[float, float] | None = None
    repetition: tuple[float, float] = (0.0, 0.0)
    truncated: int | None = None
    run: str = ""
    template: str = ""
    seed: int = 0
    bounded: tuple[bool, bool] = (False, False)

    @property
    def p_a(self) -> float:
        """The model's probability that a beats b, averaged over the orders that were asked."""
        log_odds = [x for x in self.log_odds if not math.isnan(x)]
        return float(np.mean(sigmoid(np.array(log_odds)))) if log_odds else math.nan

    @property
    def margin(self) -> float:
        """Mean log-odds that a beats b, over the orders that were asked."""
        log_odds = [x for x in self.log_odds if not math.isnan(x)]
        return sum(log_odds) / len(log_odds) if log_odds else math.nan

    @property
    def choice(self) -> float:
        """1 if the model prefers a, 0 if it prefers b, 0.5 on an exact tie, NaN if it was not asked.

        Read off the sum of the log-odds, whose sign is that of ``p_a - 0.5`` without its rounding: a model
        that only looks at the position of an answer has log-odds x and -x, and ties exactly.
        """
        log_odds = [x for x in self.log_odds if not math.isnan(x)]
        if not log_odds:
            return math.nan
        return 0.5 * (1.0 + float(np.sign(sum(log_odds))))

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

    @property
    def judged(self) -> bool:
        """Whether it counts in general tables: answers unchanged, and not of equal quality."""
        return not self.variant and self.gold[0] != self.gold[1]

    @property
    def cluster(self) -> tuple[str, str]:
        """Equal for records that are not independent: those of one group or, without groups, of one unit."""
        return (self.source, self.group or self.unit or self.id)

    @property
    def place(self) -> Place:
        """Names the comparison: equal in two runs over the same items."""
        return (self.source, self.id, self.variant, *self.pair)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to JSON Lines, the version of the format first; no ``bounded`` of none."""
        row = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        if not any(self.bounded):
            del row["bounded"]
        return {"v": VERSION, **row}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Record:
        """The inverse of ``to_dict``; null stands for NaN.

        Raises:
            DataError: another version of the format, or a field is missing or of the wrong kind.
        """
        if row.get("v") != VERSION:
            raise DataError(f"this version of gram reads records of version {VERSION}", field="v")
        field = ""
        try:
            values: dict[str, Any] = {}
            for field, convert in _CONVERTERS.items():
                if field in row or field not in _ADDED:
                    values[field] = convert(row[field])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("missing or malformed in a record", field=field) from error
        return cls(**values)


def read_records(path: Path) -> list[Record]:
    """The records of one file.

    Raises:
        DataError: naming file, line and field; also for a missing and an empty file.

    Example:
        >>> record = Record("q1", "", 1.0, log_odds=(2.0, 1.0), mass=(1.0, 1.0), length_a=4, length_b=9)
        >>> _ = Path("records.jsonl").write_text(json.dumps(record.to_dict()))
        >>> read_records(Path("records.jsonl")) == [record]
        True
    """
    records = list(records_in(Path(path)))
    if not records:
        raise DataError("holds no records", file=str(path))
    return records


def records_in(path: Path) -> Iterator[Record]:
    """As ``read_records``, one by one, and also none at all: a part of a run may have nothing to ask."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield Record.from_dict(json.loads(line))
                except DataError as error:
                    raise DataError(error.reason, file=str(path), line=number, field=error.field) from None
                except (ValueError, AttributeError):
                    raise DataError("not a JSON object", file=str(path), line=number) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=str(path)) from None


def _floats(value: Any) -> tuple[float, float]:
    first, second = (math.nan if x is None else float(x) for x in value)
    return first, second


def _ints(value: Any) -> tuple[int, int]:
    first, second = map(int, value)
    return first, second


def _strings(value: Any) -> tuple[str, str]:
    first, second = map(str, value)
    return first, second


def _switches(value: Any) -> tuple[bool, bool]:
    first, second = map(bool, value)
    return first, second


_ADDED = {"group", "bounded"}
"""Fields that older files of this version lack."""

_CONVERTERS = {
    "id": str,
    "subset": str,
    "label": float,
    "log_odds": _floats,
    "mass": _floats,
    "length_a": int,
    "length_b": int,
    "source": str,
    "unit": str,
    "group": str,
    "variant": str,
    "pair": _ints,
    "gold": _floats,
    "styles": _strings,
    "scores": lambda value: None if value is None else _floats(value),
    "repetition": _floats,
    "truncated": lambda value: None if value is None else int(value),
    "run": str,
    "template": str,
    "seed": int,
    "bounded": _switches,
}
