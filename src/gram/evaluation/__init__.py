"""How good a model is: one runner, records, metrics, floors, and the report.

Knows models only as ``PreferenceModel``; loads no torch. The way is one: ``evaluate`` gives records,
``summarize`` turns records (and floors) into a summary, ``write_report`` puts it on paper.
"""

from __future__ import annotations

from gram.evaluation.floors import bag_of_words, floors, length_rule
from gram.evaluation.metrics import Estimate, PairedDifference, paired_difference
from gram.evaluation.records import Record
from gram.evaluation.report import markdown, write_report
from gram.evaluation.runner import evaluate
from gram.evaluation.summary import Row, Summary, summarize

__all__ = [
    "Estimate",
    "PairedDifference",
    "Record",
    "Row",
    "Summary",
    "bag_of_words",
    "evaluate",
    "floors",
    "length_rule",
    "markdown",
    "paired_difference",
    "summarize",
    "write_report",
]
