"""A run in parts: what is finished is not asked again, and a file that is torn is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gram.errors import DataError
from gram.evaluation import Record, Selection, Session, Shard
from gram.evaluation.runner import CHUNK
from gram.types import Pair, Verdicts
from gram.workers import Alone

PARTS = 4  # the last has nothing to ask: there are three calls


class Longer:
    """Prefers the longer answer, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        self.asked += len(pairs)
        margins = np.array([[float(len(pair.a) - len(pair.b))] * 2 for pair in pairs])
        return Verdicts(margins, np.ones_like(margins))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows for two full calls and three more."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        {
            "id": f"{k}\u2028",
            "prompt": f"what {k} ?",
            "chosen": "a" * (k % 9 + 1),
            "rejected": "b" * (k % 4 + 1),
        }
        for k in range(2 * CHUNK + 3)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def session(data: Path, output: Path, number: int, of: int = PARTS, model: str = "longer") -> Session:
    return Session(Selection([str(data)]), output, {"model": model}, Shard(number, of))


def asked(part: Session) -> tuple[list[Record], list[str], int]:
    """As ``gram eval`` does: the records, the files that are missing, and how many comparisons were asked."""
    model = Longer()
    records, missing = part.on_file()
    if not records and not missing:
        records, _, missing = part.ask(Alone(model))
    return records, missing, model.asked


def all_parts(data: Path, output: Path) -> list[Record]:
    """The records that the last of all parts merges."""
    return [asked(session(data, output, number)) for number in range(1, PARTS + 1)][-1][0]


def test_a_finished_part_is_not_asked_again(data: Path, tmp_path: Path) -> None:
    """515 rows in calls of 256: parts of 256, 256, 3 and none. Each is asked once, whatever is run again."""
    whole, _, _ = asked(session(data, tmp_path / "whole", 1, 1))
    parts = tmp_path / "parts"
    counts = []
    for number in (4, 3, 1, 1, 3, 4):
        records, missing, count = asked(session(data, parts, number))
        assert not records and "records-2-of-4.jsonl" in missing
        counts.append(count)
    assert counts == [0, 3, CHUNK, 0, 0, 0]
    records, missing, count = asked(session(data, parts, 2))
    assert (count, missing) == (CHUNK, []) and records == whole
    expected = (tmp_path / "whole/records.jsonl").read_bytes()
    for number in range(1, PARTS + 1):
        (parts / "records.jsonl").unlink()
        assert asked(session(data, parts, number))[::2] == (whole, 0)
        assert (parts / "records.jsonl").read_bytes() == expected


def test_a_part_of_another_run_or_place_is_asked_again(data: Path, tmp_path: Path) -> None:
    assert asked(session(data, tmp_path, 3))[2] == 3
    assert asked(session(data, tmp_path, 3, model="another"))[2] == 3
    (tmp_path / "records-3-of-4.jsonl").rename(tmp_path / "records-1-of-4.jsonl")
    assert asked(session(data, tmp_path, 1, model="another"))[2] == CHUNK


@pytest.mark.parametrize("how", ["torn", "no record", "another version"])
def test_a_torn_part_is_named_and_its_own_run_mends_it(how: str, data: Path, tmp_path: Path) -> None:
    records = all_parts(data, tmp_path)
    (tmp_path / "records.jsonl").unlink()
    third = tmp_path / "records-3-of-4.jsonl"
    first, second, last = third.read_text(encoding="utf-8").split("\n")[:3]
    last = {"torn": last[:40], "no record": "[1]", "another version": '{"v": 9}'}[how]
    third.write_text("\n".join([first, second, last]), encoding="utf-8")
    with pytest.raises(DataError) as error:
        asked(session(data, tmp_path, 1))
    assert (error.value.file, error.value.line) == (str(third), 3)
    again, missing, count = asked(session(data, tmp_path, 3))
    assert (again, missing, count) == (records, [], 3)


def test_a_part_without_a_last_newline_is_whole(data: Path, tmp_path: Path) -> None:
    records = all_parts(data, tmp_path)
    whole = (tmp_path / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").unlink()
    first = tmp_path / "records-1-of-4.jsonl"
    first.write_bytes(first.read_bytes().rstrip(b"\n"))
    assert asked(session(data, tmp_path, 2)) == (records, [], 0)
    assert (tmp_path / "records.jsonl").read_bytes() == whole
