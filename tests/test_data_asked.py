"""The question is found in whatever column it stands in, and never guessed where a column may hold it."""

from __future__ import annotations

from typing import Any

import pytest

from gram.data import Row, parse
from gram.data.rows import to_preference
from gram.errors import DataError
from gram.types import Answer, Chat, Contest, Message, Preference, ResponsePair

Q = "What colour is an apple?"
GOOD, BAD = "An apple is often red.", "An apple tree is a plant."
PAIR = {"chosen": GOOD, "rejected": BAD}
USER = (Message("user", Q),)


def read(values: dict[str, Any]) -> Any:
    return parse(Row(values, "rows.jsonl", 7))


def prompt_of(values: dict[str, Any]) -> Chat:
    example = read(values)
    return example.pair.prompt if isinstance(example, Preference) else example.prompt


def fault(values: dict[str, Any]) -> DataError:
    with pytest.raises(DataError) as caught:
        read(values)
    assert (caught.value.file, caught.value.line) == ("rows.jsonl", 7)
    return caught.value


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [
        ({"prompt": Q}, USER),
        ({"question": Q}, USER),
        ({"query": Q}, USER),
        ({"instruction": Q}, USER),
        ({"instruction": Q, "input": ""}, USER),
        ({"instruction": Q, "input": None}, USER),
        ({"instruction": "Answer.", "input": Q}, (Message("user", f"Answer.\n\n{Q}"),)),
        ({"instruction": "", "input": Q}, USER),
        ({"input": Q}, USER),
        ({"problem": Q}, USER),
        ({"user_prompt": Q}, USER),
        ({"question": Q, "instruction": Q}, USER),
        ({"prompt": Q, "instruction": "something else"}, USER),
        ({"prompt": Q, "input": Q}, USER),
        ({"question": Q, "system": "Be kind."}, (Message("system", "Be kind."), *USER)),
        ({"question": Q, "system_prompt": "Be kind."}, (Message("system", "Be kind."), *USER)),
        ({"question": Q, "system": ""}, USER),
        (
            {"instruction": Q, "history": [["hi", "hello"]]},
            (Message("user", "hi"), Message("assistant", "hello"), *USER),
        ),
        ({"question": [{"role": "user", "content": Q}]}, USER),
        ({"messages": [{"role": "user", "content": Q}]}, USER),
        ({"conversations": [{"from": "human", "value": Q}]}, USER),
        ({"conversation": [{"from": "human", "value": Q}]}, USER),
        ({"context": [{"role": "user", "content": Q}]}, USER),
    ],
)
def test_the_question_is_read_from_columns_of_other_names(columns: dict[str, Any], prompt: Chat) -> None:
    """No answer loses a word to the question, although both begin with "An apple"."""
    example = read({**columns, **PAIR})
    assert isinstance(example, Preference)
    assert (example.pair.prompt, example.pair.a, example.pair.b) == (prompt, GOOD, BAD)


