"""Rows -> examples: reads labeled and unlabeled data from files, folders and the Hub, and reports bad rows.

Knows nothing of tokens, templates or models. The forms of rows are listed in ``docs/data-formats.md``.
"""

from __future__ import annotations

from gram.data.columns import ColumnsLike
from gram.data.folds import folds, questions
from gram.data.forms import Example
from gram.data.leakage import Leak, find_leaks, shared_prompts
from gram.data.pairing import pairs_of
from gram.data.reading import (
    ExampleSet,
    Options,
    SourceInfo,
    read_as,
    read_contests,
    read_language,
    read_preferences,
    read_scorables,
)
from gram.data.row import Rejected, Row
from gram.data.rows import (
    Language,
    Scorable,
    parse,
    to_contest,
    to_language,
    to_preference,
    to_scorable,
)
from gram.data.sources import read_rows

__all__ = [
    "ColumnsLike",
    "Example",
    "ExampleSet",
    "Language",
    "Leak",
    "Options",
    "Rejected",
    "Row",
    "Scorable",
    "SourceInfo",
    "find_leaks",
    "folds",
    "pairs_of",
    "parse",
    "questions",
    "read_as",
    "read_contests",
    "read_language",
    "read_preferences",
    "read_rows",
    "read_scorables",
    "shared_prompts",
    "to_contest",
    "to_language",
    "to_preference",
    "to_scorable",
]
