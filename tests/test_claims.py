"""No path that is read is ever written, for every command and by whatever way the names lead there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from conftest import make_preferences, run
from gram.claims import Reads, claimed_files, claimed_folder, reading, refuse_overlap
from gram.errors import ConfigError, OutputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_way_to_a_file_is_seen(here: Path) -> None:
    file = here / "rows.jsonl"
    file.write_text("rows")
    (here / "sub").mkdir()
    (here / "soft").symlink_to("rows.jsonl")
    os.link(file, here / "hard")
    (here / "folder").symlink_to(here)
    for way in ("rows.jsonl", "./sub/../rows.jsonl", "soft", "hard", "folder/rows.jsonl", str(file)):
        for reads in (Reads(data=[way]), Reads(data=[f"{way}::train"]), Reads([way])):
            with pytest.raises(ConfigError, match=r"output .*rows\.jsonl: is an input"):
                refuse_overlap([file], reads)
            with pytest.raises(ConfigError, match="is an input"):
                refuse_overlap([Path(way)], Reads(data=["rows.jsonl"]))
    refuse_overlap([Path("other")], Reads(["rows.jsonl", "owner/on-the-hub", None], [None]))


def test_a_folder_of_rows_counts_with_all_that_it_may_hold(here: Path) -> None:
    """A new file in it would be a row of the next run; a new file beside a model's is none of the model."""
    (here / "in").mkdir()
    (here / "in" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="lies in an input"):
        refuse_overlap([Path("in/deep/new.jsonl")], Reads(data=["in"]))
    refuse_overlap([Path("in/new.jsonl")], Reads(["in"]))
    with pytest.raises(ConfigError, match="is an input"):
        refuse_overlap([Path("in/config.json")], Reads(["in"]))


def test_a_folder_that_is_written_as_a_whole_holds_nothing_that_is_read(here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "x").write_text("")
    for reads in (Reads(["out/x"]), Reads(["out"]), Reads(data=["out"]), Reads(data=["out/x::train"])):
        with pytest.raises(ConfigError, match=r"holds|lies in"):
            refuse_overlap([], reads, whole=Path("out"))


def test_two_outputs_of_one_name_are_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match="would be written twice"):
        refuse_overlap([Path("a"), Path("./a")], Reads())


def test_what_is_no_place_for_a_file_is_refused(here: Path) -> None:
    os.mkfifo(here / "fifo")
    (here / "folder").mkdir()
    for place, reason in (
        ("/dev/null", "is a device or a stream"),
        ("/dev/stdout", "is a device or a stream"),
        ("/dev/fd/1", "is a device or a stream"),
        ("fifo", "is a device or a stream"),
        ("folder", "is a folder"),
        ("x" * 250, "the name is too long"),
    ):
        with pytest.raises(ConfigError, match=reason), claimed_files([Path(place)]):
            pass
    assert names(here) == ["fifo", "folder"]


def test_a_link_stays_a_link(here: Path) -> None:
    """The file behind it is written; two names of it are one output."""
    from gram.files import atomic_write

    (here / "disk").mkdir()
    (here / "out").symlink_to("disk/real")
    with claimed_files([Path("out")]), atomic_write(Path("out")) as file:
        file.write("new")
        with pytest.raises(OutputError, match="is writing it"), claimed_files([Path("disk/real")]):
            pass
    assert (here / "out").is_symlink() and (here / "disk" / "real").read_text() == "new"
    assert names(here / "disk") == ["real"]


def test_a_claim_leaves_nothing_and_clears_what_kills_left(here: Path) -> None:
    """Only ours: a file of another output, or of the user, stays."""
    stale = [".out.jsonl.123.gram.tmp", ".out.jsonl.rejects.jsonl.77.gram.tmp"]
    others = [".out.jsonl.tmp", ".out.jsonl.backup.5.gram.tmp", "out.jsonl.123.gram.tmp", "out.draft"]
    for name in stale + others:
        (here / name).write_text("")
    with claimed_files([Path("out.jsonl")], [Path("out.jsonl.rejects.jsonl")]):
        assert names(here) == sorted([*others, ".out.jsonl.gram.lock"])
    assert names(here) == sorted(others)
    with claimed_folder(Path("new"), whole=True):
        assert names(Path("new")) == [".gram.lock"]
    assert not Path("new").exists()
    Path("new").mkdir()
    Path("new/.any.9.gram.tmp").write_text("")
    with claimed_folder(Path("new")):
        assert names(Path("new")) == [".any.9.gram.tmp", ".gram.lock"], "others may write other files there"
    with claimed_folder(Path("new"), whole=True):
        assert names(Path("new")) == [".gram.lock"]


def test_the_configuration_file_is_read_too(here: Path) -> None:
    Path("options.yaml").write_text("")
    with reading(Path("options.yaml"), None), pytest.raises(ConfigError, match="is an input"):
        refuse_overlap([here / "options.yaml"], Reads())
    refuse_overlap([here / "options.yaml"], Reads())