@pytest.mark.parametrize("name", ["question", "query", "instruction", "problem"])
def test_all_forms_find_the_question(name: str) -> None:
    assert prompt_of({name: Q, "response": "Red."}) == USER
    assert isinstance(read({name: Q, "completion": "Red."}), Answer)
    assert isinstance(read({name: Q, "a": "Red.", "b": "Blue."}), ResponsePair)
    assert isinstance(read({name: Q, "a": "Red.", "b": "Blue.", "p_a": 0.5}), Preference)
    assert isinstance(read({name: Q, "responses": ["Red.", "Blue."]}), Contest)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("frage", Q),
        ("Question", Q),
        ("post", Q),
        ("topic", "apples"),
        ("title", "为什么天是蓝的"),
        ("text", Q),
        ("turns", [Q]),
        ("dialogue", [{"speaker": "x", "utterance": Q}]),
        ("meta", {"inner": {"ask": Q}}),
        ("chosen_prompt", Q),
        ("blob", b"What?"),
        ("history", [["hi", "hello"]]),
    ],
)
def test_a_column_that_may_be_the_question_stops_the_guess(column: str, value: Any) -> None:
    error = fault({column: value, **PAIR})
    assert error.field == column
    assert f"--columns prompt={column}" in error.reason and f"--columns ignore={column}" in error.reason


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"id": "a", "source": "wiki text", "subset": "hard ones", "split": "train", "group": "g"},
        {"dataset": "an old one", "chosen_model": "gpt 4", "model_rejected": "x", "language": "en"},
        {"category": "open questions", "tags": ["a", "b"], "score": 3, "margin": 1, "is_code": False},
        {"chosen_rationale": "it is right", "rejected_feedback": "no", "metadata": {"source": "x", "n": 3}},
        {"topic": "", "title": "  ", "turns": [], "created_at": None, "": "0", "Unnamed: 0": "0"},
    ],
)
def test_columns_that_say_something_else_do_not(beside: dict[str, Any]) -> None:
    """The implicit prompt of two strings: their common beginning up to the end of a word."""
    example = read({**beside, **PAIR})
    assert (example.pair.prompt[0].content, example.pair.a) == ("An apple", " is often red.")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prompt": None, **PAIR}, "prompt"),
        ({"prompt": None, "question": Q, **PAIR}, "prompt"),
        ({"question": None, **PAIR}, "question"),
        ({"instruction": None, "input": "", **PAIR}, "input"),
        ({"prompt": None, "a": "x", "b": "y", "p_a": 1}, "prompt"),
        ({"prompt": None, "response": "x"}, "prompt"),
        ({"prompt": "", **PAIR}, "prompt"),
        ({"question": " ", **PAIR}, "question"),
        ({"prompt": None, "chosen": [{"role": "user", "content": Q}, {"role": "assistant", "content": "x"}],
          "rejected": [{"role": "user", "content": Q}, {"role": "assistant", "content": "y"}]}, "prompt"),
    ],
)  # fmt: skip
def test_a_question_that_is_null_or_empty_is_an_error(values: dict[str, Any], field: str) -> None:
    error = fault(values)
    assert error.field == field and ("null" in error.reason or "empty" in error.reason)


@pytest.mark.parametrize(
    ("columns", "field", "reason"),
    [
        ({"question": Q, "query": "Why?"}, "query", "differs from 'question'"),
        ({"prompt": Q, "input": "a text"}, "input", "--columns instruction=prompt, .* ignore=input"),
        ({"question": Q, "context": "a text"}, "context", "--columns input=context, .* ignore=context"),
        ({"instruction": Q, "history": "hi"}, "history", r"a list of \[question, answer\]"),
        ({"question": Q, "system": "Be kind.", "system_prompt": "Be rude."}, "system_prompt", "differs"),
        ({"question": {"text": Q}}, "question", "got dict"),
        (
            {"messages": [{"role": "assistant", "content": Q}]},
            "messages",
            "ends with a turn of the assistant",
        ),
    ],
)
def test_columns_that_contradict_each_other(columns: dict[str, Any], field: str, reason: str) -> None:
    error = fault({**columns, **PAIR})
    assert error.field == field
    with pytest.raises(DataError, match=reason):
        raise error


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(contents)]


def test_conversations_with_a_common_beginning_need_no_other_column() -> None:
    """TRL's implicit form with messages: exact, so that other columns (here a title) do no harm."""
    example = read(
        {"title": Q, "question": "?", "chosen": said("hi", "a", Q, "b"), "rejected": said("hi", "a", Q, "c")}
    )
    assert example.pair.prompt == (Message("user", "hi"), Message("assistant", "a"), *USER)
    transcripts = {"chosen": f"\n\nHuman: {Q}\n\nAssistant: b", "rejected": f"\n\nHuman: {Q}\n\nAssistant: c"}
    assert prompt_of({"title": "x", "question": "Another?", **transcripts}) == USER


def test_lone_assistant_messages_need_a_question() -> None:
    lone = {"chosen": said("", GOOD)[1:], "rejected": said("", BAD)[1:]}
    assert prompt_of({"question": Q, **lone}) == USER
    assert fault({"frage": Q, **lone}).field == "prompt"


MARKUP = [
    f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n",
    f"<bos><start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n",
    f"[INST] {Q} [/INST]",
    f"<s>[INST] {Q} [/INST]",
    f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{Q}<|eot_id|>",
    f"\n<|user|>\n{Q}</s>\n<|assistant|>\n",
    f"<｜begin▁of▁sentence｜><｜User｜>{Q}<｜Assistant｜>",
    f"<|start|>user<|message|>{Q}<|end|>",
    f"<extra_id_0>System\n\n<extra_id_1>User\n{Q}\n",
    str([{"role": "user", "content": Q}]),
    '[{"from": "human", "value": "x"}]',
]


