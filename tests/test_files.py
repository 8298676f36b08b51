"""The journal: what was on file survives a kill, and a finished file is always whole."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from gram import files
from gram.claims import claimed_folder
from gram.files import atomic_write, replaced_folder
from gram.journal import Journal

HEADER = {"model": "m", "input": "abc", "options": {"eps": 0.1, "orders": [0, 1]}}


def test_a_killed_run_continues_and_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "x": i / 7, "text": "é \u2028 line"} for i in range(10)]
    whole = Journal(tmp_path / "whole.jsonl", HEADER)
    whole.append(rows)
    whole.finish()

    killed = Journal(tmp_path / "killed.jsonl", HEADER)
    killed.append(rows[:4])
    with killed.partial.open("ab") as file:
        file.write(b'{"id": "r4", "x": 0.57')
    again = Journal(tmp_path / "killed.jsonl", HEADER)
    assert again.done == 4
    assert list(again.records()) == rows[:4]
    again.append(rows[again.done :])
    assert again.done == 10
    again.finish()

    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert list(again.records()) == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.jsonl", "whole.jsonl"]


@pytest.mark.parametrize(
    "tail", [b'{"id": "r2"}', b'{"id": "r2"\n{"id": "r3"}\n', b"\0\0\0\n", b'"r2"\n', b"\xff\n"]
)
def test_everything_from_the_first_broken_line_on_is_dropped(tmp_path: Path, tail: bytes) -> None:
    journal = Journal(tmp_path / "out.jsonl", HEADER)
    journal.append([{"id": "r0"}, {"id": "r1"}])
    with journal.partial.open("ab") as file:
        file.write(tail)
    again = Journal(tmp_path / "out.jsonl", HEADER)
    again.append([{"id": "new"}])
    assert [record["id"] for record in again.records()] == ["r0", "r1", "new"]


def test_another_header_starts_anew_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal(tmp_path / "out.jsonl", HEADER).append([{"id": "old"}])
    journal = Journal(tmp_path / "out.jsonl", {**HEADER, "model": "other"})
    assert journal.done == 0
    assert list(journal.records()) == []
    captured = capsys.readouterr()
    assert "out.jsonl.partial" in captured.err
    assert "starting anew" in captured.err
    assert captured.out == ""


def test_a_torn_header_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.jsonl.partial").write_bytes(b'{"journal": 1, "hea')
    journal = Journal(tmp_path / "out.jsonl", HEADER)
    journal.append([{"id": "r0"}])
    assert Journal(tmp_path / "out.jsonl", HEADER).done == 1
    assert capsys.readouterr().err == ""


def test_the_final_file_appears_only_at_the_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "out.jsonl", HEADER)
    journal.append([{"id": "r0"}])
    assert not journal.path.exists()
    journal.finish()
    assert journal.path.read_text() == '{"id": "r0"}\n'
    assert not journal.partial.exists()


def test_a_new_run_leaves_the_old_result_until_it_is_done(tmp_path: Path) -> None:
    for name in ("first", "second"):
        journal = Journal(tmp_path / "out.jsonl", {"run": name})
        assert journal.done == 0
        journal.append([{"id": name}])
        if name == "second":
            assert json.loads(journal.path.read_text()) == {"id": "first"}
        journal.finish()
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"id": "second"}


def test_an_empty_run_gives_an_empty_file(tmp_path: Path) -> None:
    Journal(tmp_path / "out.jsonl", HEADER).finish()
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_floats_that_are_not_finite_become_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.jsonl", {"x": math.nan})
    journal.append([{"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}}])
    assert list(journal.records()) == [{"a": None, "b": [None, 1.5], "c": {"d": None}}]
    assert Journal(tmp_path / "out.jsonl", {"x": math.nan}).done == 1


def test_a_record_that_is_no_json_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.jsonl", HEADER)
    with pytest.raises(TypeError):
        journal.append([{"id": "fine"}, {"id": object()}])
    assert journal.done == 0
    assert list(journal.records()) == []


def test_atomic_write_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exchange", [True, False], ids=["one step", "two steps"])
def test_a_folder_is_replaced_as_a_whole(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is the same file before and after: it is that of the place."""
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("old")
    (folder / files.LOCK).write_text("")
    lock = (folder / files.LOCK).stat().st_ino
    with replaced_folder(folder) as draft:
        (draft / "new").write_text("new")
        assert (folder / "old").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == [files.LOCK, "new"]
    assert (folder / files.LOCK).stat().st_ino == lock
    assert list(tmp_path.iterdir()) == [folder]


def test_a_kill_between_the_two_steps_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an exchange of folders the old one is moved away first: the next run brings it back."""
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    folder, real = tmp_path / "model", Path.replace
    folder.mkdir()
    (folder / "old").write_text("old")

    def killed(self: Path, target: Path) -> Path:
        if self.name == ".model.gram.draft":
            os._exit(9)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    if (child := os.fork()) == 0:
        with replaced_folder(folder) as draft:
            (draft / "new").write_text("new")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not folder.exists()
    with claimed_folder(folder):
        assert sorted(path.name for path in folder.iterdir()) == [files.LOCK, "old"]
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_an_exchange_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(RuntimeError), replaced_folder(folder) as draft:
        (draft / "new").write_text("new")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old"] and list(tmp_path.iterdir()) == [folder]
