"""Whatever a row, a file or a configuration holds: an example, a reject, or an error with its place.

Rows are made from good ones of every family by changes that people's data have: a value of another type, a
field gone, added or renamed, something nested, half a surrogate pair. ``make fuzz`` tries 5,000 per family,
``make test`` 200. The changes are drawn from a fixed seed: a failure comes again.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gram.config_file import read_values
from gram.data import (
    Row,
    pairs_of,
    read_contests,
    read_language,
    read_preferences,
    read_rows,
    read_scorables,
    to_contest,
    to_language,
    to_preference,
    to_scorable,
)
from gram.data.rows import COLUMNS
from gram.errors import DataError, GramError
from gram.evaluation import BENCHMARKS
from gram.evaluation.sources import load, parse
from gram.modeling.manifest import Manifest, read_manifest
from gram.rendering import load_template
from gram.training.config import TrainConfig
from test_benchmark_rows import ROWS as OF_BENCHMARKS
from test_data_shapes import ARENA_140K, SHAPED

COUNT = int(os.environ.get("GRAM_FUZZ", "200"))
SECONDS = 5  # for one row, or one file of a few rows: more is a hang

often = settings(
    max_examples=COUNT,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
seldom = settings(often, max_examples=max(20, COUNT // 20))

Q = "What colour is the sky?"
SAID = [{"role": "user", "content": Q}, {"role": "assistant", "content": "Blue."}]
OTHER = [SAID[0], {"role": "assistant", "content": "Grey."}]
BESIDE = {
    "id": "7",
    "system": "Be brief.",
    "subset": "s",
    "group": "g",
    "source": "x",
    "margin": 1,
    "split": "train",
}
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "chosen and rejected": [
        {"prompt": Q, "chosen": "Blue.", "rejected": "Grey.", "p_chosen": 0.75, **BESIDE},
        {"prompt": Q, "chosen": "Blue.", "rejected": "Grey.", "votes_chosen": 3, "votes_rejected": 1},
        {"prompt": SAID[:1], "chosen": SAID[1:], "rejected": OTHER[1:]},
    ],
    "implicit prompts": [
        {"chosen": f"{Q} Blue.", "rejected": f"{Q} Grey."},
        {"chosen": SAID, "rejected": OTHER},
        {"chosen": f"\n\nHuman: {Q}\n\nAssistant: Blue.", "rejected": f"\n\nHuman: {Q}\n\nAssistant: Grey."},
    ],
    "other names": [
        {
            "instruction": "Answer.",
            "input": Q,
            "history": [["hi", "ho"]],
            "chosen": "Blue.",
            "rejected": "Grey.",
        },
        {
            "conversations": [{"from": "human", "value": Q}],
            "chosen": {"from": "gpt", "value": "Blue."},
            "rejected": {"from": "gpt", "value": "Grey."},
        },
    ],
    "soft labels": [
        {"prompt": Q, "a": "Blue.", "b": "Grey.", "p_a": 0.75, **BESIDE},
        {"prompt": Q, "a": "Blue.", "b": "Grey.", "votes_a": 3, "votes_b": 1, "votes_tie": 1},
        {"prompt": Q, "a": "Blue.", "b": "Grey.", "score_a": 1.5, "score_b": 1},
    ],
    "without labels": [
        {"prompt": Q, "a": "Blue.", "b": "Grey."},
        {"prompt": Q, "responses": ["Blue.", "Grey.", "Green."], "id": 7},
        {"prompt": Q, "response": "Blue."},
        {"messages": [SAID[0], {"role": "assistant", "content": [{"type": "text", "text": "Blue."}]}]},
        {"text": "The sky is blue."},
    ],
    "judged answers": [
        {"prompt": Q, "completion": "Blue.", "label": True},
        {"prompt": Q, "response": "Blue.", "helpfulness": 4, "correctness": 4},
    ],
    "published by GRAM": [
        {
            "instruction": f"[User Question]\n{Q}\n\n[The Start of Assistant A's Answer]\nBlue.\n"
            "[The End of Assistant A's Answer]\n\n[The Start of Assistant B's Answer]\nGrey.\n"
            "[The End of Assistant B's Answer]",
            "input": "",
            "output": "B",
        }
    ],
    "published data sets": [ARENA_140K, *(row for row, _ in SHAPED.values())],
}

# --- Odd values and changes ---

TEXT = st.one_of(
    st.text(st.characters(), max_size=20),  # with halves of surrogate pairs
    st.sampled_from(
        ["", " ", "\n\nHuman:", f"\n\nHuman: {Q}\n\nAssistant:", "<|im_start|>user", "\ud800", "\x00", Q]
    ),
    st.sampled_from(
        ['[{"role": "user"}]', "\n<extra_id_1>Assistant\n", "model_a", "A>B", "null", "NaN", "1e999"]
    ),
)
NUMBER = st.one_of(
    st.integers(-3, 7),
    st.sampled_from([10**400, -(10**400), 2**63, 1.5, 7.0, 1e308, -0.0]),
    st.floats(),
    st.booleans(),
)
LEAF = st.one_of(st.none(), TEXT, NUMBER)
ROLE = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "nobody", 3, None, ["user"]])
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": ROLE,
        "from": ROLE,
        "content": st.one_of(
            LEAF, st.lists(st.one_of(LEAF, st.dictionaries(st.sampled_from(["type", "text"]), LEAF)))
        ),
        "value": LEAF,
        "tool_calls": LEAF,
    },
)
VALUE = st.one_of(
    LEAF,
    st.lists(MESSAGE, max_size=4),
    st.recursive(
        LEAF,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ),
)
FIELD = st.one_of(st.sampled_from(sorted(COLUMNS)), TEXT)


@st.composite
def changed(draw: st.DrawFn, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One of ``rows`` after one to three changes."""
    row = copy.deepcopy(draw(st.sampled_from(rows)))
    for _ in range(draw(st.integers(1, 3))):
        match draw(st.sampled_from(["replace", "inside", "remove", "add", "rename", "copy"])):
            case "add":
                row[draw(FIELD)] = draw(VALUE)
            case _ if not row:
                pass
            case "replace":
                row[draw(st.sampled_from(sorted(row)))] = draw(VALUE)
            case "inside":
                name = draw(st.sampled_from(sorted(row)))
                row[name] = _changed_inside(draw, row[name])
            case "remove":
                del row[draw(st.sampled_from(sorted(row)))]
            case "rename":
                row[draw(FIELD)] = row.pop(draw(st.sampled_from(sorted(row))))
            case _:
                row[draw(st.sampled_from(sorted(row)))] = row[draw(st.sampled_from(sorted(row)))]
    return row


