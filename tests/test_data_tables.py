"""A cell of a Parquet file or a saved dataset that Python cannot hold harms only the row that needs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gram.data import parse, read_preferences, read_rows
from gram.errors import DataError
from gram.types import Preference


def not_utf8(*values: bytes) -> pa.Array:
    """Strings as Arrow has them, without the check that they are UTF-8."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), array.buffers())


GOOD = {
    "prompt": pa.array(["Why?", "How?"]),
    "chosen": pa.array(["so", "thus"]),
    "rejected": pa.array(["no", "never"]),
}


def parquet(folder: Path, table: pa.Table) -> str:
    pq.write_table(table, path := folder / "rows.parquet")
    return str(path)


def saved(folder: Path, table: pa.Table) -> str:
    datasets.Dataset(table).save_to_disk(path := folder / "saved")
    return str(path)


WRITERS = [parquet, saved]
BAD: dict[str, pa.Array] = {
    "invalid UTF-8": not_utf8(b"\xff\xfe", b"fine"),
    "invalid UTF-8 in a list": pa.ListArray.from_arrays([0, 1, 2], not_utf8(b"\xff", b"fine")),
    "invalid UTF-8 in a struct": pa.StructArray.from_arrays([not_utf8(b"\xff", b"fine")], ["role"]),
    "invalid UTF-8 in a dictionary": pa.DictionaryArray.from_arrays([0, 1], not_utf8(b"\xff", b"fine")),
    "a date beyond all years": pa.array([2**31 - 1, 0], pa.int32()).view(pa.date32()),
    "a time beyond all years": pa.array([2**62, 0], pa.timestamp("us")),
    "a time zone that is none": pa.array([0, 1], pa.timestamp("us", "Nowhere/Land")),
    "nanoseconds": pa.array([1, 2], pa.timestamp("ns")),
    "bytes": pa.array([b"\xff", b"\x00"]),
    "nothing": pa.nulls(2),
    "a huge decimal": pa.array([Decimal(10) ** 40, None], pa.decimal256(50, 0)),
    "a map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("write", WRITERS)
def test_columns_that_nobody_reads_do_no_harm(
    write: Callable[[Path, pa.Table], str], kind: str, tmp_path: Path
) -> None:
    if write is saved and "dictionary" in kind:
        pytest.skip("datasets does not write dictionaries of this kind")
    try:
        source = write(tmp_path, pa.table({**GOOD, "note": BAD[kind]}))
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        pytest.skip(f"cannot be written: {error}")
    assert [row.pair.a for row in read_preferences(source).examples] == ["so", "thus"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_bad_cell_that_is_needed_is_the_fault_of_its_row(
    write: Callable[[Path, pa.Table], str], tmp_path: Path
) -> None:
    source = write(tmp_path, pa.table({**GOOD, "chosen": not_utf8(b"so\xff", b"thus")}))
    with pytest.raises(
        DataError, match=r":1: field 'chosen': cannot be read: 'utf-8' codec can't decode"
    ) as e:
        read_preferences(source)
    assert (e.value.line, e.value.field) == (1, "chosen")
    rejects = tmp_path / "rejects.jsonl"
    loaded = read_preferences(source, on_error="skip", rejects=rejects)
    assert [row.pair.a for row in loaded.examples] == ["thus"] and loaded.rejected == 1
    assert json.loads(rejects.read_text())["row"]["chosen"].startswith("<cannot be read")


def test_messages_with_a_bad_cell(tmp_path: Path) -> None:
    turns = pa.StructArray.from_arrays(
        [pa.array(["user", "user"]), not_utf8(b"\xff", b"How?")], ["role", "content"]
    )
    prompt = pa.ListArray.from_arrays([0, 1, 2], turns)
    source = parquet(tmp_path, pa.table({**GOOD, "prompt": prompt}))
    with pytest.raises(DataError, match=r":1: field 'prompt': cannot be read"):
        read_preferences(source)


def test_a_split_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    source = parquet(tmp_path, pa.table({**GOOD, "split": not_utf8(b"\xff", b"train")}))
    with pytest.raises(DataError, match=r":1: field 'split': cannot be read"):
        list(read_rows(source, "train"))


def test_values_become_those_of_json(tmp_path: Path) -> None:
    """Decimals are numbers; categories are strings; whole floats are ids."""
    table = pa.table(
        {
            **GOOD,
            "id": pa.array([7.0, 8.0]),
            "margin": pa.array([Decimal("1.50"), Decimal("2.00")]),
            "subset": pa.array(["easy", "hard"]).dictionary_encode(),
        }
    )
    one, two = (parse(row) for row in read_rows(parquet(tmp_path, table)))
    assert isinstance(one, Preference) and isinstance(two, Preference)
    assert (one.id, one.margin, one.subset) == ("7", 1.5, "easy")
    assert (two.id, two.margin, two.subset) == ("8", 2.0, "hard")


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([b"so", b"thus"]), "expected a string or a list of messages, got bytes"),
        (pa.array([1, 2]), "expected a string or a list of messages, got int"),
        (pa.array([[b"so"], [b"thus"]]), "expected a message with 'role' and 'content', got bytes"),
        (pa.array([{"content": "so"}] * 2), "expected one of system, .* got None"),
    ],
)
def test_columns_of_another_type(column: pa.Array, reason: str, tmp_path: Path) -> None:
    source = parquet(tmp_path, pa.table({**GOOD, "chosen": column}))
    with pytest.raises(DataError, match=reason):
        read_preferences(source)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([*GOOD.values(), pa.array(["x", "y"])], [*GOOD, "chosen"])
    with pytest.raises(DataError, match="field 'chosen': there are two columns of this name"):
        list(read_rows(parquet(tmp_path, table)))


def test_a_saved_dataset_of_mixed_values_is_read_by_the_library(tmp_path: Path) -> None:
    """``datasets`` keeps values of several types as JSON text; here the content is a string, then parts."""
    rows: list[dict[str, Any]] = [
        {"prompt": [{"role": "user", "content": content}], "response": "x"}
        for content in ("hi", [{"type": "text", "text": "ho"}])
    ]
    features = datasets.Features(
        {"prompt": datasets.List(datasets.Json()), "response": datasets.Value("string")}
    )
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    assert [row.values["prompt"] for row in read_rows(str(tmp_path / "saved"))] == [r["prompt"] for r in rows]
