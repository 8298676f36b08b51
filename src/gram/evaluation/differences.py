"""Two runs over the same items: a check that the items are the same, and the difference. Knows records."""

from __future__ import annotations

from collections.abc import Sequence

from gram import statistics
from gram.errors import DataError
from gram.evaluation.records import Record
from gram.evaluation.shares import credits_of
from gram.statistics import PairedDifference


def same_items(first: Sequence[Record], second: Sequence[Record], names: tuple[str, str] = ("", "")) -> None:
    """Check that two runs compared the same answers in the same order.

    Raises:
        DataError: they did not. The message names the first difference, and the runs by ``names``.
    """
    runs = f"{names[0]} and {names[1]}" if any(names) else "runs"
    if len(first) != len(second):
        raise DataError(f"cannot compare {runs} over {len(first)} and {len(second)} rows")
    for number, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        if (a.place, a.label, a.length_a, a.length_b) != (b.place, b.label, b.length_a, b.length_b):
            raise DataError(
                f"cannot compare {runs} over different rows: number {number} is '{a.id}' and '{b.id}'"
                + (", with other answers" if a.id == b.id else "")
            )


def paired_difference(
    first: Sequence[Record], second: Sequence[Record], *, seed: int = 0, resamples: int = 10_000
) -> PairedDifference:
    """Accuracy of the first run minus that of the second, over the same rows.

    Raises:
        DataError: the runs judged different rows, or no row has a right answer.

    Example:
        >>> right = Record("q1", "", 1.0, log_odds=(2.0, 2.0), mass=(1.0, 1.0), length_a=1, length_b=1)
        >>> wrong = Record("q1", "", 1.0, log_odds=(-2.0, -2.0), mass=(1.0, 1.0), length_a=1, length_b=1)
        >>> paired_difference([right], [wrong]).difference
        1.0
    """
    same_items(first, second)
    x, y = credits_of(first), credits_of(second)
    if not len(x):
        raise DataError("cannot compare runs in which no row has a right answer")
    clusters = [a.cluster for a in first if a.correct is not None]
    return statistics.paired_difference(x, y, clusters, seed=seed, resamples=resamples)
