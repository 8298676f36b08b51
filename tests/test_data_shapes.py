"""Rows of published data sets, by hand after their cards: what each becomes, and what it cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gram.data import Row, parse, read_preferences, to_contest, to_language, to_preference, to_scorable
from gram.data.row import Unreadable
from gram.data.rows import columns_of
from gram.data.shapes import SHAPES
from gram.errors import DataError
from gram.types import Contest, Message, Pair, Preference, ResponsePair, as_chat

DOCS = Path(__file__).parents[1] / "docs" / "data-formats.md"
Q = "What colour is the sky?"


def row(**values: Any) -> Row:
    return Row(values, "rows.jsonl", 7)


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(contents)]


def parts(*contents: str) -> list[dict[str, Any]]:
    """Messages as in the 140k rows of the Arena: a list of parts, with nulls where there is no image."""
    return [
        {**turn, "content": [{"type": "text", "text": turn["content"], "image": None, "mimeType": None}]}
        for turn in said(*contents)
    ]


HELPSTEER2 = {
    "split": "train",
    "prompt": Q,
    "response_1": "Blue.",
    "response_2": "Grey.",
    "preference_strength": -2,
    "preference_statement": "Response 1 is better.",
    "preference_elaboration": "It is right.",
    "three_most_similar_preferences": [],
    "all_preferences_unprocessed": [],
}
HELPSTEER3 = {
    "domain": "general",
    "language": "english",
    "context": said("hi", "hello", Q),
    "response1": "Grey.",
    "response2": "Blue.",
    "overall_preference": 3,
    "individual_preference": [{"score": 3, "reasoning": "It is right.", "feedback1": "x", "feedback2": "y"}],
}
ARENA = {
    "question_id": "q1",
    "model_a": "one",
    "model_b": "two",
    "winner": "model_b",
    "judge": "arena_user_1",
    "conversation_a": said("hi", "hello", Q, "Grey."),
    "conversation_b": said("hi", "hello", Q, "Blue."),
    "turn": 2,
    "anony": True,
    "language": "English",
    "tstamp": 1.0,
}
ARENA_140K = {
    "id": "v1",
    "model_a": "one",
    "model_b": "two",
    "winner": "both_bad",
    "evaluation_session_id": "s",
    "evaluation_order": 1,
    "conversation_a": parts(Q, "Blue."),
    "conversation_b": parts(Q, "Grey."),
    "full_conversation": [],
}
ARENA_55K = {
    "id": 30192,
    "model_a": "one",
    "model_b": "two",
    "prompt": json.dumps([Q]),
    "response_a": json.dumps(["Grey."]),
    "response_b": json.dumps(["Blue."]),
    "winner_model_a": 0,
    "winner_model_b": 1,
    "winner_tie": 0,
}
PPE = {
    "question_id": "q2",
    "model_a": "one",
    "model_b": "two",
    "winner": "model_a",
    "prompt": Q,
    "response_1": "Blue.",
    "response_2": "Grey.",
    "language": "en",
    "hard_prompt": True,
}
ULTRAFEEDBACK = {
    "source": "evol_instruct",
    "instruction": Q,
    "models": ["w", "x", "y"],
    "completions": [
        {
            "model": "w",
            "response": "Green.",
            "overall_score": 10.0,
            "fine-grained_score": 1.5,
            "critique": "no",
        },
        {"model": "x", "response": "Blue.", "overall_score": 9.0, "fine-grained_score": 4.75},
        {"model": "y", "response": "Grey.", "overall_score": 5.0, "fine-grained_score": 3.0},
    ],
    "correct_answers": ["None"],
    "incorrect_answers": ["None"],
}
SAFE_RLHF = {
    "prompt": Q,
    "response_0": "Grey.",
    "response_1": "Blue.",
    "is_response_0_safe": False,
    "is_response_1_safe": True,
    "better_response_id": 1,
    "safer_response_id": 0,
}
WEBGPT = {
    "question": {"dataset": "eli5", "id": "w1", "full_text": Q},
    "quotes_0": {"title": ["a"], "extract": ["b"]},
    "answer_0": "Grey.",
    "tokens_0": {"prefix": [1], "completion": [2]},
    "score_0": -0.25,
    "quotes_1": {"title": ["a"], "extract": ["b"]},
    "answer_1": "Blue.",
    "tokens_1": {"prefix": [1], "completion": [2]},
    "score_1": 0.25,
}
OPENAI = {
    "input": {"messages": [{"role": "user", "content": Q}], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "Blue."}],
    "non_preferred_output": [{"role": "assistant", "content": "Grey."}],
}
SWIFT = {"messages": said(Q, "Blue."), "rejected_response": "Grey."}
SWIFT_WHOLE = {"messages": said(Q, "Blue."), "rejected_messages": said(Q, "Grey.")}
SWIFT_OLDER = {"system": "", "query": Q, "response": "Blue.", "rejected_response": "Grey.", "history": []}
SUMMARIES = {
    "info": {
        "id": "t3_1",
        "post": "The sky is blue.",
        "title": "Sky",
        "subreddit": "sky",
        "site": None,
        "article": None,
    },
    "summaries": [
        {"text": "Grey.", "policy": "sup1", "note": "ok"},
        {"text": "Blue.", "policy": "ref", "note": None},
    ],
    "choice": 1,
    "worker": "w",
    "batch": "b",
    "split": "train",
    "extra": {"confidence": 7},
}
SHP = {
    "post_id": "p",
    "domain": "askscience_train",
    "history": Q,
    "c_root_id_A": "a",
    "c_root_id_B": "b",
    "labels": 1,
    "human_ref_A": "Blue.",
    "human_ref_B": "Grey.",
    "score_A": 9,
    "score_B": 2,
}
STACK = {
    "qid": 4,
    "question": Q,
    "date": "2020/1/1",
    "metadata": ["x"],
    "response_j": "Blue.",
    "response_k": "Grey.",
}
LLMBAR = {"input": Q, "output_1": "Grey.", "output_2": "Blue.", "label": 2}

BLUE, GREY = Pair(Q, "Blue.", "Grey."), Pair(Q, "Grey.", "Blue.")
LONG = (*said("hi", "hello"), {"role": "user", "content": Q})
TLDR = "SUBREDDIT: r/sky\nTITLE: Sky\nPOST: The sky is blue.\nTL;DR:"
SHAPED: dict[str, tuple[dict[str, Any], Preference]] = {
    "HelpSteer2-Preference": (HELPSTEER2, Preference(BLUE, 1.0, margin=2.0)),
    "HelpSteer3-Preference": (HELPSTEER3, Preference(Pair(LONG, "Grey.", "Blue."), 0.0, margin=3.0)),
    "Chatbot Arena (33k, 100k, 140k)": (ARENA, Preference(Pair(LONG, "Grey.", "Blue."), 0.0, id="q1")),
    "Chatbot Arena (55k)": (ARENA_55K, Preference(GREY, 0.0, id="30192")),
    "PPE human preference": (PPE, Preference(BLUE, 1.0, id="q2")),
    "UltraFeedback (raw)": (ULTRAFEEDBACK, Preference(Pair(Q, "Blue.", "Green."), 1.0, margin=3.25)),
    "PKU-SafeRLHF": (SAFE_RLHF, Preference(GREY, 0.0)),
    "PKU-SafeRLHF, safety alone": (SAFE_RLHF | {"better_response_id": None}, Preference(GREY, 1.0)),
    "WebGPT comparisons": (WEBGPT, Preference(GREY, 0.0, id="w1", margin=0.5)),
    "OpenAI preference fine-tuning": (OPENAI, Preference(BLUE, 1.0)),
    "ms-swift": (SWIFT, Preference(BLUE, 1.0)),
    "ms-swift, whole conversations": (SWIFT_WHOLE, Preference(BLUE, 1.0)),
    "ms-swift, older": (SWIFT_OLDER, Preference(BLUE, 1.0)),
    "OpenAI summarize from feedback": (SUMMARIES, Preference(Pair(TLDR, "Grey.", "Blue."), 0.0, id="t3_1")),
    "SHP": (SHP, Preference(BLUE, 1.0)),
    "Stack Exchange, paired": (STACK, Preference(BLUE, 1.0)),
    "LLMBar": (LLMBAR, Preference(GREY, 0.0)),
}


def test_every_shape_has_a_row_here_and_a_line_in_the_documentation() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert [shape.title for shape in SHAPES] == list(SHAPED)
    for shape in SHAPES:
        [line] = [line for line in page.splitlines() if line.startswith(f"| {shape.title} |")]
        assert all(f"`{name}`" in line for name in shape.columns), line


@pytest.mark.parametrize("title", SHAPED)
def test_a_row_of_every_shape(title: str) -> None:
    values, expected = SHAPED[title]
    assert to_preference(row(**values)) == expected


@pytest.mark.parametrize("title", SHAPED)
def test_a_cell_that_nobody_needs_may_be_unreadable(title: str) -> None:
    """A table with a broken column of remarks still holds its pairs; ``columns_of`` says what is needed."""
    values, expected = SHAPED[title]
    read = columns_of(row(**values))
    beside = [name for name, value in values.items() if value is not None and name not in read]
    broken = values | {name: Unreadable("not UTF-8") for name in [*beside, "remark"]}
    assert to_preference(row(**broken)) == expected
    assert to_scorable(row(**broken)) == to_scorable(row(**values))


@pytest.mark.parametrize("title", SHAPED)
def test_the_other_readers_take_every_shape(title: str) -> None:
    """What is scored has no label, and stage 1 sees the answers in an order that does not show it."""
    values, expected = SHAPED[title]
    item = to_scorable(row(**values)).item
    if title == "UltraFeedback (raw)":
        assert item == to_contest(row(**values)) == Contest(as_chat(Q), ("Green.", "Blue.", "Grey."))
    else:
        assert item == expected.pair
    learned = to_language(
        row(**values), lambda contest: [ResponsePair(contest.prompt, *contest.responses[:2])]
    )
    assert [type(example) for example in learned] == [ResponsePair]


@pytest.mark.parametrize(
    ("values", "p_a"),
    [
        (HELPSTEER2 | {"preference_strength": 1}, 0.0),
        (HELPSTEER2 | {"preference_strength": 0}, 0.5),
        (HELPSTEER3 | {"overall_preference": 0}, 0.5),
        (ARENA | {"winner": "model_a"}, 1.0),
        (ARENA | {"winner": "tie"}, 0.5),
        (ARENA | {"winner": "tie (bothbad)"}, 0.5),
        (ARENA_140K, 0.5),
        (ARENA_140K | {"winner": "model_a"}, 1.0),
        (ARENA | {name: json.dumps(ARENA[name]) for name in ("conversation_a", "conversation_b")}, 0.0),
        (ARENA_55K | {"winner_model_b": 0, "winner_tie": 1}, 0.5),
        (PPE | {"winner": "tie"}, 0.5),
        (WEBGPT | {"score_0": 0, "score_1": 0}, 0.5),
        (SAFE_RLHF | {"better_response_id": 0}, 1.0),
        (SHP | {"labels": 0}, 0.0),
        (LLMBAR | {"label": 1}, 1.0),
    ],
)
def test_ties_and_the_other_side(values: dict[str, Any], p_a: float) -> None:
    assert to_preference(row(**values)).p_a == p_a


def test_candidates_of_equal_scores_are_a_tie() -> None:
    """The older rows have no fine-grained score; then the overall score counts."""
    completions = [{"response": text, "overall_score": 7} for text in ("Blue.", "Grey.")]
    tie = to_preference(row(instruction=Q, completions=completions))
    assert (tie.p_a, tie.margin, tie.pair) == (0.5, 0.0, BLUE)


def test_a_system_prompt_and_names_stand_beside_any_shape() -> None:
    got = to_preference(row(**PPE, system="Be brief.", subset="hard", group=3, source="arena"))
    assert got.pair.prompt[0] == Message("system", "Be brief.")
    assert (got.id, got.subset, got.group) == ("q2", "hard", "arena/3")


@pytest.mark.parametrize(
    ("values", "field", "reason"),
    [
        (HELPSTEER2 | {"preference_strength": "much"}, "preference_strength", "finite number"),
        (HELPSTEER3 | {"context": [{"role": "assistant", "content": "x"}]}, "context", "ends with a turn"),
        (ARENA | {"winner": "me"}, "winner", "expected one of model_a"),
        (ARENA | {"winner": 1}, "winner", "expected one of model_a"),
        (ARENA | {"conversation_b": said("ho", "hello", Q, "Blue.")}, "conversation_b", "no common prompt"),
        (ARENA | {"conversation_a": "no JSON"}, "conversation_a", "written as JSON"),
        (ARENA | {"conversation_a": []}, "conversation_a", "empty"),
        (ARENA_55K | {"winner_tie": 1}, "winner_model_a", "expected one of winner_model_a"),
        (ARENA_55K | {"winner_tie": 2}, "winner_tie", "true or false"),
        (ARENA_55K | {"response_a": json.dumps(["x", "y"])}, "response_a", "2 answers for 1 questions"),
        (ARENA_55K | {"response_a": json.dumps([None])}, "response_a[0]", "got nothing"),
        (ARENA_55K | {"prompt": "What?"}, "prompt", "written as JSON"),
        (PPE | {"response_2": "Blue."}, "response_2", "two answers are equal"),
        (
            ULTRAFEEDBACK | {"completions": ["Blue.", "Grey."]},
            "completions[0]",
            "expected an object, got str",
        ),
        (ULTRAFEEDBACK | {"completions": [{"response": "x"}]}, "completions", "two or more"),
        (
            ULTRAFEEDBACK | {"completions": [{"response": "x", "overall_score": 1}, {"response": "y"}]},
            "completions[1].overall_score",
            "finite number",
        ),
        (
            ULTRAFEEDBACK | {"completions": [{"overall_score": 1}, {"response": "y", "overall_score": 2}]},
            "completions[0].response",
            "got NoneType",
        ),
        (SAFE_RLHF | {"better_response_id": 2}, "better_response_id", "expected 0 or 1"),
        (WEBGPT | {"question": {"id": "x"}}, "question.full_text", "got NoneType"),
        (WEBGPT | {"score_1": None}, None, "no known form"),
        (OPENAI | {"input": "hi"}, "input", "got str"),
        (OPENAI | {"input": {"messages": []}}, "input.messages", "empty"),
        (OPENAI | {"preferred_output": said(Q)}, "preferred_output", "one assistant message"),
        (SWIFT | {"messages": said(Q)}, "messages", "assistant message last"),
        (SWIFT | {"rejected_response": 4}, "rejected_response", "got int"),
        (SUMMARIES | {"choice": 2}, "choice", "expected 0 or 1"),
        (SUMMARIES | {"info": {"title": "x"}}, "info", "neither a post nor an article"),
        (SUMMARIES | {"summaries": [{"text": "x"}]}, "summaries", "expected two"),
        (SUMMARIES | {"summaries": [{"text": "x"}, 3]}, "summaries[1].text", "got int"),
        (SHP | {"labels": 3}, "labels", "expected 0 or 1"),
        (LLMBAR | {"label": 0}, "label", "expected 1 or 2"),
    ],
)
def test_what_a_shape_cannot_hold(values: dict[str, Any], field: str | None, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse(row(**values))
    assert (caught.value.file, caught.value.line, caught.value.field) == ("rows.jsonl", 7, field)


def test_our_own_labels_win_over_those_of_published_data() -> None:
    """A row of two forms is read by the first line of the table in the documentation that fits."""
    both = PPE | {"chosen": "Blue!", "rejected": "Grey!"}
    assert to_preference(row(**both)).pair == Pair(Q, "Blue!", "Grey!")


@pytest.mark.parametrize("title", SHAPED)
def test_a_shape_with_tools_is_refused_until_they_are_left_out(title: str, tmp_path: Path) -> None:
    """OpenAI's rows have them beside the messages; ``--columns ignore=tools`` is the way out of all."""
    values, expected = SHAPED[title]
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    rows = [values | {"tools": tools}, values | {"tools": json.dumps(tools, indent=2)}]
    if title == "OpenAI preference fine-tuning":
        rows.append(values | {"input": values["input"] | {"tools": tools}})
    for number, with_tools in enumerate(rows):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(with_tools), encoding="utf-8")
        with pytest.raises(DataError, match="ignore=tools") as caught:
            read_preferences(path)
        assert caught.value.field in ("tools", "input.tools")
        with pytest.raises(DataError, match="ignore=tools"):
            to_scorable(row(**with_tools))
        assert read_preferences(path, columns="ignore=tools").examples == (expected,)


