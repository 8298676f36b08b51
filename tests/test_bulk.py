"""Bulk scoring without Ray: shards, the folder, pieces asked again, and what one process does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import run
from gram.bulk import asker
from gram.bulk.asker import Answer, Asker, Failure
from gram.bulk.folder import BulkFolder
from gram.bulk.pieces import DIED, Piece, in_rounds
from gram.bulk.shards import shards_of
from gram.errors import CheckpointError, ConfigError, DataError, GramError, ScoringError
from gram.types import Usage
from gram.workers import WHOLE, Share
from without import gram_without

# --- Shards ---


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.integers(1, 9))
def test_shards_have_each_row_once_and_prompts_together(prompts: list[str], size: int) -> None:
    shards = shards_of(prompts, size)
    assert sorted(place for shard in shards for place in shard) == list(range(len(prompts)))
    assert all(0 < len(shard) <= size for shard in shards)
    for prompt in set(prompts):
        holding = [shard for shard in shards if any(prompts[place] == prompt for place in shard)]
        assert len(holding) == -(-prompts.count(prompt) // size)  # no more than it must be cut into


# --- The folder ---

SHARDS = [[0, 2], [1]]


def first_run(folder: Path) -> BulkFolder:
    folder.mkdir()
    first = BulkFolder(folder, {"model": "m"}, SHARDS)
    first.write(0, {2: {"score": 2.0}}, {0: {"id": "x", "reason": "no"}})
    return first


def test_a_folder_goes_on_with_the_shards_that_are_missing(tmp_path: Path) -> None:
    """Rows are counted from 1; a row without a score stands in the rejects of its shard."""
    folder = tmp_path / "out"
    assert first_run(folder).done == frozenset()
    again = BulkFolder(folder, {"model": "m"}, SHARDS)
    assert again.done == {0}
    again.write(1, {1: {"score": float("nan")}}, {})
    assert again.finish() == {"rows": 2, "rejected": 1}
    read = {path.name: path.read_text() for path in folder.glob("*.jsonl")}
    assert read == {
        "shard-00000.jsonl": '{"row": 3, "score": 2.0}\n',
        "shard-00000.rejects.jsonl": '{"row": 1, "id": "x", "reason": "no"}\n',
        "shard-00001.jsonl": '{"row": 2, "score": null}\n',
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["complete"], manifest["rows"], manifest["scored"], manifest["rejected"]) == (
        True,
        3,
        2,
        1,
    )
    assert [(entry["file"], entry["rows"], entry["rejected"]) for entry in manifest["shards"]] == [
        ("shard-00000.jsonl", 1, 1),
        ("shard-00001.jsonl", 1, 0),
    ]
    assert BulkFolder(folder, {"model": "m"}, SHARDS).done == {0, 1}


@pytest.mark.parametrize(
    ("header", "shards"), [({"model": "other"}, SHARDS), ({"model": "m"}, [[0, 1, 2, 3]])]
)
def test_another_run_in_the_folder_is_left_alone(
    header: dict[str, Any], shards: list[list[int]], tmp_path: Path
) -> None:
    first_run(tmp_path / "out")
    with pytest.raises(ConfigError, match="holds a run with another model, input, options"):
        BulkFolder(tmp_path / "out", header, shards)


@pytest.mark.parametrize("name", ["notes.txt", "shard-00000.jsonl"])
def test_a_folder_with_something_else_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="holds something already"):
        BulkFolder(tmp_path, {}, SHARDS)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("text", [
    "", '{"row": 3}\n{"row": 3}\n', '{"row": 2}\n', '{"row": 1}\n{"row": 3}\n', "[3]\n", "{broken\n",
])  # fmt: skip
def test_a_shard_with_other_rows_than_its_own_is_an_error(text: str, tmp_path: Path) -> None:
    """Row 1 is in the rejects already; the file must hold row 3, once."""
    first_run(tmp_path / "out")
    (tmp_path / "out" / "shard-00000.jsonl").write_text(text)
    with pytest.raises(
        DataError, match=r"shard-00000\.jsonl.*(hold the rows of its shard|is no shard of gram)"
    ):
        BulkFolder(tmp_path / "out", {"model": "m"}, SHARDS)


@pytest.mark.parametrize("between", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n"])
def test_a_folder_reads_every_text_that_it_wrote(between: str, tmp_path: Path) -> None:
    """An id or a reason with a character at which Python splits lines, in a shard and in its rejects."""
    text = f"one{between}two"
    BulkFolder(tmp_path, {}, SHARDS).write(0, {0: {"id": text}}, {2: {"id": text, "reason": text}})
    assert BulkFolder(tmp_path, {}, SHARDS).done == {0}


def test_rejects_of_an_earlier_try_do_not_outlive_it(tmp_path: Path) -> None:
    """A shard is removed to have it scored again, and this time none of its rows fails."""
    first_run(tmp_path / "out")
    (tmp_path / "out" / "shard-00000.jsonl").unlink()
    again = BulkFolder(tmp_path / "out", {"model": "m"}, SHARDS)
    again.write(0, {0: {"score": 1.0}, 2: {"score": 2.0}}, {})
    again.write(1, {1: {"score": 3.0}}, {})
    assert again.finish() == {"rows": 3, "rejected": 0}
    assert not list((tmp_path / "out").glob("*.rejects.jsonl"))
    assert BulkFolder(tmp_path / "out", {"model": "m"}, SHARDS).done == {0, 1}


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"format": 1, "format": 1}'])
def test_a_manifest_that_is_none_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="is no manifest of gram"):
        BulkFolder(tmp_path, {}, SHARDS)


# --- Pieces ---


def answers_but(deadly: set[int], sick: set[int]) -> Callable[[Sequence[Piece]], Iterator[Answer]]:
    """Processes that die over some rows and fall ill over others; the last pieces are answered first."""

    def ask(pieces: Sequence[Piece]) -> Iterator[Answer]:
        for piece in reversed(pieces):
            if deadly & set(piece.places):
                continue
            if sick & set(piece.places):
                yield Answer(piece.number, failed="CUDA error")
            else:
                yield Answer(piece.number, [{"place": place} for place in piece.places])

    return ask


@pytest.mark.parametrize(("deadly", "sick"), [((), ()), ((5,), ()), ((0, 63, 64), (7,)), ((), (99,))])
def test_every_row_comes_once_and_only_the_deadly_ones_fail(
    deadly: tuple[int, ...], sick: tuple[int, ...]
) -> None:
    shards = [(number, list(range(number * 20, number * 20 + 20))) for number in range(5)]
    found: dict[int, Any] = {}
    for piece, answer in in_rounds(shards, answers_but(set(deadly), set(sick))):
        assert all(place // 20 == piece.shard for place in piece.places)
        for place, outcome in zip(piece.places, answer.outcomes, strict=True):
            assert place not in found
            found[place] = outcome
    assert sorted(found) == list(range(100))
    failed = {place: outcome.reason for place, outcome in found.items() if isinstance(outcome, Failure)}
    assert failed == dict.fromkeys(deadly, DIED) | dict.fromkeys(sick, "CUDA error")


@pytest.mark.parametrize("where", [0, 10, 19])
def test_a_run_goes_on_where_each_shard_that_is_left_holds_a_deadly_row(where: int) -> None:
    """Ten shards of 20 rows, one of them deadly in each, always at the same place: 190 rows have a score.

    So it is where a killed run has finished all other shards, too.
    """
    shards = [(number, list(range(number * 20, number * 20 + 20))) for number in range(10)]
    deadly = {number * 20 + where for number in range(10)}
    outcomes = [out for _, answer in in_rounds(shards, answers_but(deadly, set())) for out in answer.outcomes]
    assert outcomes.count(Failure(DIED)) == 10 and len(outcomes) == 200


def test_deadly_rows_that_stand_side_by_side_are_blamed_where_others_are_answered() -> None:
    """Rows 0 to 63 of 512: at the end 64 rows stand alone, and none of them is answered."""
    found = in_rounds([(0, list(range(512)))], answers_but(set(range(64)), set()))
    outcomes = [out for _, answer in found for out in answer.outcomes]
    assert outcomes.count(Failure(DIED)) == 64 and len(outcomes) == 512


def test_processes_that_stop_working_are_not_the_fault_of_the_rows_that_are_left() -> None:
    """20 pieces; after the first eight answers nothing is answered, not even the first row again."""
    count = 0

    def ask(pieces: Sequence[Piece]) -> Iterator[Answer]:
        nonlocal count
        for piece in pieces:
            count += 1
            if count > 8:
                yield Answer(piece.number, failed="CUDA error")
            else:
                yield Answer(piece.number, [{}] * len(piece.places))

    with pytest.raises(ScoringError, match="no row could be scored: CUDA error"):
        list(in_rounds([(number, [2 * number, 2 * number + 1]) for number in range(20)], ask))


def test_a_piece_that_is_answered_twice_counts_once() -> None:
    def ask(pieces: Sequence[Piece]) -> Iterator[Answer]:
        for piece in [*pieces, *pieces]:
            yield Answer(piece.number, [{}] * len(piece.places))

    assert [piece.places for piece, _ in in_rounds([(0, [0, 1]), (1, [2])], ask)] == [(0, 1), (2,)]


def test_where_nothing_can_be_answered_the_rows_are_not_blamed() -> None:
    with pytest.raises(ScoringError, match="no row could be scored: CUDA error"):
        list(in_rounds([(0, list(range(100)))], answers_but(set(), set(range(100)))))


def test_what_is_wrong_with_the_whole_run_is_raised() -> None:
    def ask(pieces: Sequence[Piece]) -> Iterator[Answer]:
        yield Answer(pieces[0].number, error=CheckpointError("no such model"))

    with pytest.raises(CheckpointError, match="no such model"):
        list(in_rounds([(0, [0])], ask))


# --- One process ---


class Counting:
    """A model that counts the rows it was asked about."""

    temperature = slope = 1.0
    template = None

    def __init__(self) -> None:
        self.usage = Usage()

    def compare(self, pairs: Any) -> Any: ...

    def tokens_cut(self, pairs: Any) -> Any: ...


def squares(model: Counting, rows: Sequence[int]) -> list[dict[str, Any]]:
    model.usage += Usage(tokens=len(rows))
    if -1 in rows:
        raise ScoringError("cannot be squared")
    if -2 in rows:
        raise RuntimeError("device-side assert")
    if -3 in rows:
        raise ConfigError("a judge cannot score a single answer")
    return [{"score": row**2} for row in rows]


def made(share: Share = WHOLE) -> Asker[Counting, int]:
    return Asker(lambda _: Counting(), squares, share)


def test_a_row_that_a_model_refuses_is_found_and_the_others_are_answered() -> None:
    answer = made().answer(7, [1, 2, -1, 3, -1])
    refused = Failure("cannot be squared")
    assert answer.outcomes == [{"score": 1}, {"score": 4}, refused, {"score": 9}, refused]
    assert answer.piece == 7 and not answer.failed and answer.error is None
    assert made().answer(0, []).outcomes == []


def test_usage_is_that_of_the_piece() -> None:
    process = made()
    assert [process.answer(0, [1] * count).usage.tokens for count in (3, 2)] == [3, 2]


def test_after_an_error_that_is_not_ours_the_process_ends_before_its_next_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = made()
    answer = process.answer(1, [1, -2])
    assert answer.failed == "RuntimeError: device-side assert" and not answer.outcomes

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(asker.os, "_exit", leave)
    with pytest.raises(SystemExit):
        process.answer(2, [1])


def test_what_no_row_could_help_is_told_as_the_error_it_is() -> None:
    error = made().answer(1, [1, -3]).error
    assert isinstance(error, ConfigError) and "single answer" in str(error)

    def load(_: Share) -> Counting:
        raise CheckpointError("broken")

    error = Asker(load, squares, WHOLE).answer(1, [1]).error
    assert isinstance(error, GramError) and str(error) == "broken"


def test_a_process_apart_keeps_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are its own, where ``--workers`` share those of one machine; the token budget is one for all."""
    import torch

    from gram.asking import LoadOptions
    from gram.engine.memory import MOST
    from gram.scoring.asked import take_share

    given: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    for apart, threads in ((True, []), (False, [4])):
        options = take_share(Share(0, 2, apart), LoadOptions(device="cpu"))
        assert options.token_budget == MOST["cpu"] and given == threads


# --- The command ---


def test_without_ray_the_command_says_what_to_install(judge_folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "why ?", "a": "yes", "b": "no"}\n')
    command = ("bulk", "--model", judge_folder, "--input", rows, "--output", tmp_path / "out")
    process = gram_without(["ray"], *command)
    assert process.returncode == 1 and "pip install 'gram-rm[ray]'" in process.stderr


def test_the_input_may_not_lie_in_the_output(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "why ?", "a": "yes", "b": "no"}\n')
    code, _, errors = run(capsys, "bulk", "--model", judge_folder, "--input", rows, "--output", tmp_path)
    assert code == 1 and "which this run reads" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
