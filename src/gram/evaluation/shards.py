"""A run in parts: each part makes every n-th call, and the part that finishes last merges the records of all.

Knows records and their files; knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gram.errors import ConfigError, DataError
from gram.evaluation.items import Item
from gram.evaluation.records import Place, Record, records_in
from gram.files import atomic_write

RECORDS = "records.jsonl"
MOST = 10_000  # parts of a run: each is a process and a file


class Shard(NamedTuple):
    """The ``number``-th of ``of`` parts of a run, from 1.

    Example:
        >>> Shard.parse("2/3"), Shard.parse("2/3").file(Path("out")).name, Shard(1, 1).file(Path("out")).name
        (Shard(number=2, of=3), 'records-2-of-3.jsonl', 'records.jsonl')
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``i/n``.

        Raises:
            ConfigError: it is not of that form, or i is not one of n, or there are too many parts.
        """
        digits = re.fullmatch(r"0*(\d{1,9})/0*(\d{1,9})", text)
        if not (digits and 1 <= int(digits[1]) <= int(digits[2]) <= MOST):
            raise ConfigError(f"--shard {text}: expected i/n with 1 <= i <= n <= {MOST}, such as 1/4")
        return cls(int(digits[1]), int(digits[2]))

    def file(self, output: Path) -> Path:
        """Where the records of this part stand in the folder of the run."""
        return output / (RECORDS if self.of == 1 else f"records-{self.number}-of-{self.of}.jsonl")


WHOLE = Shard(1, 1)


def merge(items: Sequence[Item], shards: Sequence[Sequence[Record]]) -> list[Record]:
    """The records of all shards in the order of one whole run.

    Raises:
        DataError: the shards are of different runs, or do not hold every comparison once.
    """
    runs = {record.run for shard in shards for record in shard}
    if len(runs) > 1:
        raise DataError(
            f"the shards are of {len(runs)} different runs: model, options, --dtype or data differ"
        )
    by_place = {record.place: record for shard in shards for record in shard}
    places = [(item.source, item.id, item.variant, i, j) for item in items for i, j in item.comparisons]
    total = sum(map(len, shards))
    if set(by_place) != set(places) or not len(by_place) == total == len(places):
        raise DataError(
            f"the shards hold {total} records, {len(by_place)} of them different; expected {len(places)}"
        )
    return [by_place[place] for place in places]


def merge_files(output: Path, of: int, items: Sequence[Item]) -> tuple[list[Record], list[str]]:
    """The records of all ``of`` parts, written to one file; or the names of the files that are missing.

    Raises:
        DataError: as ``merge``; or a file that is torn or malformed, with its line.
    """
    paths = [Shard(number, of).file(output) for number in range(1, of + 1)]
    if missing := [path.name for path in paths if not path.is_file()]:
        return [], missing
    records: list[Record] = []
    line_of: dict[Place, str] = {}
    for path in paths:
        records += (inside := list(records_in(path)))
        with path.open("rb") as file:  # bytes, not text, which also ends lines at U+2028 and the like
            line_of |= {r.place: line.decode() for r, line in zip(inside, file, strict=True)}
    merged = merge(items, [records])
    with atomic_write(output / RECORDS) as file:
        file.writelines(line_of[record.place].rstrip("\n") + "\n" for record in merged)
    return merged, []
