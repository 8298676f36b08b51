"""Files of every kind give the same rows, plain and compressed; what is damaged, or no row, says where."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gram.data import Rejected, read_contests, read_preferences, read_rows, read_scorables
from gram.errors import DataError
from gram.evaluation.sources import parse
from gram.types import Pair

ROWS: list[dict[str, Any]] = [
    {"prompt": 'Say "hi",\nthen stop.', "chosen": "hi", "rejected": "hi, hi; ho", "p_chosen": 0.75},
    {"prompt": "Über?", "chosen": "ja\tdoch", "rejected": "nein", "p_chosen": 1},
]


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def lines() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def table(delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return ("\ufeff" + text.getvalue()).encode()


CONTENTS = {
    ".jsonl": lines(),
    ".ndjson": lines(),
    ".json": json.dumps(ROWS).encode(),
    ".csv": table(","),
    ".tsv": table("\t"),
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_kind_plain_and_compressed_gives_the_same_pairs(
    kind: str, packing: str, tmp_path: Path
) -> None:
    (path := tmp_path / f"rows{kind}{packing}").write_bytes(PACKERS[packing](CONTENTS[kind]))
    read = read_preferences(path)
    assert [(row.pair, row.p_a) for row in read.examples] == [
        (Pair(row["prompt"], row["chosen"], row["rejected"]), row["p_chosen"]) for row in ROWS
    ]
    [source] = parse([str(path)])  # gram eval --data takes the same names for files
    assert source.name == "rows"


@pytest.mark.parametrize("packing", [name for name in PACKERS if name])
def test_a_compressed_file_that_breaks_off_says_so(packing: str, tmp_path: Path) -> None:
    packed = PACKERS[packing](b"".join(b'{"text": "%d"}\n' % number for number in range(999)))
    (path := tmp_path / f"rows.jsonl{packing}").write_bytes(packed[:-9])
    with pytest.raises(DataError, match=r"damaged \w+ file after line \d+"):
        list(read_rows(str(path)))
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"damaged \w+ file after line 0"):
        list(read_rows(str(path)))


def test_a_table_has_a_place_for_every_row(tmp_path: Path) -> None:
    """The second row begins on line 2 and ends on line 3: the third begins on line 4."""
    (path := tmp_path / "x.csv").write_text(
        'prompt,response\n"one\ntwo",yes\nthree,no,never\nfour,\nfive,so\n'
    )
    rejected: list[Rejected] = []
    rows = list(read_rows(str(path), reject=rejected.append))
    assert [(row.line, row.values) for row in rows] == [
        (2, {"prompt": "one\ntwo", "response": "yes"}),
        (5, {"prompt": "four", "response": None}),
        (6, {"prompt": "five", "response": "so"}),
    ]
    [bad] = rejected
    assert str(bad.error) == f"{path}:4: expected 2 cells, as there are column names, got 3"


def test_cells_stand_for_numbers_where_numbers_are_wanted_and_for_lists_as_json(tmp_path: Path) -> None:
    """An id keeps its zeros; a text that only looks like JSON stays a text."""
    text = (
        'id,prompt,a,b,p_a\n007,{why?},3,4,0.25\n8,"[{""role"": ""user"", ""content"": ""hi""}]",x,y,half\n'
    )
    (path := tmp_path / "x.csv").write_text(text)
    loaded = read_preferences(path, on_error="skip", rejects=tmp_path / "rejects.jsonl")
    [first] = loaded.examples
    assert (first.id, first.pair, first.p_a) == ("007", Pair("{why?}", "3", "4"), 0.25)
    assert (
        json.loads((tmp_path / "rejects.jsonl").read_text())["reason"]
        == "expected a finite number, got 'half'"
    )
    (path := tmp_path / "y.tsv").write_text('prompt\tresponses\nq\t"[""x"", ""y""]"\n')
    assert read_contests(path).examples[0].responses == ("x", "y")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"prompt,prompt\na,b\n", r"x\.csv:1: field 'prompt': there are two columns of this name"),
        (b'prompt,text\n"a,b\n', r"x\.csv:2: not valid CSV: unexpected end of data"),
        (b'text\n"a"b\n', r"x\.csv:2: not valid CSV"),
        (b"text\n\xff\n", r"x\.csv:2: field 'text': holds half of a surrogate pair"),
        (b"text\n", "holds no rows"),
        (b"", "holds no rows"),
    ],
)
def test_tables_that_are_none(content: bytes, reason: str, tmp_path: Path) -> None:
    from gram.data import read_language

    (path := tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_language(path)


def test_a_long_cell_is_no_error(tmp_path: Path) -> None:
    (path := tmp_path / "x.csv").write_text("text\n" + "a" * 300_000 + "\n")
    [row] = read_rows(str(path))
    assert len(row.values["text"]) == 300_000


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl.zip", "x.parquet.gz", "x.xlsx", "x.arrow", "x"])
def test_other_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"a")
    with pytest.raises(DataError, match=r"unknown kind of file; expected \.jsonl, \.ndjson, \.json, \.csv"):
        list(read_rows(str(tmp_path / name)))


def csv_of(path: Path, *rows: dict[str, str]) -> Path:
    """A CSV file as Python's own writer makes it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("good", "bad"),
    [('{"a":  1}', '{"a": 2}'), ('["x"]', '["y", "z"]'), ('[{"a": 1}]', '{"a": {"role": "user"}}')],
)
def test_an_answer_or_a_question_in_a_cell_may_be_json(good: str, bad: str, tmp_path: Path) -> None:
    """It stays the text that stands there, with its spaces, under whatever name the column is read."""
    row = {"instruction": "Change it.", "input": '{"b":  0}', "best": good, "rejected": bad}
    [found] = read_preferences(csv_of(tmp_path / "x.csv", row), columns="chosen=best").examples
    assert found.pair == Pair('Change it.\n\n{"b":  0}', good, bad)
    labels = {"prompt": "Q?", "response_1": good, "response_2": bad, "winner": "model_a"}
    assert read_preferences(csv_of(tmp_path / "y.csv", labels)).examples[0].pair == Pair("Q?", good, bad)


