"""Reports for people: one self-contained HTML page with tables and pictures, for one run or several.

Knows results and records; knows and asks no model. Pictures need matplotlib, an optional extra; without it a
page has its tables only.
"""

from __future__ import annotations

from gram.report.compare import COMPARISON, Run, compare, read_run, read_runs, write_comparison
from gram.report.markdown import card, markdown, write_report
from gram.report.page import write_page
from gram.report.write import run_files, truncated_prompts, write_run

__all__ = [
    "COMPARISON",
    "Run",
    "card",
    "compare",
    "markdown",
    "read_run",
    "read_runs",
    "run_files",
    "truncated_prompts",
    "write_comparison",
    "write_page",
    "write_report",
    "write_run",
]
