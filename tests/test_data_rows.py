"""Every form of row becomes the right record, and every bad row names its field."""

from __future__ import annotations

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gram.data import Row, Scorable, pairs_of, parse, to_contest, to_language, to_preference, to_scorable
from gram.data.asked import MEDIA
from gram.data.columns import parse_columns
from gram.data.row import Unreadable
from gram.data.rows import COLUMNS
from gram.errors import DataError
from gram.types import Answer, Contest, Message, Pair, Preference, ResponsePair, Text, as_chat

DOCS = Path(__file__).parents[1] / "docs" / "data-formats.md"
Q = "What colour is the sky?"


def row(**values: Any) -> Row:
    return Row(values, "rows.jsonl", 7)


def documented() -> list[tuple[str, str]]:
    """(record named in the heading, example row) for each example of the documentation."""
    examples: list[tuple[str, str]] = []
    for section in re.split(r"^### ", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        named = re.search(r"\(`(\w+)`\)$", section.splitlines()[0])
        for block in re.findall(r"^```json\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
            assert named, section.splitlines()[0]
            examples += [(named[1], line) for line in block.splitlines()]
    return examples


def test_there_are_examples_of_all_records() -> None:
    kinds = [kind for kind, _ in documented()]
    assert set(kinds) == {"Preference", "ResponsePair", "Contest", "Answer", "Text"}
    assert len(kinds) == 21


@pytest.mark.parametrize(("kind", "line"), documented())
def test_the_documentation_tells_the_truth(kind: str, line: str) -> None:
    record = parse(Row(json.loads(line), "docs", 1))
    assert type(record).__name__ == kind
    if isinstance(record, Preference) and not any(
        soft in line for soft in ("p_a", "p_chosen", "votes", "score")
    ):
        better = record.pair.a if record.p_a == 1.0 else record.pair.b
        assert better.strip() == "Blue."
        assert record.pair.prompt[-1] == Message("user", Q)


@pytest.mark.parametrize(("kind", "line"), documented())
def test_pictures_and_sounds_in_columns_are_not_dropped_in_silence(kind: str, line: str) -> None:
    """In no form of row; where nothing is in the column, it harms nobody."""
    values = json.loads(line)
    plain = parse(Row(values, "docs", 1))
    pictures: list[Any] = ["a.jpg", ["a.jpg"], {"bytes": b"x", "path": None}, b"x", ["", {"path": "a"}]]
    for name, media in zip(MEDIA, [*pictures, Unreadable("no")], strict=True):
        with pytest.raises(DataError, match=rf"field '{name}'.*--columns ignore={name}"):
            parse(Row(values | {name: media}, "docs", 1))
        ignore = parse_columns({"ignore": [name]}, COLUMNS)
        assert ignore is not None
        assert parse(ignore.of(Row(values | {name: media}, "docs", 1))) == plain
        for nothing in (None, "", [], {}, [None], {"bytes": None, "path": None}, "[]", "[ ]", 0, False):
            assert parse(Row(values | {name: nothing}, "docs", 1)) == plain


def test_everything_a_preference_row_can_say() -> None:
    got = to_preference(
        row(
            prompt=Q,
            chosen="Blue.",
            rejected="Green.",
            system="Be brief.",
            id=12,
            subset="easy",
            group="g1",
            source="skies",
            margin=2,
            split="train",
            other=[1],
        )
    )
    prompt = (Message("system", "Be brief."), Message("user", Q))
    expected = Preference(Pair(prompt, "Blue.", "Green."), 1.0, "12", "easy", "skies/g1", 2.0)
    assert got == expected
    assert to_preference(row(prompt=Q, chosen="x", rejected="y", group=3)).group == "3"


def test_soft_labels() -> None:
    tie = to_preference(row(prompt=Q, a="Blue.", b="Grey.", p_a=0.5))
    assert (tie.pair, tie.p_a) == (Pair(Q, "Blue.", "Grey."), 0.5)
    assert to_preference(row(prompt=Q, a="Blue.", b="Grey.", p_a=0)).p_a == 0.0


@pytest.mark.parametrize(
    ("label", "p_a"),
    [
        ({"votes_a": 3, "votes_b": 1}, 0.75),
        ({"votes_a": 0, "votes_b": 2}, 0.0),
        ({"votes_a": 6, "votes_b": 2, "votes_tie": 2}, 0.7),
        ({"votes_a": 0, "votes_b": 0, "votes_tie": 4}, 0.5),
        ({"score_a": 2.0, "score_b": 2.0}, 0.5),
        ({"score_a": math.log(3), "score_b": 0}, 0.75),
        ({"score_a": -900.0, "score_b": 900.0}, 0.0),
        ({"p_a": 0.9, "votes_a": 1, "votes_b": 1, "score_a": 0, "score_b": 9}, 0.9),
        ({"votes_a": 1, "votes_b": 1, "score_a": 0, "score_b": 9}, 0.5),
    ],
)
def test_votes_and_scores_become_probabilities(label: dict[str, float], p_a: float) -> None:
    """6 of 10 votes and half of 2 ties are 0.7; odds of 3 to 1 are 0.75; what is said plainest counts."""
    got = to_preference(row(prompt=Q, a="Blue.", b="Grey.", **label))
    assert got.pair == Pair(Q, "Blue.", "Grey.")
    assert got.p_a == pytest.approx(p_a, abs=1e-12)


def test_how_sure_a_choice_is() -> None:
    said: dict[str, Any] = {"prompt": Q, "chosen": "Blue.", "rejected": "Grey."}
    assert to_preference(row(**said, p_chosen=0.6)).p_a == 0.6
    assert to_preference(row(**said, votes_chosen=3, votes_rejected=1)).p_a == 0.75
    assert to_preference(row(**said, score_chosen=4.5, score_rejected=4.0)).p_a == 1.0
    assert to_preference(row(**said, p_chosen=None, votes_chosen=3)).p_a == 1.0


def test_null_fields_are_as_good_as_missing() -> None:
    """Parquet files fill columns that a row does not have with nulls."""
    record = parse(row(prompt=Q, chosen=None, rejected=None, response="Blue.", id=None, system=None))
    assert record == Answer(as_chat(Q), "Blue.")


def test_the_whole_conversation_may_be_repeated_beside_an_explicit_prompt() -> None:
    def said(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": Q}, {"role": "assistant", "content": answer}]

    got = to_preference(row(prompt=Q, chosen=said("Blue."), rejected=said("Green."), messages=said("Blue.")))
    assert got.pair == Pair(Q, "Blue.", "Green.")


JUDGE = (
    "You judge.\n\n[User Question]\n{q}\n\n"
    "[The Start of Assistant A's Answer]\n{a}\n[The End of Assistant A's Answer]\n\n"
    "[The Start of Assistant B's Answer]\n{b}\n[The End of Assistant B's Answer]\n\n#Preferred: "
)


@pytest.mark.parametrize(("output", "p_a"), [("A", 1.0), (" B\n", 0.0)])
def test_published_fine_tuning_rows(output: str, p_a: float) -> None:
    text = JUDGE.format(q=Q, a="  Blue.\n\nAlways.", b="Green.")
    got = to_preference(row(instruction=text, input="", output=output))
    assert (got.pair, got.p_a) == (Pair(Q, "Blue.\n\nAlways.", "Green."), p_a)


def published_pair(a: str, b: str, **more: str) -> ResponsePair:
    output = (
        f"[The Start of Assistant A's Answer]{a}[The End of Assistant A's Answer]\n\n"
        f"[The Start of Assistant B's Answer]{b}[The End of Assistant B's Answer]"
    )
    record = parse(row(**{"instruction": f"[User Question]\n{Q}\n\n", "output": output} | more))
    assert isinstance(record, ResponsePair)
    return record


def test_published_pre_training_rows() -> None:
    expected = ResponsePair(as_chat(Q), "Blue.", "Green.")
    assert published_pair("\nBlue. ", "\nGreen.\n") == expected
    # the cleaning script writes its line breaks as a backslash and an n
    assert published_pair(r"\nBlue.", r"\nGreen.\n", instruction=rf"[User Question]\n{Q}\n\n") == expected
    assert published_pair("\n\\nabla f", "\nGreen.\n").first == r"\nabla f"
    assert published_pair("\nBlue.", "\nGreen.", input="In Oslo.").prompt == as_chat(f"{Q}\nIn Oslo.")


@pytest.mark.parametrize(
    ("values", "field", "reason"),
    [
        ({}, None, "no known form of row; the fields found are: none"),
        ({"prompt": Q}, None, "the fields found are: prompt"),
        ({"prompt": Q, "chosen": None, "rejected": "x"}, None, r"chosen \(null\), prompt, rejected"),
        ({"prompt": Q, "chosen": 3, "rejected": "x"}, "chosen", "got int"),
        ({"prompt": Q, "chosen": " ", "rejected": "x"}, "chosen", "answer is empty"),
        ({"prompt": Q, "chosen": "x", "rejected": ""}, "rejected", "answer is empty"),
        ({"prompt": Q, "chosen": "x", "rejected": "x "}, "rejected", "two answers are equal"),
        ({"prompt": 3, "chosen": "x", "rejected": "y"}, "prompt", "got int"),
        ({"prompt": "", "chosen": "x", "rejected": "y"}, "prompt", "prompt is empty"),
        ({"prompt": Q, "chosen": "x", "rejected": "\udc00"}, "rejected", "surrogate"),
        (
            {"prompt": Q, "chosen": "x", "rejected": "y", "margin": "big"},
            "margin",
            "finite number, got 'big'",
        ),
        ({"prompt": Q, "chosen": "x", "rejected": "y", "margin": float("inf")}, "margin", "got inf"),
        ({"prompt": Q, "chosen": "x", "rejected": "y", "margin": 10**400}, "margin", "got 1000"),
        ({"prompt": Q, "a": "x", "b": "y", "p_a": -(10**400)}, "p_a", "expected a finite number"),
        ({"prompt": Q, "chosen": "x", "rejected": "y", "id": 1.5}, "id", "got float"),
        ({"prompt": Q, "chosen": "x", "rejected": "y", "group": ["g"]}, "group", "got list"),
        ({"prompt": Q, "chosen": "x", "rejected": "y", "system": 1}, "system", "got int"),
        (
            {"prompt": Q, "a": "x", "b": "y", "votes_a": -1, "votes_b": 2},
            "votes_a",
            "number of votes, got -1",
        ),
        ({"prompt": Q, "a": "x", "b": "y", "votes_a": 0, "votes_b": 0}, "votes_a", "nobody voted"),
        (
            {"prompt": Q, "a": "x", "b": "y", "score_a": "4", "score_b": 1},
            "score_a",
            "finite number, got '4'",
        ),
        (
            {"prompt": Q, "chosen": "x", "rejected": "y", "p_chosen": 70},
            "p_chosen",
            "between 0 and 1, got 70",
        ),
        ({"prompt": Q, "a": "x", "b": "y", "p_a": 1.01}, "p_a", "between 0 and 1, got 1.01"),
        ({"prompt": Q, "a": "x", "b": "y", "p_a": -0.1}, "p_a", "between 0 and 1"),
        ({"prompt": Q, "a": "x", "b": "y", "p_a": float("nan")}, "p_a", "got nan"),
        ({"prompt": Q, "a": "x", "b": "y", "p_a": True}, "p_a", "got True"),
        ({"prompt": Q, "a": "x", "b": "x", "p_a": 0.5}, "b", "two answers are equal"),
        ({"prompt": Q, "a": "", "b": "x"}, "a", "answer is empty"),
        ({"prompt": Q, "responses": "x"}, "responses", "expected a list"),
        ({"prompt": Q, "responses": []}, "responses", "expected a list of one or more"),
        ({"prompt": Q, "responses": ["x", "\n"]}, r"responses[1]", "answer is empty"),
        ({"prompt": Q, "responses": ["x", 2]}, r"responses[1]", "got int"),
        ({"prompt": Q, "response": ""}, "response", "answer is empty"),
        ({"prompt": Q, "completion": ["x"]}, "completion[0]", "expected a message"),
        ({"messages": [{"role": "user", "content": Q}]}, "messages", "assistant message last"),
        ({"messages": [{"role": "assistant", "content": Q}]}, "messages", "prompt is empty"),
        ({"text": "\n"}, "text", "text is empty"),
        ({"instruction": Q, "output": "A"}, "instruction", "expected the marker .* once, found it 0 times"),
        ({"instruction": Q, "output": "Blue."}, "output", "expected the marker"),
        ({"instruction": JUDGE.format(q=Q, a=" ", b="x"), "output": "A"}, "instruction", "answer A is empty"),
        ({"instruction": JUDGE.format(q=Q, a="x", b="x"), "output": "A"}, "instruction", "answers are equal"),
        ({"instruction": JUDGE.format(q=" ", a="x", b="y"), "output": "A"}, "instruction", "prompt is empty"),
        (
            {"instruction": JUDGE.format(q=JUDGE, a="x", b="y"), "output": "A"},
            "instruction",
            "found it 2 times",
        ),
        ({"instruction": JUDGE.replace("[User", "[The"), "output": "A"}, "instruction", "is missing"),
    ],
)
def test_a_bad_row_names_file_line_and_field(values: dict[str, Any], field: str | None, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse(Row(values, "rows.jsonl", 7))
    error = caught.value
    assert (error.file, error.line, error.field) == ("rows.jsonl", 7, field)
    assert str(error).startswith("rows.jsonl:7: ")


def test_two_system_prompts_are_one_too_many() -> None:
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": Q}]
    with pytest.raises(DataError, match="system turn already"):
        parse(row(prompt=prompt, response="Blue.", system="Be brief."))


PAIR = {"prompt": Q, "a": "Blue.", "b": "Green."}


@pytest.mark.parametrize(
    ("convert", "values", "reason"),
    [
        (to_preference, PAIR, "field 'p_a': missing"),
        (
            to_preference,
            {"prompt": Q, "responses": ["x", "y"]},
            "expected a labeled pair; .* prompt, responses",
        ),
        (to_contest, PAIR, "expected candidates"),
        (to_contest, {"text": "x"}, "expected candidates"),
        (to_scorable, {"text": "x"}, "expected a pair, candidates or an answer; the fields found are: text"),
    ],
)
def test_a_row_of_another_kind_than_wanted(convert: Any, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        convert(row(**values))
    assert (caught.value.file, caught.value.line) == ("rows.jsonl", 7)


def test_scorables_keep_ids_and_put_the_chosen_answer_first() -> None:
    labeled = row(prompt=Q, chosen="Blue.", rejected="Green.", id="r1")
    assert to_scorable(labeled) == Scorable("r1", Pair(Q, "Blue.", "Green."))
    assert to_scorable(row(**PAIR, id="r2")) == Scorable("r2", Pair(Q, "Blue.", "Green."))
    contest = Contest(as_chat(Q), ("Blue.", "Blue.", "Green."), "r3")
    assert to_scorable(row(prompt=Q, responses=["Blue.", "Blue.", "Green."], id="r3")) == Scorable(
        "r3", contest
    )
    assert to_scorable(row(prompt=Q, response="Blue.")) == Scorable("", Answer(as_chat(Q), "Blue."))


def test_stage_one_cannot_see_which_answer_was_chosen() -> None:
    """Turning the label over gives the very same unlabeled pair, whichever order it drew."""
    drawn = []
    for k in range(40):
        good, bad = f"Blue {k}.", f"Green {k}."
        one = to_language(row(prompt=Q, chosen=good, rejected=bad, id="r"), pairs_of)
        other = to_language(row(prompt=Q, chosen=bad, rejected=good, id="r"), pairs_of)
        assert one == other and len(one) == 1
        (pair,) = one
        assert isinstance(pair, ResponsePair) and {pair.first, pair.second} == {good, bad}
        assert pair.id == "r"
        drawn.append(pair.first == good)
    assert 8 <= sum(drawn) <= 32  # a fair coin leaves this range once in 10 000


def test_what_stage_one_learns_from_each_record() -> None:
    two = partial(pairs_of, count=2)
    learned = to_language(row(prompt=Q, responses=["x", "y", "z"]), two)
    assert [type(record) for record in learned] == [ResponsePair, ResponsePair]
    assert to_language(row(prompt=Q, responses=["x", "x"], id="r"), two) == [Answer(as_chat(Q), "x", "r")]
    assert to_language(row(**PAIR), two) == [ResponsePair(as_chat(Q), "Blue.", "Green.")]
    assert to_language(row(text="x", id="t"), two) == [Text("x", "t")]
