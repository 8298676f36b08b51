"""A row of a benchmark with a field of another type is an error that names it, or a reject."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gram.data import Row
from gram.data.row import Unreadable
from gram.errors import DataError
from gram.evaluation import BENCHMARKS
from gram.evaluation.sources import load, parse

ROWS: dict[str, list[dict[str, Any]]] = {
    "rewardbench": [{"id": 1, "prompt": "Q?", "chosen": "x", "rejected": "y", "subset": "hep-go"}],
    "rewardbench2": [
        {"id": "1", "prompt": "Q?", "chosen": ["x"], "rejected": ["y", "z", "w"], "subset": "Math"},
        {"id": "tied:1", "prompt": "Q?", "chosen": ["x", "v"], "rejected": ["y", "z"], "subset": "Ties"},
    ],
    "rm-bench": [
        {
            "id": 3, "prompt": "Q?", "chosen": ["x", "xx", "xxx"], "rejected": ["y", "yy", "yyy"],
            "domain": "chat",
        },
        {
            "prompt": "Q?", "chosen": "x", "rejected": "y", "subset": "math/easy", "pair_of": 3,
            "chosen_style": "concise", "rejected_style": "markdown",
        },
    ],
    "judgebench": [
        {
            "pair_id": "p", "original_id": "o", "source": "mmlu-pro-law", "question": "Q?",
            "response_model": "gpt", "response_A": "x", "response_B": "y", "label": "A>B",
        },
        {"id": "1", "prompt": "Q?", "chosen": "x", "rejected": "y", "subset": "gpt/coding"},
    ],
    "best-of-k": [
        {"id": "1", "prompt": "Q?", "responses": ["x", "y"], "scores": [1, 0], "subset": "s", "group": "g"},
        {"question_id": 2, "prompt": "Q?", "response_1": "x", "response_2": "y", "scores": [True, False]},
    ],
    "hhh": [
        {"input": "Q?", "targets": {"choices": ["x", "y"], "labels": [1, 0]}, "subset": "honest"},
        {"prompt": "Q?", "chosen": "x", "rejected": "y", "subset": "other"},
    ],
    "llmbar": [
        {"input": "Q?", "output_1": "x", "output_2": "y", "label": 1},
        {"prompt": "Q?", "chosen": "x", "rejected": "y", "subset": "Natural"},
    ],
}  # fmt: skip
ODD: list[Any] = [
    None, "", " ", "\ud800", 0, -1, 1.5, 10**400, float("nan"), True, b"x", [], [[]], [None], ["\udfff"],
    [1, 0], [0, "a"], [[1], 0], ["a"], {}, {"a": 1}, {"choices": ["x"], "labels": [1, 0]}, {"labels": [0, 1]},
    {"choices": ["x", 3], "labels": [0, 1]}, {"choices": "xy", "labels": [0, 1]},
    {"choices": ["x", "y"], "labels": ["a", 0]}, [{"role": "user"}], Unreadable("not UTF-8"),
]  # fmt: skip
CASES = [(name, row, field) for name, rows in ROWS.items() for row in rows for field in row]


def test_the_good_rows_are_good() -> None:
    for name, rows in ROWS.items():
        for values in rows:
            assert BENCHMARKS[name].item(Row(values, "rows.jsonl", 7)).responses[0][:1] == "x"
    assert set(ROWS) | {"rewardbench-prior"} == set(BENCHMARKS)


@pytest.mark.parametrize(("name", "good", "field"), CASES)
def test_whatever_stands_in_a_field_it_is_an_item_or_an_error_with_its_place(
    name: str, good: dict[str, Any], field: str
) -> None:
    """Every field of every published form, replaced by each odd value, or gone."""
    faults = 0
    for values in [*({**good, field: odd} for odd in ODD), {n: v for n, v in good.items() if n != field}]:
        try:
            item = BENCHMARKS[name].item(Row(values, "rows.jsonl", 7))
        except DataError as error:
            assert (error.file, error.line) == ("rows.jsonl", 7) and error.field, error
            faults += 1
        else:
            for text in (item.id, item.subset, item.group, item.unit, *item.responses):
                text.encode()
    assert faults


def test_bad_rows_are_rejected_with_their_field(tmp_path: Path) -> None:
    [good, _] = ROWS["judgebench"]
    [hhh, _] = ROWS["hhh"]
    bad = [{**good, "label": ["A>B"]}, {**good, "pair_id": "\ud800"}, {**good, "source": 3}]
    for name, rows, fields in (
        ("judgebench", [good, *bad], ["label", "pair_id", "source"]),
        ("hhh", [hhh, {**hhh, "targets": {"choices": ["x"], "labels": [1, 0]}}], ["targets"]),
    ):
        (path := tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        [source] = parse([f"{name}={path}"])
        with pytest.raises(DataError, match=rf"{name}\.jsonl:2: field '{fields[0]}': "):
            load(source)
        rejects = tmp_path / f"{name}.rejects.jsonl"
        found = load(source, on_error="skip", rejects=rejects)
        assert (len(found.items), found.counts["rejected"]) == (1, len(fields))
        told = [json.loads(line) for line in rejects.read_text().splitlines()]
        assert [(line["field"], line["line"]) for line in told] == [
            (field, number) for number, field in enumerate(fields, start=2)
        ]


# --- LLMBar's own files: a JSON list, one folder per subset ---


@pytest.mark.parametrize(
    ("place", "subset"),
    [
        ("Natural/dataset.json", "Natural"),
        ("Adversarial/GPTOut/dataset.json", "GPTOut"),
        ("llmbar_neighbor.json", "Neighbor"),
        ("natural-texts/llmbar.json", ""),
    ],
)
def test_llmbar_is_read_as_its_authors_publish_it(place: str, subset: str, tmp_path: Path) -> None:
    rows = [
        {"input": "Name a colour.", "output_1": "Blue.", "output_2": "Dog.", "label": 1},
        {"input": "Name a dog.", "output_1": "Blue.", "output_2": "Rex.", "label": 2},
    ]
    (path := tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    [source] = parse([f"llmbar={path}"])
    items = load(source).items
    assert [(item.responses, item.subset) for item in items] == [
        (("Blue.", "Dog."), subset),
        (("Rex.", "Blue."), subset),
    ]


def test_benchmarks_take_answers_as_they_stand(tmp_path: Path) -> None:
    """A prompt that both answers repeat, or the markup of a template, is part of the official answer."""
    values = {
        "prompt": "Is it so?",
        "chosen": "Is it so? Yes.",
        "rejected": "Is it so? [INST]",
        "subset": "hep-go",
    }
    item = BENCHMARKS["rewardbench"].item(Row(values, "rows.jsonl", 7))
    assert item.responses == ("Is it so? Yes.", "Is it so? [INST]")
    item = BENCHMARKS["rewardbench"].item(Row({**values, "chosen": "[INST] no"}, "rows.jsonl", 7))
    assert item.responses[0] == "[INST] no"