def test_messages_and_objects_in_cells_are_read_as_such(tmp_path: Path) -> None:
    """Messages, WebGPT's question and OpenAI's input, as before."""
    chosen, rejected = '[{"role": "assistant", "content": "4"}]', '{"from": "gpt", "value": "5"}'
    row = {"prompt": '[{"role": "user", "content": "Q?"}]', "chosen": chosen, "rejected": rejected}
    assert read_preferences(csv_of(tmp_path / "x.csv", row)).examples[0].pair == Pair("Q?", "4", "5")
    webgpt = {
        "question": '{"full_text": "Q?"}',
        "answer_0": "4",
        "answer_1": "5",
        "score_0": "1",
        "score_1": "0",
    }
    assert read_preferences(csv_of(tmp_path / "y.csv", webgpt)).examples[0].pair == Pair("Q?", "4", "5")
    openai = {"input": '{"messages": [{"role": "user", "content": "Q?"}]}', "preferred_output": chosen}
    openai["non_preferred_output"] = rejected
    assert read_preferences(csv_of(tmp_path / "z.csv", openai)).examples[0].pair == Pair("Q?", "4", "5")


def test_lists_in_cells_may_have_white_space_and_lists_in_them(tmp_path: Path) -> None:
    """JSON as ``json.dumps(..., indent=2)`` writes it, and the turns of ``history``: lists of two."""

    def as_json(value: object) -> str:
        return "\n" + json.dumps(value, indent=2)

    question, good, bad = ([{"role": role, "content": text}] for role, text in SAID)
    row = {"prompt": as_json(question), "chosen": as_json(good), "rejected": as_json(bad[0])}
    assert read_preferences(csv_of(tmp_path / "a.csv", row)).examples[0].pair == Pair("Q?", "4", "5")
    row = {"prompt": "Q?", "responses": as_json(["4", "5"])}
    assert read_contests(csv_of(tmp_path / "b.csv", row)).examples[0].responses == ("4", "5")
    for history, turns in (("[]", 1), ('[["Hi", "Hello"]]', 3), (as_json([["Hi", "Hello"]]), 3)):
        row = {"prompt": "Q?", "history": history, "chosen": "4", "rejected": "5"}
        [found] = read_preferences(csv_of(tmp_path / "c.csv", row)).examples
        assert [turn.content for turn in found.pair.prompt] == ["Hi", "Hello", "Q?"][-turns:]
    answers = {"prompt": "Q?", "chosen": as_json({"a": [1]}), "rejected": " [[1]]"}
    [found] = read_preferences(csv_of(tmp_path / "d.csv", answers)).examples
    assert (found.pair.a, found.pair.b) == (answers["chosen"], answers["rejected"])


SAID = (("user", "Q?"), ("assistant", "4"), ("assistant", "5"))


@pytest.mark.parametrize("whole", [True, False])
def test_messages_that_datasets_wrote_into_a_table_are_refused(whole: bool, tmp_path: Path) -> None:
    """``Dataset.to_csv`` prints lists as numpy does, which is neither JSON nor the answer."""
    import datasets

    question, good, bad = ({"role": role, "content": text} for role, text in SAID)
    before = [question] if whole else []
    row = {"prompt": "Q?", "chosen": [*before, good], "rejected": [*before, bad]}
    datasets.Dataset.from_list([row]).to_csv(path := tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"x\.csv:2: field 'chosen': holds messages written as text"):
        read_preferences(path)
    row = {"messages": row["chosen"] if whole else [question, good], "id": "1"}
    datasets.Dataset.from_list([row]).to_csv(path)
    with pytest.raises(DataError, match=r"x\.csv:2: field 'messages': holds messages written as text"):
        read_scorables(path)
