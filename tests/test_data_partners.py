"""Rows with one judged answer each become labeled pairs, and what finds no partner is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gram.data import read_language, read_preferences, read_scorables
from gram.errors import DataError, NoRowsError
from gram.evaluation.sources import load, parse
from gram.types import Answer, Message, Pair, as_chat


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kto(prompt: str, completion: str, label: object, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label} | more


def rated(prompt: str, response: str, helpfulness: object) -> dict[str, Any]:
    rest = {"correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 1}
    return {"prompt": prompt, "response": response, "helpfulness": helpfulness} | rest


def test_a_good_and_a_bad_answer_to_one_prompt_become_a_pair(tmp_path: Path) -> None:
    """Wherever they stand. "How?" has only good answers and "When?" a bad one: 3 have no partner."""
    path = write(
        tmp_path / "kto.jsonl",
        kto("Why?", "No.", False),
        kto("How?", "Thus.", True),
        {"prompt": "Who?", "chosen": "I.", "rejected": "You."},
        kto("How?", "So.", True),
        kto("Why?", "So.", True, id="r5"),
        kto("When?", "Never.", False),
    )
    read = read_preferences(path)
    assert [(row.pair, row.p_a, row.id) for row in read.examples] == [
        (Pair("Who?", "I.", "You."), 1.0, ""),
        (Pair("Why?", "So.", "No."), 1.0, "r5"),
    ]
    assert (read.unpaired, read.rejected, read.sources[0].rows, read.sources[0].records) == (3, 0, 6, 2)
    assert read.counts == {"rejected": 0, "unpaired": 3, "beyond_limit": 0, "ties": 0}


def test_every_answer_is_in_a_pair_and_the_shorter_side_begins_again(tmp_path: Path) -> None:
    good, bad = ["a", "b", "c"], ["x", "y"]
    rows = [kto("Why?", text, text in good) for text in (*good, *bad)]
    pairs = [row.pair for row in read_preferences(write(tmp_path / "x.jsonl", *rows)).examples]
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "x"), ("b", "y"), ("c", "x")]


def test_many_answers_to_one_prompt_do_not_multiply(tmp_path: Path) -> None:
    rows = [kto("Why?", f"answer {k}", k % 2 == 0) for k in range(2000)]
    assert len(read_preferences(write(tmp_path / "x.jsonl", *rows)).examples) == 1000


@pytest.mark.parametrize(("good", "bad"), [(True, False), (1, 0), (1.0, 0.0)])
def test_other_ways_to_write_a_label(good: object, bad: object, tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    shared = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "No."}]
    path = write(
        tmp_path / "x.jsonl", {"messages": said, "label": good}, {"conversations": shared, "kto_tag": bad}
    )
    assert [row.pair for row in read_preferences(path).examples] == [Pair("Why?", "So.", "No.")]
    (table := tmp_path / "x.csv").write_text(f"question,response,label\nWhy?,So.,{good}\nWhy?,No.,{bad}\n")
    if not isinstance(good, float):
        assert [row.pair for row in read_preferences(table).examples] == [Pair("Why?", "So.", "No.")]


def test_ratings_of_two_rows_that_follow_each_other(tmp_path: Path) -> None:
    """The third row of "How?" is alone again, as is "Why?" at the end."""
    path = write(
        tmp_path / "helpsteer2.jsonl",
        rated("c#", "A language.", 1),
        rated("c#", "A typed language.", 4),
        rated("How?", "Thus.", 3),
        rated("How?", "So.", 3),
        rated("How?", "Well.", 0),
        rated("Why?", "So.", 2),
    )
    read = read_preferences(path)
    assert [(row.pair, row.p_a, row.margin) for row in read.examples] == [
        (Pair("c#", "A typed language.", "A language."), 1.0, 3.0),
        (Pair("How?", "Thus.", "So."), 0.5, 0.0),
    ]
    assert read.counts == {"rejected": 0, "unpaired": 2, "beyond_limit": 0, "ties": 1}


def test_system_and_names_stay_with_the_pair(tmp_path: Path) -> None:
    more = {"system": "Be kind.", "subset": "s", "group": 3, "split": "train"}
    path = write(tmp_path / "x.jsonl", kto("Why?", "So.", True, **more), kto("Why?", "No.", False, **more))
    [row] = read_preferences(path, split="train").examples
    assert row.pair.prompt == (Message("system", "Be kind."), Message("user", "Why?"))
    assert (row.subset, row.group) == ("s", "3")


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (kto("Why?", "So.", "yes"), "label", "expected true or false, got 'yes'"),
        (kto("Why?", "So.", 0.7), "label", "expected true or false, got 0.7"),
        (kto("Why?", "", True), "completion", "the answer is empty"),
        (rated("Why?", "So.", "high"), "helpfulness", "finite number"),
        (rated("", "So.", 1), "prompt", "the prompt is empty"),
    ],
)
def test_a_judged_answer_that_is_none(row: dict[str, Any], field: str, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", kto("How?", "Thus.", True), row, kto("How?", "No.", False))
    with pytest.raises(DataError, match=reason) as caught:
        read_preferences(path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(path), 2, field)
    read = read_preferences(path, on_error="skip", rejects=tmp_path / "rejects.jsonl")
    assert (len(read.examples), read.rejected) == (1, 1)


def test_where_no_labels_are_wanted_every_answer_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", kto("Why?", "So.", True), rated("How?", "Thus.", 4))
    assert read_language(path).examples == (Answer(as_chat("Why?"), "So."), Answer(as_chat("How?"), "Thus."))
    assert [row.item for row in read_scorables(path).examples] == list(read_language(path).examples)


def test_evaluation_joins_and_counts_too(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl", kto("Why?", "So.", True), kto("Why?", "No.", False), kto("How?", "x", True)
    )
    [source] = parse([str(path)])
    found = load(source)
    assert [item.responses for item in found.items] == [("So.", "No.")]
    assert found.counts == {"rejected": 0, "unpaired": 1, "beyond_limit": 0}


def test_answers_without_a_partner_are_not_called_rejected(tmp_path: Path) -> None:
    """Three good answers, no bad one: none was rejected. With a bad row beside them, one was."""
    rows = [kto(f"Q{number}?", "A.", True) for number in range(3)]
    with pytest.raises(NoRowsError, match="of 3: 3 judged answers have no partner") as caught:
        read_preferences(write(tmp_path / "x.jsonl", *rows))
    assert "rejected" not in caught.value.reason
    path = write(tmp_path / "y.jsonl", *rows, kto("", "A.", True))
    with pytest.raises(NoRowsError, match=r"of 4: 3 judged .* the others were rejected, see "):
        read_preferences(path, on_error="skip", rejects=tmp_path / "rejects.jsonl")