def _changed_inside(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with something changed at a random depth."""
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _changed_inside(draw, value[place]), *value[place + 1 :]]
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value, key=str)))
        return {**value, name: _changed_inside(draw, value[name])}
    return draw(VALUE)


@contextmanager
def no_hang() -> Iterator[None]:
    """An error after ``SECONDS``, where the system can say so."""

    def stop(*_: object) -> None:
        raise AssertionError(f"took more than {SECONDS} seconds")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- Rows ---

READERS: list[Callable[[Row], object]] = [
    to_preference,
    to_contest,
    to_scorable,
    lambda row: to_language(row, pairs_of),
]


def is_whole(example: object) -> bool:
    """Whether every text in an example can be written."""
    repr(example).encode()
    return "\\ud8" not in repr(example) and "\\udf" not in repr(example)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_is_an_example_or_an_error_with_its_place(family: str) -> None:
    outcomes = {"examples": 0, "errors": 0}

    @often
    @given(changed(FAMILIES[family]))
    def try_one(values: dict[str, Any]) -> None:
        with no_hang():
            for read in READERS:
                try:
                    example = read(Row(values, "rows.jsonl", 7))
                except DataError as error:
                    assert (error.file, error.line) == ("rows.jsonl", 7)
                    assert (
                        error.field or "the fields found are" in error.reason or "expected a" in error.reason
                    )
                    outcomes["errors"] += 1
                else:
                    assert is_whole(example)
                    outcomes["examples"] += 1

    try_one()
    assert min(outcomes.values()) > COUNT // 10  # else this family's rows are all alike


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_row_of_a_benchmark_too(benchmark: str) -> None:
    rows = OF_BENCHMARKS["rewardbench" if benchmark == "rewardbench-prior" else benchmark]

    @often
    @given(changed(rows))
    def try_one(values: dict[str, Any]) -> None:
        with no_hang():
            try:
                item = BENCHMARKS[benchmark].item(Row(values, "rows.jsonl", 7))
            except DataError as error:
                assert (error.file, error.line) == ("rows.jsonl", 7)
            else:
                json.dumps([item.id, item.subset, item.group, item.unit], ensure_ascii=False).encode()

    try_one()


# --- Files ---


def account(path: Path, rejects: Path) -> None:
    """Every reader and ``gram eval`` account for each row, or end with an error that names the file."""
    for read in (read_preferences, read_contests, read_scorables, read_language):
        rejects.unlink(missing_ok=True)
        try:
            found = read(path, on_error="skip", rejects=rejects)
        except DataError as error:
            assert error.file == str(path)
            continue
        [source] = found.sources
        lines = rejects.read_text().splitlines() if found.rejected else []
        assert len(lines) == found.rejected <= source.rows
        assert all(json.loads(line)["file"] == str(path) for line in lines)
        if read is read_scorables:
            assert len(found.examples) + found.rejected == source.rows
    [measured] = parse([str(path)])
    try:
        load(measured, on_error="skip", rejects=rejects)
    except DataError as error:
        assert error.file == str(path)


LINE = st.one_of(
    changed([row for rows in FAMILIES.values() for row in rows]).map(lambda row: json.dumps(row).encode()),
    st.binary(max_size=30),
    st.sampled_from(
        [b"", b"{", b"[1]", b"null", b"{}", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 5_000, b"9" * 5_000]
    ),
    st.just(b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}"),
)
BROKEN = ["", "{", "[1]", "null", "[" * 100_000, "9" * 5_000, '{"a": NaN}']


@seldom
@given(st.lists(LINE, min_size=1, max_size=8), st.sampled_from([".jsonl", ".json", ".csv", ".tsv"]))
def test_every_file_of_lines_is_accounted_for(tmp_path: Path, lines: list[bytes], kind: str) -> None:
    (path := tmp_path / f"rows{kind}").write_bytes(b"\n".join(lines))
    with no_hang():
        account(path, tmp_path / "rejects.jsonl")


@seldom
@given(st.lists(changed(FAMILIES["judged answers"]), min_size=1, max_size=8))
def test_judged_answers_are_accounted_for(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    (path := tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with no_hang():
        account(path, tmp_path / "rejects.jsonl")


CELLS = st.one_of(
    st.lists(st.sampled_from(["Why?", "So.", "", None]), min_size=3, max_size=3).map(
        lambda v: pa.array(v, pa.string())
    ),
    st.lists(st.binary(max_size=4), min_size=3, max_size=3).map(
        lambda v: pa.Array.from_buffers(pa.string(), 3, pa.array(v, pa.binary()).buffers())
    ),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3).map(
        lambda v: pa.array(v, pa.int64()).view(pa.timestamp("us"))
    ),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3).map(
        lambda v: pa.array(v, pa.int32()).view(pa.date32())
    ),
    st.lists(st.one_of(st.none(), st.binary(max_size=3)), min_size=3, max_size=3).map(
        lambda v: pa.array(v, pa.binary())
    ),
    st.lists(st.floats(), min_size=3, max_size=3).map(pa.array),
    st.sampled_from(
        [pa.nulls(3), pa.array([[["x"]], [], None]), pa.array([{"role": "user", "content": None}] * 3)]
    ),
)


@seldom
@given(
    st.dictionaries(
        st.sampled_from(["prompt", "chosen", "rejected", "id", "split", "note", "responses"]), CELLS
    )
)
def test_every_parquet_file_is_accounted_for(tmp_path: Path, columns: dict[str, pa.Array]) -> None:
    good = {name: pa.array([name] * 3) for name in ("prompt", "chosen", "rejected")}
    pq.write_table(pa.table({**good, **columns}), path := tmp_path / "rows.parquet")
    with no_hang():
        account(path, tmp_path / "rejects.jsonl")
        list(read_rows(str(path), reject=lambda _: None))


# --- gram.json, templates, configurations ---

CONFIG = {"model": "m", "data": ["d"], "output": "o", "seed": 1, "lora": True, "columns": {"prompt": "q"}}


@often
@given(changed([CONFIG]))
def test_every_configuration_is_read_or_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "run.yaml"
    try:
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    except (UnicodeEncodeError, yaml.YAMLError):
        return  # half a surrogate pair cannot stand in a file
    with no_hang():
        try:
            read_values(TrainConfig, path)
        except GramError as error:
            assert str(path) in str(error)


@often
@given(changed([asdict(load_template("default"))]), st.sampled_from([None, *BROKEN]))
def test_every_template_is_read_or_refused(
    tmp_path: Path, values: dict[str, Any], broken: str | None
) -> None:
    (path := tmp_path / "template.json").write_text(broken or json.dumps(values))
    with no_hang():
        try:
            load_template(path)
        except GramError as error:
            assert str(path) in str(error)


@often
@given(changed([asdict(Manifest("judge", {"name": "t"}, "hash", 64))]), st.sampled_from([None, *BROKEN]))
def test_every_manifest_is_read_or_refused(
    tmp_path: Path, values: dict[str, Any], broken: str | None
) -> None:
    (path := tmp_path / "gram.json").write_text(broken or json.dumps(values))
    with no_hang(), warnings.catch_warnings(action="ignore"):
        try:
            read_manifest(tmp_path)
        except GramError as error:
            assert str(path) in str(error)
