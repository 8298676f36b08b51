"""Which labels a model learns from, and in what order: all of them, the first so many, easy ones, short ones.

Command: python -m experiments.foundation.lessons (a second; `make foundation` runs it). Writes easy.jsonl and
short.jsonl, taken from data/labels.jsonl.gz, into runs/gram-135m/data. Knows no model.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from experiments.foundation.data import COUNT, LABELS, TASKS, Row, size

from gram.files import atomic_write

FOLDER = Path("runs/gram-135m/data")
EASY, SHORT = FOLDER / "easy.jsonl", FOLDER / "short.jsonl"
EASY_KINDS = ("other", "edit", "span", "negative")
"""What is wrong with the worse answer of a task: it is the output of another instance, an edit of the right
one, another span of the same text, or an output that the task's authors call wrong. Not: another label of a
closed task, another number."""
LONGEST = 1_000
"""Most characters of a prompt and two answers: four fifths of the labels, with half of their tokens."""


def is_short(row: Row) -> bool:
    """Whether a row is of at most ``LONGEST`` characters."""
    return size(row) <= LONGEST


def is_easy(row: Row) -> bool:
    """Whether comparing is all that a short row asks for.

    Example:
        >>> row = {"prompt": "?", "chosen": "4", "rejected": "7", "source": TASKS, "subset": "Misc./other"}
        >>> is_easy(row), is_easy(row | {"subset": "Misc./label"})
        (True, False)
    """
    kind = row["subset"].rpartition("/")[2]
    return is_short(row) and row["source"] == TASKS and kind in EASY_KINDS


def first(count: int) -> Path:
    """A file of the first ``count`` labels, in their order."""
    if count == COUNT:
        return LABELS
    path = FOLDER / f"labels-{count}.jsonl"
    if not path.exists():
        with gzip.open(LABELS, "rt", encoding="utf-8") as file:
            _write(islice(file, count), path)
    return path


def write() -> None:
    """Write the easy ones and the short ones, in the order of the labels."""
    with gzip.open(LABELS, "rt", encoding="utf-8") as file:
        rows = [(line, json.loads(line)) for line in file]
    for path, belongs in ((EASY, is_easy), (SHORT, is_short)):
        _write((line for line, row in rows if belongs(row)), path)


def _write(lines: Iterable[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:  # whole or not at all: other arms may wait for it
        file.writelines(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    write()
    print(EASY, SHORT)


if __name__ == "__main__":
    main()