@pytest.mark.parametrize("markup", MARKUP)
def test_a_chat_in_some_models_markup_is_refused(markup: str) -> None:
    """As the prompt, as an answer, and as the beginning that two answers share."""
    assert fault({"prompt": markup, **PAIR}).field == "prompt"
    assert fault({"chosen": markup + GOOD, "rejected": markup + BAD}).field == "chosen"
    if Q in markup and ("INST" in markup or markup[0] != "["):
        assert fault({"prompt": Q, "response": markup}).field == "response"
    running_on = "<|user|>\nCan you add a feature?"  # an answer of a model that did not stop
    assert read({"prompt": Q, "response": running_on}).response == running_on
    told = f"What does this mean: {markup}"
    assert prompt_of({"prompt": told, **PAIR})[0].content == told  # a question about it is a question
    meant = [{"role": "user", "content": markup}]
    assert prompt_of({"prompt": meant, **PAIR})[0].content == markup  # the way out that the message names


@pytest.mark.parametrize(
    ("chosen", "rejected", "field"),
    [
        (f"Be kind.\n\nHuman: {Q}\n\nAssistant: x", f"Be kind.\n\nHuman: {Q}\n\nAssistant: y", "chosen"),
        (f"\n\nHuman: {Q}\n\nAssistant: x", f"\n\nHuman : {Q}\n\nAssistant: y", "chosen"),
    ],
)
def test_half_a_transcript_gives_no_prompt(chosen: str, rejected: str, field: str) -> None:
    assert fault({"chosen": chosen, "rejected": rejected}).field == field


def test_the_last_question_alone_does_not_stand_for_a_conversation() -> None:
    told = [f"\n\nHuman: hi\n\nAssistant: hello\n\nHuman: {Q}\n\nAssistant: {answer}" for answer in "xy"]
    error = fault({"prompt": Q, "chosen": told[0], "rejected": told[1]})
    assert error.field == "prompt" and "not all that stands before" in error.reason


def test_several_turns_as_helpsteer_writes_them() -> None:
    prompt = f"hi\n<extra_id_1>Assistant\nhello\n<extra_id_1>User\n{Q}"
    assert prompt_of({"prompt": prompt, "response": "Red."}) == (
        Message("user", "hi"),
        Message("assistant", "hello"),
        *USER,
    )


# --- A prompt that answers repeat ---


@pytest.mark.parametrize(
    ("prompt", "answers", "left"),
    [
        (Q, [f"{Q} {GOOD}", f"{Q}\n{BAD}"], [GOOD, BAD]),
        (Q, [f"{Q}{GOOD}", f"{Q}{BAD}"], [GOOD, BAD]),
        ("Why?", ["Why? So.", "Why? No."], ["So.", "No."]),
        (
            "def f(x):",
            ["def f(x):\n    return 1", "def f(x):\n    return 2"],
            ["    return 1", "    return 2"],
        ),
        ("Hello", ["Hello! How are you?", "Hello there"], None),  # a greeting, not the prompt
        (Q, [f"{Q} {GOOD}", BAD], None),  # only one of them repeats it
        (Q, [Q, f"{Q} {BAD}"], None),  # nothing would be left
        ("Name a good cat", ["Name a good category", "Name a good catalogue"], None),  # amid a word
        ("To chop parsley", ["To chop parsley, cut it.", "To chop parsley, eat it."], None),  # a sentence
        ("Name a good cat", ["Name a good cat\n\nTom.", "Name a good cat\nNo."], ["Tom.", "No."]),
        ("Name a good cat.", ["Name a good cat. Tom.", "Name a good cat. No."], ["Tom.", "No."]),
        ("Hello!", ["Hello! How are you?", "Hello! So?"], None),
    ],
)
def test_a_prompt_that_all_answers_repeat_is_taken_off(
    prompt: str, answers: list[str], left: list[str] | None
) -> None:
    expected = left or answers
    pair = read({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}).pair
    assert [pair.a, pair.b] == expected
    assert list(read({"prompt": prompt, "responses": answers}).responses) == expected
    both = read({"prompt": prompt, "a": answers[0], "b": answers[1]})
    assert [both.first, both.second] == expected


