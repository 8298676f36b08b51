"""Every row is used or accounted for; samples and fingerprints are what they claim to be."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gram.data import (
    Scorable,
    SourceInfo,
    read_contests,
    read_language,
    read_preferences,
    read_scorables,
)
from gram.errors import ConfigError, DataError
from gram.types import Answer, Contest, Pair, Preference, ResponsePair, Text, as_chat


def good(k: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Question {k}?", "chosen": f"yes {k}", "rejected": f"no {k}", "id": k} | more


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_several_sources_in_their_order(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", good(1, split="train"), good(2, split="test"))
    two = write(tmp_path / "two.jsonl", good(3, split="train"))
    loaded = read_preferences([f"{one}::test", two], split="train")
    assert [record.id for record in loaded.examples] == ["2", "3"]
    assert loaded.examples[0] == Preference(Pair("Question 2?", "yes 2", "no 2"), 1.0, "2")
    assert loaded.rejected == 0
    described = [(info.name, info.split, info.rows, info.records) for info in loaded.sources]
    assert described == [(str(one), "test", 1, 1), (str(two), "train", 1, 1)]


def test_each_reader_reads_its_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"prompt": "Q?", "responses": ["a", "b", "c"], "id": "r"})
    contest = Contest(as_chat("Q?"), ("a", "b", "c"), "r")
    assert read_contests(path).examples == (contest,)
    assert read_scorables(path).examples == (Scorable("r", contest),)
    pairs = read_language(path, pairs_per_prompt=2).examples
    assert [type(pair) for pair in pairs] == [ResponsePair, ResponsePair]
    assert read_language(path, pairs_per_prompt=2).sources[0].rows == 1
    with pytest.raises(DataError, match="expected a labeled pair"):
        read_preferences(path)
    mixed = write(tmp_path / "y.jsonl", {"text": "t"}, {"prompt": "Q?", "response": "a"})
    assert read_language(str(mixed)).examples == (Text("t"), Answer(as_chat("Q?"), "a"))


BAD = [
    ({"prompt": "Q?", "chosen": "x", "rejected": "x"}, "rejected", "the two answers are equal"),
    ("{broken", None, "not valid JSON"),
    ({"prompt": "Q?", "chosen": "", "rejected": "x"}, "chosen", "the answer is empty"),
    ({"text": "no pair"}, None, "expected a labeled pair"),
]


@pytest.mark.parametrize(("row", "field", "reason"), BAD)
def test_the_first_bad_row_raises(row: Any, field: str | None, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", good(1), row)
    with pytest.raises(DataError, match=reason) as caught:
        read_preferences(path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(path), 2, field)


def test_skipped_rows_are_written_down_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "x.jsonl", good(1), *(row for row, _, _ in BAD), good(2))
    clean = write(tmp_path / "clean.jsonl", good(3))
    rejects = tmp_path / "new" / "rejects.jsonl"
    loaded = read_preferences([path, clean], on_error="skip", rejects=rejects)
    assert [record.id for record in loaded.examples] == ["1", "2", "3"]
    assert loaded.rejected == 4
    assert [(info.rows, info.records) for info in loaded.sources] == [(6, 2), (1, 1)]

    entries = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [entry["line"] for entry in entries] == [2, 3, 4, 5]
    for entry, (row, field, reason) in zip(entries, BAD, strict=True):
        assert list(entry) == ["file", "line", "field", "reason", "row"]
        assert (entry["file"], entry["field"], entry["row"]) == (str(path), field, row)
        assert reason in entry["reason"]
    assert [p.name for p in rejects.parent.iterdir()] == ["rejects.jsonl"]  # no temporary file is left
    said = capsys.readouterr()
    assert said.err == f"warning: 4 bad rows rejected, see {rejects}\n"
    assert said.out == ""


def test_nothing_is_written_if_nothing_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.jsonl", good(1))
    read_preferences(path, on_error="skip", rejects=tmp_path / "rejects.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("way", ["rejects.jsonl", "sub/../rejects.jsonl::train"])
def test_the_rejects_never_replace_what_is_read(way: str, tmp_path: Path) -> None:
    """By whatever way the input is named: nothing is read, and the file stays as it is."""
    (tmp_path / "sub").mkdir()
    path = tmp_path / "rejects.jsonl"
    path.write_text("no row\n")
    with pytest.raises(ConfigError, match=r"rejects\.jsonl: is an input"):
        read_preferences(f"{tmp_path}/{way}", on_error="skip", rejects=path)
    assert path.read_text() == "no row\n"


def test_a_source_of_bad_rows_only_is_an_error_but_the_rejects_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", *(row for row, _, _ in BAD))
    rejects = tmp_path / "rejects.jsonl"
    with pytest.raises(DataError, match="no usable row: all 4 were rejected"):
        read_preferences(path, on_error="skip", rejects=rejects)
    assert len(rejects.read_text().splitlines()) == 4


def test_a_missing_source_always_raises_and_leaves_nothing(tmp_path: Path) -> None:
    """It is noticed before anything is read: the bad row of the first source is not the error."""
    path = write(tmp_path / "x.jsonl", "{broken")
    rejects = tmp_path / "rejects.jsonl"
    for options in ({"on_error": "skip", "rejects": rejects}, {}):
        with pytest.raises(DataError, match="no such file"):
            read_preferences([path, tmp_path / "missing.jsonl"], **options)
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", good(1))
    with pytest.raises(ConfigError, match="needs a rejects file"):
        read_preferences(path, on_error="skip")
    with pytest.raises(ConfigError, match="cannot be written"):
        read_preferences(path, on_error="skip", rejects=path / "rejects.jsonl")
    with pytest.raises(ConfigError, match="on_error must be"):
        read_preferences(path, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        read_preferences(path, max_per_source=0)


def test_a_sample_keeps_order_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", *(good(k) for k in range(50)))
    small = write(tmp_path / "y.jsonl", *(good(k) for k in range(50, 55)))
    loaded = read_preferences([path, small], max_per_source=10)
    ids = [int(record.id) for record in loaded.examples]
    assert ids == sorted(set(ids))
    assert [(info.rows, info.records) for info in loaded.sources] == [(50, 10), (5, 5)]
    assert ids[10:] == [50, 51, 52, 53, 54]
    assert read_preferences([path, small], max_per_source=10) == loaded
    assert read_preferences([path, small], max_per_source=10, seed=1) != loaded


def test_a_sample_is_uniform(tmp_path: Path) -> None:
    """2 of 6 rows over 600 seeds: each row is kept 200 times, give or take 4 sigma (sigma = 11.5)."""
    path = write(tmp_path / "x.jsonl", *(good(k) for k in range(6)))
    kept = Counter()
    for seed in range(600):
        kept.update(record.id for record in read_preferences(path, max_per_source=2, seed=seed).examples)
    assert sum(kept.values()) == 1200 and len(kept) == 6
    assert all(abs(times - 200) < 47 for times in kept.values())


def fingerprint(path: Path, **options: Any) -> str:
    (info,) = read_preferences(path, **options).sources
    assert isinstance(info, SourceInfo) and len(info.sha256) == 64
    return info.sha256


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    """Not of file name, compression, key order, rejected rows or unused fields; but of every record and
    their order."""
    rows = [good(1), good(2)]
    first = fingerprint(write(tmp_path / "x.jsonl", *rows))
    other = tmp_path / "other.jsonl.gz"
    turned = [dict(reversed(row.items())) | {"unused": 1} for row in rows]
    other.write_bytes(gzip.compress("\n".join(["{broken", *map(json.dumps, turned)]).encode()))
    assert fingerprint(other, on_error="skip", rejects=tmp_path / "r.jsonl") == first
    assert fingerprint(write(tmp_path / "x.jsonl", good(2), good(1))) != first
    assert fingerprint(write(tmp_path / "x.jsonl", good(1))) != first
    assert fingerprint(write(tmp_path / "x.jsonl", good(1), good(2, chosen="maybe"))) != first
    assert fingerprint(write(tmp_path / "x.jsonl", good(1), good(2, margin=1))) != first


def test_progress_is_shown_on_a_terminal_only_and_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "x.jsonl", *(good(k) for k in range(600)))
    read_preferences(path)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert len(read_preferences(path).examples) == 600
    said = capsys.readouterr()
    assert said.out == ""
    assert "x.jsonl" in said.err


def test_the_package_loads_neither_torch_nor_datasets() -> None:
    heavy = {"torch", "transformers", "datasets", "pyarrow"}
    code = f"import sys, gram.data; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
