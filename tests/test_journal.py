"""A journal knows its rows: each line carries its number, and what does not fit is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gram.errors import ConfigError, DataError
from gram.journal import Journal

ROWS = [{"id": f"r{k}"} for k in range(6)]


def begun(folder: Path, **how: int) -> Path:
    """A journal of six rows that nobody finished."""
    journal = Journal(folder / "out.jsonl", {}, **how)
    journal.append(ROWS)
    return journal.partial


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (lambda lines: lines[:3] + lines[4:], 4, "holds row 4 in the place of row 3"),
        (lambda lines: lines[:4] + lines[3:], 5, "holds row 3 in the place of row 4"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3, "holds row 3 in the place of row 2"),
        (lambda lines: lines + lines[1:], 8, "holds row 1 in the place of row 7"),
    ],
    ids=["missing", "doubled", "exchanged", "all of them twice"],
)
def test_lines_that_do_not_follow_each_other_are_an_error(
    change: Callable[[list[bytes]], list[bytes]], line: int, reason: str, tmp_path: Path
) -> None:
    """Line 1 is the header, so row k stands in line k + 1. Nothing is changed on disk."""
    partial = begun(tmp_path)
    partial.write_bytes(b"".join(change(partial.read_bytes().splitlines(keepends=True))))
    before = partial.read_bytes()
    with pytest.raises(DataError, match=rf"out\.jsonl\.partial:{line}: {reason}: .*remove it to start anew"):
        Journal(tmp_path / "out.jsonl", {})
    assert partial.read_bytes() == before


def test_more_rows_than_the_run_has_are_an_error(tmp_path: Path) -> None:
    begun(tmp_path)
    assert Journal(tmp_path / "out.jsonl", {}, rows=6).done == 6
    with pytest.raises(DataError, match=r"partial:7: holds more than the 5 rows"):
        Journal(tmp_path / "out.jsonl", {}, rows=5)


@pytest.mark.parametrize(("rows", "kept"), [(8, 4), (6, 6)], ids=["torn chunk", "last chunk"])
def test_whole_chunks_are_kept(rows: int, kept: int, tmp_path: Path) -> None:
    """Six rows in chunks of four: two of the second are there, which is whole only if there are no more."""
    partial = begun(tmp_path, rows=rows, chunk=4)
    whole = partial.read_bytes()
    journal = Journal(tmp_path / "out.jsonl", {}, rows=rows, chunk=4)
    assert journal.done == kept and list(journal.records()) == ROWS[:kept]
    journal.append(ROWS[kept:])
    assert partial.read_bytes() == whole


def test_the_finished_file_has_no_numbers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.jsonl", {})
    journal.append(ROWS[:2])
    journal.finish()
    assert journal.path.read_text() == '{"id": "r0"}\n{"id": "r1"}\n'


def test_the_journal_of_an_older_version_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "out.jsonl.partial"
    partial.write_text('{"journal": 1, "header": {}}\n{"id": "r0"}\n')
    assert Journal(tmp_path / "out.jsonl", {}).done == 0
    assert "version of gram; starting anew" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    partial = tmp_path / "out.jsonl.partial"
    partial.write_text("my notes\n")
    with pytest.raises(ConfigError, match="in the way"):
        Journal(tmp_path / "out.jsonl", {})
    assert partial.read_text() == "my notes\n"