def test_one_answer_may_repeat_the_prompt_too() -> None:
    assert read({"prompt": Q, "response": f"{Q} {GOOD}"}).response == GOOD
    assert read({"prompt": said("hi", "hello", Q), "response": f"{Q} {GOOD}"}).response == f"{Q} {GOOD}"


# --- Messages ---


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def test_text_parts_are_put_together() -> None:
    prompt = [{"role": "user", "content": parts("What colour ", "is an apple?")}]
    answers = {name: [{"role": "assistant", "content": parts(text)}] for name, text in PAIR.items()}
    example = read({"prompt": prompt, **answers})
    assert (example.pair.prompt, example.pair.a, example.pair.b) == (USER, GOOD, BAD)
    with_nulls = [{"type": "text", "text": Q, "image": None, "mimeType": None}]
    assert prompt_of({"prompt": [{"role": "user", "content": with_nulls}], "response": "x"}) == USER


@pytest.mark.parametrize(
    ("part", "field", "reason"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "", "a part of the type 'image_url'; only text"),
        ({"type": "input_audio", "input_audio": {}}, "", "a part of the type 'input_audio'"),
        ({"type": "image"}, "", "a part of the type 'image'"),
        ({"type": ["text"]}, "", "a part of the type"),
        ({"type": "text"}, ".text", "got nothing"),
        (7, "", "got int"),
    ],
)
def test_other_parts_are_refused_by_name(part: Any, field: str, reason: str) -> None:
    error = fault({"prompt": [{"role": "user", "content": [*parts(Q), part]}], "response": "x"})
    assert error.field == f"prompt[0].content[1]{field}" and reason in error.reason


def test_sharegpt_names_and_lone_messages() -> None:
    turns = [{"from": "system", "value": "Be kind."}, {"from": "human", "value": Q}]
    example = read(
        {
            "conversations": turns,
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"role": "assistant", "content": BAD},
        }
    )
    assert example.pair.prompt == (Message("system", "Be kind."), *USER)
    assert (example.pair.a, example.pair.b) == (GOOD, BAD)
    assert fault({"conversations": [{"from": "nobody", "value": Q}], **PAIR}).field == "conversations[0].from"
    assert fault({"conversations": [{"from": ["gpt"], "value": Q}], **PAIR}).field == "conversations[0].from"


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "function"}],
        {"type": "function"},
        ["get_weather(city)"],
        '[{"type": "function"}]',
        '[\n  {\n    "type": "function"\n  }\n]',
        '["get_weather(city)"]',
        '{"type": "function"}',
        "[{'type': 'function'}]",
        '"[{\\"type\\": \\"function\\"}]"',
        '<tools>\n{"type": "function"}\n</tools>',
    ],
)
def test_descriptions_of_tools_are_not_dropped_in_silence(tools: Any) -> None:
    """A chat template would show them to the model; a row says so, or they are left out on purpose."""
    fields = {"prompt": "Is it warm?", "chosen": "Yes.", "rejected": "No.", "tools": tools}
    with pytest.raises(DataError, match=r"field 'tools'.*--columns ignore=tools"):
        to_preference(Row(fields, "rows.jsonl", 1))
    for harmless in (None, [], {}, [None], {"type": None, "functions": []}, "hammer", "", "[]", "[ ]", "{}"):
        assert to_preference(Row(fields | {"tools": harmless}, "rows.jsonl", 1)).pair.a == "Yes."