def row(k: int, **more: object) -> dict[str, object]:
    return {"id": str(k), "prompt": "q", "chosen": f"good {k}", "rejected": f"bad {k}", **more}


CASES = {
    "score: the input": "score --input a.jsonl --output a.jsonl",
    "score: its journal": "score --input o.partial --output o",
    "score: its rejects": "score --on-error skip --input o.rejects.jsonl --output o",
    "score: centre": "score --input a.jsonl --centre-on b.jsonl --output b.jsonl",
    "score: the template": "score --input a.jsonl --template t.json --output t.json",
    "score: the configuration": "score --input a.jsonl --config c.yaml --output c.yaml",
    "score: a file of the model": "score --input a.jsonl --output model/config.json",
    "score: a member": "score --input a.jsonl --ensemble-with other --output other/gram.json",
    "score: the reference": "score --input a.jsonl --reference other --output other/gram.json",
    "score: into the data": "score --input data --output data/new.jsonl",
    "rank: the input": "rank --input a.jsonl --output link.jsonl",
    "rank: the rejects": "rank --on-error skip --input rejects.jsonl",
    "mine: its rankings": "mine --input o.rankings.jsonl --output o",
    "mine: its journal": "mine --input o.rankings.jsonl.partial --output o",
    "eval: its records": "eval --data out/records.jsonl --output out",
    "eval: its results": "eval --data a.jsonl --config out/results.json --output out",
    "eval: the outputs of an earlier run": "eval --data out/a_outputs.jsonl a.jsonl --output out",
    "eval: a benchmark": "eval --bench llmbar=out/llmbar_outputs.jsonl --output out",
    "eval: what is calibrated on": "eval --calibrate out/records.jsonl --output out",
    "eval: a shard": "eval --data out/records-1-of-2.jsonl --shard 1/2 --output out",
    "train: the data": "train --data ours/x.jsonl --output ours --overwrite",
    "train: the data, goes on": "train --data ours/x.jsonl --output ours",
    "train: the model": "train --data a.jsonl --output model --overwrite",
    "train: the evaluation data": "train --data a.jsonl --eval-data ours/x.jsonl --output ours --overwrite",
    "train: into the data": "train --data data --output data/out",
    "train: the configuration": "train --data a.jsonl --config ours/c.yaml --output ours --overwrite",
    "adapt: the model": "adapt --data a.jsonl --output model --overwrite",
    "adapt: the data": "adapt --data ours/x.jsonl --output ours --overwrite",
    "adapt: its rejects": "adapt --on-error skip --data o.rejects.jsonl --output o",
    "adapt: the template": "adapt --data a.jsonl --template ours/t.json --output ours --overwrite",
    "report: a run": "report one two --output one",
    "report: a run by a link": "report one two --output alias",
    "bench: the data": "bench score --data a.jsonl --output a.jsonl",
    "bench: the picture": "bench score --data a.jsonl --plot a.jsonl",
    "bench: one name for both": "bench score --output o --plot o",
    "demo: the configuration": "demo --config out/report.html --output out",
}


@pytest.mark.parametrize("line", CASES.values(), ids=CASES.keys())
def test_no_command_writes_what_it_reads(
    line: str, judge_folder: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before any work; every byte is as before."""
    rows = "".join(json.dumps(row(k)) + "\n" for k in range(len(make_preferences(4))))
    for folder in ("model", "other", "ours"):
        shutil.copytree(judge_folder, here / folder)
    for folder in ("data", "out", "one", "two"):
        (here / folder).mkdir()
        (here / folder / "results.json").write_text("{}")
    (here / "alias").symlink_to("one")
    (here / "t.json").write_text("{}")
    (here / "ours" / "t.json").write_text("{}")
    files = {"a.jsonl", "b.jsonl", "data/x.jsonl", "ours/x.jsonl", "rejects.jsonl"}
    files |= {
        word.rpartition("=")[2] for word in line.split() if ".jsonl" in word or word.endswith(".partial")
    }
    for name in files - {"link.jsonl", "data/new.jsonl"}:
        (here / name).write_text(rows)
    (here / "link.jsonl").symlink_to("a.jsonl")
    for name in ("c.yaml", "ours/c.yaml", "out/results.json", "out/report.html"):
        (here / name).write_text("{seed: 1}" if "results" in name or "report" in name else "{}")
    before = {str(path): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    words = line.split()
    if words[0] in ("score", "rank", "mine", "eval", "train", "adapt"):
        words += ["--model", "model"]
    code, _, said = run(capsys, *words)
    assert code == 1 and len(said.splitlines()) == 1, said
    reasons = ("an input (", "which this run reads", "written twice")
    assert any(reason in said for reason in reasons), said
    assert {str(path): path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
