"""Puts the tables of ``gram bench`` into docs/performance.md, from the numbers on file.

Command: python -m experiments.bench_page [--score FILE] [--train FILE]
The files are what ``gram bench score --output`` and ``gram bench train --output`` wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from experiments.pages import filled

from gram.bench import tables
from gram.bench.settings import Subject
from gram.files import atomic_write

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS: dict[Subject, Path] = {
    "score": ROOT / "experiments" / "results" / "bench_score.json",
    "train": ROOT / "experiments" / "results" / "bench_train.json",
}


def with_tables(page: str, results: dict[Subject, Path]) -> str:
    """The text of the page with the tables of these files between its marks.

    Raises:
        ValueError: a file was written before rows had a profile: measure again.
    """
    for subject, path in results.items():
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if any("profile" not in row for row in rows):
            raise ValueError(
                f"{path}: of an earlier gram bench; measure again (gram bench {subject} --output)"
            )
        page = filled(page, subject, tables.page(subject, rows).strip())
    return page


def main() -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for subject, path in RESULTS.items():
        parser.add_argument(f"--{subject}", type=Path, default=path)
    options = vars(parser.parse_args())
    page = with_tables(PAGE.read_text(encoding="utf-8"), {subject: options[subject] for subject in RESULTS})
    with atomic_write(PAGE) as file:
        file.write(page)


if __name__ == "__main__":
    main()