@pytest.mark.parametrize(
    ("question", "extra"),
    [
        ("Is the letter below a vowel?", "a"),
        ("Add 12 and the number below.", "2"),
        ("Translate the sentence into French. Use 'I am here' as a model.", "I am"),
        ("Define the following word", "word"),
    ],
)
def test_an_input_whose_letters_are_in_the_question_by_chance_is_read(question: str, extra: str) -> None:
    """In every form that has a question: after a blank line, as in Alpaca; beside ``prompt``, an error."""
    whole = (Message("user", f"{question}\n\n{extra}"),)
    for answers in (
        PAIR,
        {"response": "x"},
        {"responses": ["x", "y"]},
        {"response_j": "x", "response_k": "y"},
    ):
        assert prompt_of({"question": question, "input": extra, **answers}) == whole
    helpsteer = {"response_1": "x", "response_2": "y", "preference_strength": 1}
    assert prompt_of({"instruction": question, "input": extra, **helpsteer}) == whole
    for part in ("input", "context"):
        assert fault({"prompt": question, part: extra, **PAIR}).field == part
    assert fault({"question": question, "query": extra, **PAIR}).field == "query"


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("Translate: Good morning.", "Good morning."),
        ("Translate Good morning to all", "Good morning to all"),
        ("### Instruction:\nTranslate.\n\n### Input:\n Hola\n\n### Response:", "Hola\n"),
        ("### Input: Hola\n### Response:", "Hola"),
        ("The sky is blue. What colour is it?", "The sky is blue."),
        ("Context: The sky is blue. Question: What colour is it?", "The sky is blue."),
        ("a a a", "a a"),
    ],
)
def test_a_text_that_the_question_holds_is_not_written_twice(question: str, part: str) -> None:
    user = (Message("user", question),)
    assert prompt_of({"prompt": question, "input": part, "context": part, **PAIR}) == user
    assert prompt_of({"instruction": question, "input": part, **PAIR}) == user
    assert prompt_of({"prompt": [{"role": "user", "content": question}], "input": part, **PAIR}) == user


def test_a_question_in_messages_loses_nothing_that_stands_beside_it() -> None:
    """As with text: ``history`` comes before (after a system turn), ``input`` and ``context`` are errors."""
    ask, hi, hello = {"role": "user", "content": Q}, Message("user", "hi"), Message("assistant", "hello")
    swift = {"messages": [ask, {"role": "assistant", "content": "x"}], "rejected_response": "y"}
    rows = [
        {"prompt": [ask], **PAIR},
        {"messages": [ask], **PAIR},
        {"question": [ask], "response": "x"},
        swift,
        {"messages": swift["messages"]},
        {"context": [ask], "response1": "x", "response2": "y", "overall_preference": 1},
        {"input": {"messages": [ask]}, "preferred_output": "x", "non_preferred_output": "y"},
        {"question": {"full_text": Q}, "answer_0": "x", "answer_1": "y", "score_0": 0, "score_1": 1},
        {"input": Q, "output_1": "x", "output_2": "y", "label": 1},
    ]
    for values in rows:
        assert prompt_of({**values, "history": [["hi", "hello"]]}) == (hi, hello, *USER)
        for part in ("input", "context"):
            if part not in values:
                assert "ignore=" in fault({**values, part: "Read this."}).reason
    system = {"role": "system", "content": "Be kind."}
    whole = (Message("system", "Be kind."), hi, hello, *USER)
    assert prompt_of({"prompt": [system, ask], "history": [["hi", "hello"]], **PAIR}) == whole
    turns = [{"role": turn.role, "content": turn.content} for turn in whole]
    assert prompt_of({"prompt": turns, "history": [["hi", "hello"]], "context": turns[1:3], **PAIR}) == whole
    assert fault({"question": [ask], "query": "Why?", **PAIR}).field == "query"


@pytest.mark.parametrize("name", ["messages", "conversations", "conversation"])
def test_the_last_question_alone_does_not_stand_for_a_list_of_messages(name: str) -> None:
    """Nor where its answer follows; a list that says no more than the question does no harm."""
    turns = said("hi", "hello", Q, GOOD)
    for conversation in (turns, turns[:-1], [{"role": "system", "content": "Be kind."}, *turns[2:]]):
        error = fault({"prompt": Q, name: conversation, **PAIR})
        assert error.field == name and f"ignore={name}" in error.reason
    for conversation in (turns[2:], turns[2:3], [], ["odd"], said("Why?")):
        assert prompt_of({"prompt": Q, name: conversation, **PAIR}) == USER
    system = [{"role": "system", "content": "Be kind."}, *turns[2:]]
    prompt = prompt_of({"prompt": Q, "system": "Be kind.", name: system, **PAIR})
    assert prompt == (Message("system", "Be kind."), *USER)