@pytest.mark.parametrize("title", SHAPED)
def test_a_shape_with_pictures_is_refused_until_they_are_left_out(title: str, tmp_path: Path) -> None:
    """As in ms-swift (paths) and RLAIF-V (a picture, in Parquet)."""
    values, expected = SHAPED[title]
    (path := tmp_path / "x.jsonl").write_text(json.dumps(values | {"images": ["a.jpg"]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.jsonl:1: field 'images'.*ignore=images"):
        read_preferences(path)
    assert read_preferences(path, columns="ignore=images").examples == (expected,)


def test_pictures_of_a_dataset_are_refused_until_they_are_left_out(tmp_path: Path) -> None:
    import datasets

    picture = {"bytes": b"\x89PNG", "path": "a.png"}
    rows = [{"question": Q, "chosen": "Blue.", "rejected": "Grey.", "image": picture}]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image(decode=False))
    table.to_parquet(path := tmp_path / "x.parquet")
    table.save_to_disk(saved := tmp_path / "saved")
    for source in (path, saved):
        with pytest.raises(DataError, match=r"field 'image'.*ignore=image"):
            read_preferences(source)
        assert read_preferences(source, columns="ignore=image").examples[0].pair == Pair(Q, "Blue.", "Grey.")


def test_the_content_of_a_message_is_read_as_it_stands() -> None:
    """Arena and ms-swift: a model that was asked for messages wrote some; as a text they would be refused."""
    text = json.dumps(said(Q))
    for title, name in (("Chatbot Arena (33k, 100k, 140k)", "conversation_a"), ("ms-swift", "messages")):
        values, expected = SHAPED[title]
        turns = [*values[name][:-1], {"role": "assistant", "content": text}]
        assert to_preference(row(**values | {name: turns})).pair == replace(expected.pair, a=text)
    values, _ = SHAPED["ms-swift"]
    with pytest.raises(DataError, match="field 'rejected_response': holds messages written as text"):
        parse(row(**values | {"rejected_response": text}))
