"""From records to the table of a report: a pure function, so that a report can be made again at any time.

Knows no model and no texts; floors come in as probabilities beside the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from gram.errors import DataError
from gram.evaluation.records import Record
from gram.evaluation.shares import accuracy, share
from gram.files import finite
from gram.statistics import Estimate, brier, credit, log_loss, reliability
from gram.types import FloatArray


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of the table.

    Attributes:
        subset: its name; "overall" for all rows together, each counting once.
        n: rows judged.
        ties: rows labeled a tie; they have no right answer and stay out of every accuracy.
        accuracy: of the model, with interval.
        consistency: share of rows on which both orders prefer the same answer; NaN if none was asked twice.
        floors: accuracy of each floor on the same rows, by name.
    """

    subset: str
    n: int
    ties: int
    accuracy: Estimate
    consistency: float
    floors: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of one table: accuracy by subset, position gap and calibration.

    Attributes:
        overall: all rows.
        subsets: one line per subset, by name; empty if the rows have fewer than two.
        position_gap: mean of P(a) shown first minus P(a) shown second; above 0 favours the first place.
        position_gap_size: mean of its absolute value. Both NaN if no row was asked in both orders.
        label_mass: mean probability of the two labels together, out of the whole vocabulary; NaN if the model
            is no judge.
        bounded: rows whose log-odds are bounds in an order, see ``Record``.
        brier: mean squared error of the probabilities; 0.25 for always saying 0.5.
        log_loss: mean cross-entropy in nats; log 2 for always saying 0.5.
        ece: expected calibration error over 15 bins of confidence.
    """

    overall: SummaryRow
    subsets: tuple[SummaryRow, ...]
    position_gap: float
    position_gap_size: float
    label_mass: float
    bounded: int
    brier: float
    log_loss: float
    ece: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        return finite(asdict(self))


def summarize(
    records: Sequence[Record],
    floors: Mapping[str, FloatArray] | None = None,
    *,
    by: Literal["subset", "source"] = "subset",
) -> Summary:
    """Accuracy overall and by subset, consistency, position gap and calibration.

    Args:
        records: at least one.
        floors: by name, (n,) probabilities that a is better, in the order of the records.
        by: what the lines of the table are.

    Raises:
        DataError: there are no records, or a floor has another length.

    Example:
        >>> record = Record("q1", "", 1.0, log_odds=(2.0, -1.0), mass=(1.0, 1.0), length_a=4, length_b=9)
        >>> row = summarize([record]).overall
        >>> row.accuracy.value, row.consistency
        (1.0, 0.0)
    """
    if not records:
        raise DataError("there are no records to summarize")
    floors = {name: np.asarray(p_a) for name, p_a in (floors or {}).items()}
    for name, p_a in floors.items():
        if len(p_a) != len(records):
            raise DataError(f"the floor '{name}' has {len(p_a)} rows, the records {len(records)}")
    subsets = sorted({str(getattr(record, by)) for record in records})
    p_a = np.array([record.p_a for record in records])
    labels = np.array([record.label for record in records])
    gaps = np.array([record.position_gap for record in records])
    gaps = gaps[~np.isnan(gaps)]
    masses = np.array([mass for record in records if record.template for mass in record.mass])
    return Summary(
        overall=_row("overall", records, floors),
        subsets=tuple(_row_of(subset, by, records, floors) for subset in subsets) if len(subsets) > 1 else (),
        position_gap=_mean(gaps),
        position_gap_size=_mean(np.abs(gaps)),
        label_mass=_mean(masses[~np.isnan(masses)]),
        bounded=sum(any(record.bounded) for record in records),
        brier=brier(p_a, labels),
        log_loss=log_loss(p_a, labels),
        ece=reliability(p_a, labels).ece,
    )


def _row_of(subset: str, by: str, records: Sequence[Record], floors: Mapping[str, FloatArray]) -> SummaryRow:
    inside = [number for number, record in enumerate(records) if getattr(record, by) == subset]
    part = {name: p_a[inside] for name, p_a in floors.items()}
    return _row(subset or "(none)", [records[number] for number in inside], part)


def _row(name: str, records: Sequence[Record], floors: Mapping[str, FloatArray]) -> SummaryRow:
    labels = np.array([record.label for record in records])
    decided = labels != 0.5
    hard = np.sign(labels[decided] - 0.5) * 0.5 + 0.5
    with_answer = [record for record, is_decided in zip(records, decided, strict=True) if is_decided]
    consistent = [record.consistent for record in records if record.consistent is not None]
    return SummaryRow(
        subset=name,
        n=len(records),
        ties=int(np.sum(~decided)),
        accuracy=accuracy(with_answer),
        consistency=_mean(np.array(consistent, dtype=float)),
        floors={floor: share(with_answer, credit(p_a[decided], hard)) for floor, p_a in floors.items()},
    )


def _mean(values: FloatArray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
