"""Rows come out the same from every kind of source, with their place; what is damaged says where."""

from __future__ import annotations

import gzip
import json
import random
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
from gram.data.folders import files_by_split
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


def folder_of(folder: Path, *names: str) -> Path:
    """A folder in which each file says its own name in one row."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = path.suffix
        if kind == ".csv":
            path.write_text(f"text\n{name}\n")
        else:
            path.write_bytes((gzip.compress if kind == ".gz" else bytes)(json.dumps({"text": name}).encode()))
    return folder


def texts_of(source: Path | str, split: str | None = None) -> list[str]:
    return [row.values["text"] for row in read_rows(str(source), split)]


def test_all_kinds_of_files_in_a_folder_are_read(tmp_path: Path) -> None:
    """``datasets`` reads one kind per folder, that of most files; and other files may be most of them."""
    names = ("a.jsonl", "b.csv", "c.jsonl.gz", "sub/d.json")
    others = ("README.txt", "notes.txt", "test_notes.txt", "LICENSE", "train.png", ".e.jsonl", "config.json")
    assert texts_of(folder_of(tmp_path / "one", *names, *others)) == list(names)
    two = folder_of(tmp_path / "two", "train.jsonl", "test.csv", "README.txt", "__old__/train.jsonl")
    assert (texts_of(two, "train"), texts_of(f"{two}::test")) == (["train.jsonl"], ["test.csv"])
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "linked").symlink_to(tmp_path / "one")
    assert len(texts_of(tmp_path / "three")) == len(names)


def test_files_of_no_split_are_named(tmp_path: Path) -> None:
    """Whoever chooses a split by its name gets its files, and nobody else finds out later."""
    folder = folder_of(tmp_path, "train.jsonl", "extra.jsonl", "more.csv")
    for split in (None, "test"):
        with pytest.raises(DataError, match=r"in no split: extra\.jsonl, more\.csv; there are: train;"):
            texts_of(folder, split)
    assert texts_of(folder, "train") == texts_of(f"{folder}::train", "test") == ["train.jsonl"]


@pytest.mark.parametrize("other", ["pairs.csv", "pairs.jsonl.gz", "pairs.json"])
def test_one_name_with_two_endings_is_not_read_twice(other: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "pairs.jsonl", other, "deeper/pairs.csv")
    with pytest.raises(DataError, match=r"seem to hold the same rows twice") as caught:
        texts_of(folder)
    assert other in caught.value.reason and "pairs.jsonl" in caught.value.reason


def test_the_splits_of_a_folder_are_those_of_datasets(tmp_path: Path) -> None:
    """Names put together at random, and the files of each split in the order of ``datasets``."""
    from datasets.data_files import DataFilesDict, get_data_patterns

    words = ("train", "training", "dev", "val", "valid", "test", "eval", "evaluation", "latest", "x", "a-b")
    folders = ("", "", "data/", "train/", "my_test_files/", "dev2/", "x/")
    shards = (
        "data/train-00000-of-00002.jsonl",
        "data/train-00001-of-00002.jsonl",
        "data/b-00000-of-00001.jsonl",
    )
    rng = random.Random(0)
    for number in range(60):
        names = {
            rng.choice(folders) + rng.choice(("", "a-", "my_", "the")) + rng.choice(words) + end + ".jsonl"
            for end in ("", "2", "_x", "s", " 1")
            if rng.random() < 0.6
        } or {"a.jsonl"}
        names |= set(shards[: rng.choice((0, 0, 0, 0, 2, 3))])
        folder = folder_of(tmp_path / str(number), *names)
        right = DataFilesDict.from_patterns(get_data_patterns(str(folder)), base_path=str(folder))
        wanted = {str(split): list(dict.fromkeys(map(Path, files))) for split, files in right.items()}
        found = files_by_split(folder, next(iter(wanted)))
        assert (list(found), found) == (list(wanted), wanted), sorted(names)


def test_a_card_names_the_files(tmp_path: Path) -> None:
    """A card that lists no files counts for nothing; one that does is followed, and knows configurations."""
    folder = folder_of(tmp_path, "a.jsonl", "b.jsonl")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nconfigs: none\n")
    assert texts_of(folder) == ["a.jsonl", "b.jsonl"]
    with pytest.raises(DataError, match="a folder without a card has no configuration 'en'"):
        texts_of(f"{folder}::en:train")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: en\n  data_files: b.jsonl\n---\n")
    assert texts_of(folder) == texts_of(f"{folder}::en:train") == ["b.jsonl"]


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
