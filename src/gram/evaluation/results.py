"""A whole run's results from its records: every source by its own rule, and what holds for all of them.

A pure function of records and floors; knows no model, no texts and no paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gram.errors import DataError
from gram.evaluation.bands import Band, tie_band
from gram.evaluation.benchmarks import BENCHMARKS, PREFERENCES, Benchmark, Scores
from gram.evaluation.bias import Bias, Cell, Degradation, bias, degradation, styles
from gram.evaluation.records import Record
from gram.evaluation.summary import Summary, SummaryRow, summarize
from gram.files import finite
from gram.types import FloatArray

BANDS = (0.0, 0.05, 0.1, 0.2)

Floors = Mapping[str, Mapping[str, FloatArray]]
"""Source -> floor -> (n,) probabilities, in the order of the source's judged records."""


@dataclass(frozen=True, slots=True)
class Part:
    """One source: its score by its own rule, and its comparisons as in the table of all.

    Attributes:
        source: as the records name it.
        benchmark: name of the rule.
        scores: by that rule.
        summary: of its comparisons, by subset and beside the floors.
    """

    source: str
    benchmark: str
    scores: Scores
    summary: Summary

    @property
    def rule(self) -> Benchmark:
        """The benchmark itself."""
        return BENCHMARKS.get(self.benchmark, PREFERENCES)

    @property
    def row(self) -> SummaryRow:
        """Its comparisons in one line."""
        return self.summary.overall


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a run.

    Attributes:
        parts: one per source, in their order.
        overall: of all comparisons together, by source if there are several, else by subset.
        bias: of all comparisons.
        bands: verdicts near 0.5 read as ties, for several widths.
        styles: accuracy by style, where the data name styles.
        degradation: one per perturbation among the records.
    """

    parts: tuple[Part, ...]
    overall: Summary
    bias: Bias
    bands: tuple[Band, ...]
    styles: tuple[Cell, ...]
    degradation: tuple[Degradation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        whole = asdict(self)
        return finite(
            {
                **whole.pop("overall"),
                "benchmarks": whole.pop("parts"),
                **whole,
            }
        )


def results(records: Sequence[Record], rules: Mapping[str, str], floors: Floors | None = None) -> Results:
    """The results of a run.

    Args:
        records: all of them, variants included.
        rules: source -> name of its benchmark, in the order of the report.
        floors: of the judged records of each source; a floor must be there for all sources or none.

    Raises:
        DataError: there are no records, or some of a source without a rule, or none of a source with one.

    Example:
        >>> record = Record(
        ...     "q1", "", 1.0, log_odds=(2.0, 1.0), mass=(1.0, 1.0), length_a=4, length_b=9, source="pairs"
        ... )
        >>> results([record], rules={"pairs": "preferences"}).overall.overall.accuracy.value
        1.0
    """
    floors = floors or {}
    if strangers := {record.source for record in records} - set(rules):
        raise DataError(f"records of unknown sources: {', '.join(sorted(strangers))}")
    parts = []
    everything: list[Record] = []
    columns: dict[str, list[FloatArray]] = {}
    for source, rule in rules.items():
        inside = [record for record in records if record.source == source]
        comparisons = [record for record in inside if record.judged]
        if not comparisons:
            raise DataError(f"there are no records of {source}")
        floors_of_source = dict(floors.get(source, {}))
        benchmark = BENCHMARKS.get(rule, PREFERENCES)
        parts.append(Part(source, rule, benchmark.scores(inside), summarize(comparisons, floors_of_source)))
        everything += comparisons
        for name, p_a in floors_of_source.items():
            columns.setdefault(name, []).append(p_a)
    all_floors = {
        name: np.concatenate(values) for name, values in columns.items() if len(values) == len(rules)
    }
    p_a = np.array([record.p_a for record in everything])
    labels = np.array([record.label for record in everything])
    clusters = [record.cluster for record in everything]
    by = "source" if len(rules) > 1 else "subset"
    return Results(
        parts=tuple(parts),
        overall=summarize(everything, all_floors, by=by),
        bias=bias(everything),
        bands=tuple(tie_band(p_a, labels, width, clusters) for width in BANDS),
        styles=tuple(styles(everything)),
        degradation=tuple(degradation(records)),
    )
