"""Rows come out the same from every kind of source, with their place; what is damaged says where."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gram.data import Rejected, Row, read_rows
from gram.data.sources import parse_source
from gram.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"prompt": [{"role": "user", "content": "über\u2028 alles?"}], "responses": ["a", "b"], "split": "train"},
    {"prompt": [{"role": "user", "content": "q"}], "responses": ["c"], "split": "test"},
    {"prompt": [{"role": "user", "content": "r"}], "responses": [], "split": "train"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def write_jsonl(folder: Path) -> Path:
    (path := folder / "rows.jsonl").write_bytes(LINES)
    return path


def write_gzip(folder: Path) -> Path:
    (path := folder / "rows.jsonl.gz").write_bytes(gzip.compress(LINES))
    return path


def write_json(folder: Path) -> Path:
    (path := folder / "rows.json").write_text("\ufeff" + json.dumps(ROWS, indent=1), encoding="utf-8")
    return path


def write_lines_named_json(folder: Path) -> Path:
    (path := folder / "rows.json").write_bytes(LINES)
    return path


def write_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path := folder / "rows.parquet")
    return path


def write_folder(folder: Path) -> Path:
    (path := folder / "data").mkdir()
    write_gzip(path)
    return path


def write_saved(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(path := folder / "saved")
    return path


WRITERS = [
    write_jsonl,
    write_gzip,
    write_json,
    write_lines_named_json,
    write_parquet,
    write_folder,
    write_saved,
]


@pytest.mark.parametrize("write", WRITERS)
def test_all_kinds_of_sources_give_the_same_rows(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = str(write(tmp_path))
    rows = list(read_rows(source))
    assert [row.values for row in rows] == ROWS
    assert [row.line for row in rows] == [1, 2, 3]
    assert all(row.file.startswith(source) for row in rows)


@pytest.mark.parametrize("write", WRITERS)
def test_the_rows_own_split_decides(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = str(write(tmp_path))
    assert [row.line for row in read_rows(source, "train")] == [1, 3]
    assert [row.line for row in read_rows(f"{source}::test", "train")] == [2]
    with pytest.raises(DataError, match="no row of the split 'eval'; there are: test, train"):
        list(read_rows(source, "eval"))


def test_rows_without_a_split_belong_to_every_split(tmp_path: Path) -> None:
    (path := tmp_path / "x.jsonl").write_text(
        '{"text": "a"}\n{"text": "b", "split": "test"}\n{"split": null}'
    )
    assert [row.line for row in read_rows(str(path), "train")] == [1, 3]


def lines_of(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_a_folder_has_the_splits_of_its_file_names(tmp_path: Path) -> None:
    lines_of(tmp_path / "train-00000-of-00002.jsonl", "a", "b")
    lines_of(tmp_path / "train-00001-of-00002.jsonl", "c")
    last = lines_of(tmp_path / "test.jsonl", "d")
    (tmp_path / "README.md").write_text("Not data.")
    assert [row.values["text"] for row in read_rows(str(tmp_path), "train")] == ["a", "b", "c"]
    assert list(read_rows(f"{tmp_path}::test")) == [Row({"text": "d"}, str(last), 1)]
    with pytest.raises(DataError, match=r"choose a split with .*::<split>'; there are: train, test"):
        read_rows(str(tmp_path))
    with pytest.raises(DataError, match="no split 'eval'; there are: train, test"):
        read_rows(str(tmp_path), "eval")


def test_a_folder_of_one_unnamed_split_does_not_pass_as_another(tmp_path: Path) -> None:
    """``datasets`` calls a lone file "train": asking for "test" must not return it."""
    lines_of(tmp_path / "rows.jsonl", "a")
    assert len(list(read_rows(str(tmp_path), "train"))) == 1
    with pytest.raises(DataError, match="no row of the split 'test'; there are: train"):
        list(read_rows(str(tmp_path), "test"))


def test_a_saved_dataset_with_splits(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list([{"text": "a"}])
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path)
    assert list(read_rows(f"{tmp_path}::test")) == [Row({"text": "a"}, f"{tmp_path}::test", 1)]
    with pytest.raises(DataError, match="choose a split"):
        read_rows(str(tmp_path))


def test_a_name_that_is_not_local_is_looked_for_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, str | None]] = []

    def load_dataset(name: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
        asked.append((name, config, revision))
        tables = {split: datasets.Dataset.from_list([{"text": split}]) for split in ("train", "test")}
        return datasets.DatasetDict(**tables)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_rows("org/some-data::test")) == [Row({"text": "test"}, "org/some-data::test", 1)]
    assert list(read_rows("some.data::en:train")) == [Row({"text": "train"}, "some.data::train", 1)]
    assert next(read_rows("org/some-data@v1.0::test")).file == "org/some-data@v1.0::test"
    assert asked == [
        ("org/some-data", None, None),
        ("some.data", "en", None),
        ("org/some-data", None, "v1.0"),
    ]


def test_an_unreachable_hub_is_not_blamed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"no such file or folder here, and .* not be reached .*no route"):
        read_rows("org/some-data")

    def missing(*_: object, **__: object) -> None:
        raise ValueError("Config name is missing.")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(DataError, match=r"gives no dataset of that name .*Config name is missing"):
        read_rows("org/some-data")


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("a/b.jsonl", ("a/b.jsonl", None, None)),
        ("a/b::test", ("a/b", None, "test")),
        ("a/b::en:test", ("a/b", "en", "test")),
        ("a/b::en:", ("a/b", "en", None)),
        ("c:/d.jsonl::test", ("c:/d.jsonl", None, "test")),
    ],
)
def test_suffixes(source: str, parts: tuple[str, str | None, str | None]) -> None:
    assert parse_source(source) == parts


@pytest.mark.parametrize("name", ["no.jsonl", "no.jsonl.gz", "no/such/place", "./no", "../no.csv", "/no"])
def test_a_missing_file_is_not_looked_for_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(DataError, match="no such file or folder") as caught:
        read_rows(name)
    assert caught.value.file == name


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.jsonl", b"", "holds no rows"),
        ("x.jsonl", b"\n \n", "holds no rows"),
        ("x.jsonl.gz", b"", "holds no rows"),
        ("x.json", b"[]", "holds no rows"),
        ("x.txt", b"a,b", r"unknown kind of file; expected \.jsonl"),
        ("x.jsonl::en:train", b"{}", "a file has no configuration 'en'"),
        ("x.jsonl.gz", LINES, "damaged gzip file"),
        ("x.jsonl.gz", gzip.compress(LINES * 50, mtime=0)[:-9], "damaged gzip file after line 1"),
        ("x.json", b'[{"text": "a"},\n {"text": }]', r"x\.json:2: not valid JSON"),
        ("x.json", b'[{"text": "\xff"}]', "cannot be read"),
        ("x.parquet", b"PAR1 not really", "cannot be read as Parquet"),
    ],
)
def test_damaged_sources(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name.partition("::")[0]).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        list(read_rows(str(tmp_path / name)))
    assert caught.value.file == str(tmp_path / name.partition("::")[0])


def test_an_empty_folder_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a dataset folder"):
        read_rows(str(tmp_path))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read as a saved dataset"):
        read_rows(str(tmp_path))


BAD_LINES = [
    (b'{"text": "a"', "not valid JSON: Expecting ',' delimiter at column 13"),
    (b"[1, 2]", "not a JSON object"),
    (b'{"text": "\xff"}', "not UTF-8: invalid start byte at byte 10"),
    (b'{"n": ' + b"9" * 5000 + b"}", "not readable as JSON: .*digits"),
    (b'{"text": "a"} {"text": "b"}', "not valid JSON: Extra data at column 15"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_named_and_can_be_skipped(line: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "first"}\r\n\n' + line + b'\n{"text": "last"}')
    with pytest.raises(DataError, match=reason) as caught:
        list(read_rows(str(path)))
    assert (caught.value.file, caught.value.line) == (str(path), 3)

    rejected: list[Rejected] = []
    assert [row.line for row in read_rows(str(path), reject=rejected.append)] == [1, 4]
    assert [item.raw for item in rejected] == [line.decode(errors="replace")]


def test_a_list_with_something_else_in_it(tmp_path: Path) -> None:
    (path := tmp_path / "x.json").write_text('[{"text": "a"}, 3]')
    with pytest.raises(DataError, match=r"x\.json:2: not a JSON object"):
        list(read_rows(str(path)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), min_size=1))
def test_json_lines_round_trip(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row.pop("split", None)
    (path := tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(read_rows(str(path))) == [Row(row, str(path), k) for k, row in enumerate(rows, 1)]


def test_lines_are_streamed(tmp_path: Path) -> None:
    """The first row is there although a later line would raise."""
    (path := tmp_path / "x.jsonl").write_text('{"text": "a"}\nbroken')
    assert next(read_rows(str(path))).values == {"text": "a"}
