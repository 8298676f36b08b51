"""How good a model is: items, one runner, records, benchmarks by their rules, metrics, biases, floors.

Knows models only as ``PreferenceModel`` and ``ScalarModel``; loads no torch. There is one way through:
``sources`` give items, ``evaluate`` gives records, ``results`` turns records (and floors) into results; a
``Session`` does the first two steps with files on disk. The room ``report`` writes results for people.
"""

from __future__ import annotations

from gram.evaluation.benchmarks import BENCHMARKS
from gram.evaluation.bias import bias
from gram.evaluation.calibration import Calibration, fit_temperature
from gram.evaluation.differences import paired_difference
from gram.evaluation.floors import bag_of_words, floors, length_rule
from gram.evaluation.items import Item, item_of, preferences_of
from gram.evaluation.records import Record, read_records
from gram.evaluation.results import Results, results
from gram.evaluation.runner import Stamp, evaluate
from gram.evaluation.session import Selection, Session
from gram.evaluation.shards import Shard, merge
from gram.evaluation.summary import Summary, SummaryRow, summarize
from gram.statistics import Estimate, PairedDifference

__all__ = [
    "BENCHMARKS",
    "Calibration",
    "Estimate",
    "Item",
    "PairedDifference",
    "Record",
    "Results",
    "Selection",
    "Session",
    "Shard",
    "Stamp",
    "Summary",
    "SummaryRow",
    "bag_of_words",
    "bias",
    "evaluate",
    "fit_temperature",
    "floors",
    "item_of",
    "length_rule",
    "merge",
    "paired_difference",
    "preferences_of",
    "read_records",
    "results",
    "summarize",
]
