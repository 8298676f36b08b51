"""Prompts and answers: what is taken apart can be put together again."""

from __future__ import annotations

import json

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gram.data.chats import answer_of, prompt_of, transcript_of
from gram.data.implicit import implicit_prompt
from gram.errors import DataError
from gram.types import Chat, Message, as_chat

LETTERS = st.characters(codec="utf-8", exclude_categories=["Cs"])
CONTENT = st.text(LETTERS, min_size=1, max_size=30).map(str.strip).filter(bool)


def spoken(text: str) -> bool:
    """Whether ``text`` can be one turn of a transcript: it must not look like the start of another."""
    return "Human:" not in text and "Assistant:" not in text


def transcript(turns: Chat) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in turns)


def chat(*contents: str) -> Chat:
    """User and assistant in turn, beginning with the user."""
    roles = ("user", "assistant")
    return tuple(Message(roles[k % 2], content) for k, content in enumerate(contents))


@given(st.lists(CONTENT.filter(spoken), min_size=1, max_size=6))
def test_transcripts_round_trip(contents: list[str]) -> None:
    assert transcript_of(transcript(chat(*contents))) == chat(*contents)


@given(st.lists(CONTENT.filter(spoken), min_size=1, max_size=5).filter(lambda turns: len(turns) % 2 == 1))
def test_the_prompt_of_two_transcripts_is_all_but_the_last_turn(contents: list[str]) -> None:
    prompt = chat(*contents)
    sides = [transcript((*prompt, Message("assistant", answer))) for answer in ("yes, do", "yes, do not")]
    assert implicit_prompt(*sides) == (prompt, "yes, do", "yes, do not")


@pytest.mark.parametrize(
    "text",
    [
        "an answer",
        "",
        "See:\n\nHuman: hi\n\nAssistant: hello",  # quoted inside of something else
        "\n\nAssistant: hello",  # nobody asked
        "Human: a word that a story may begin with",
    ],
)
def test_what_is_no_transcript(text: str) -> None:
    assert transcript_of(text) is None


def test_a_transcript_may_lack_the_leading_newlines() -> None:
    assert transcript_of("Human: hi\n\nAssistant: hello") == chat("hi", "hello")


def test_a_transcript_prompt_may_end_where_the_answer_begins() -> None:
    assert prompt_of("\n\nHuman: hi\n\nAssistant:") == chat("hi")
    assert prompt_of("\n\nHuman: hi") == chat("hi")
    assert prompt_of("hi") == chat("hi")


@given(CONTENT, CONTENT, CONTENT)
def test_shared_words_put_together_give_the_strings(prompt: str, x: str, y: str) -> None:
    """prompt + answer is what was given, and the cut is where a word ends."""
    chosen, rejected = f"{prompt} {x}", f"{prompt} {y}"
    try:
        (turn,), good, bad = implicit_prompt(chosen, rejected)
    except DataError:
        # the words may be the same on both sides, or the prompt may be (part of) the first word
        assert x == y or x.startswith(y) or y.startswith(x) or spoken(prompt) is False
        return
    assert turn.role == "user"
    assert turn.content + good == chosen
    assert turn.content + bad == rejected
    assert good[0].isspace() and bad[0].isspace() and not turn.content[-1].isspace()


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("The sky is blue.", "The sky is black.", ("The sky is", " blue.", " black.")),
        ("Q: x?\n\nyes", "Q: x?\n\nno", ("Q: x?", "\n\nyes", "\n\nno")),
        ("Say it again", "Say it", ("Say", " it again", " it")),
    ],
)
def test_shared_words_by_hand(chosen: str, rejected: str, expected: tuple[str, str, str]) -> None:
    """ "The sky is bl" is shared too, but "bl" is no word: it stays with the answers."""
    prompt, good, bad = implicit_prompt(chosen, rejected)
    assert (prompt[0].content, good, bad) == expected


def test_messages_share_all_turns_but_the_last() -> None:
    """The answers are different although they begin alike: turns are never cut."""
    sides = [
        [{"role": turn.role, "content": turn.content} for turn in chat("hi", "hello", "why?", f"since {x}")]
        for x in "ab"
    ]
    assert implicit_prompt(*sides) == (chat("hi", "hello", "why?"), "since a", "since b")


U, A = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("chosen", "rejected", "field", "reason"),
    [
        ("blue", "green", "prompt", "neither in a field of its own"),
        ("", "", "prompt", "neither in a field of its own"),
        ([A], [A], "prompt", "neither in a field of its own"),
        ([U, A], [U, A, U, A], "rejected", "differs from 'chosen' before the last answer"),
        ([U, A], [U], "rejected", "assistant turn last, got user"),
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: b", "rejected", "before the last"),
        ("\n\nHuman: a\n\nAssistant:", "\n\nHuman: a\n\nAssistant: b", "chosen", "answer is empty"),
        ([U, A], "hello", "rejected", "list of messages, got str"),
        ([U, A], 7, "rejected", "got int"),
        ([U, A], [], "rejected", "empty"),
        ([U, A], [U, "hello"], "rejected[1]", "expected a message"),
        ([U, {"role": "gpt", "content": "x"}], [U, A], "chosen[1].role", "got 'gpt'"),
        ([U, {"role": "assistant"}], [U, A], "chosen[1].content", "expected a string"),
        ([U, A], [U, {"role": "assistant", "content": " "}], "rejected", "answer is empty"),
    ],
)
def test_what_gives_no_implicit_prompt(chosen: object, rejected: object, field: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        implicit_prompt(chosen, rejected)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "prompt is empty"),
        (" \n", "prompt is empty"),
        ([], "list of messages is empty"),
        ([U, A], "ends with a turn of the assistant"),
        ([{"role": "system", "content": "Be kind."}], "ends with a turn of the system"),
        ({"role": "user", "content": "hi"}, "got dict"),
        ("half \ud800", "surrogate"),
    ],
)
def test_what_is_no_prompt(prompt: object, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        prompt_of(prompt)
    assert caught.value.field == "prompt"


def test_an_answer_may_come_after_the_whole_prompt() -> None:
    prompt = as_chat("hi")
    assert answer_of([U, A], "chosen", prompt) == "hello"
    assert answer_of([A], "chosen", prompt) == "hello"
    assert answer_of("\n\nHuman: hi\n\nAssistant: hello", "chosen", prompt) == "hello"
    assert answer_of(" hello ", "chosen", prompt) == " hello "


def test_a_story_told_as_a_transcript_stays_an_answer() -> None:
    story = "\n\nHuman: hi\n\nAssistant: hello"
    assert answer_of(story, "chosen", as_chat("Write a dialogue.")) == story


@pytest.mark.parametrize("value", [[U], [A, U], [U, U, A], [A, A]])
def test_an_answer_is_one_assistant_message(value: object) -> None:
    with pytest.raises(DataError, match="expected one assistant message"):
        answer_of(value, "chosen", as_chat("hi"))


PARTS = {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}


@pytest.mark.parametrize("field", ["chosen", "prompt"])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps([U, A]),
        json.dumps([A]),
        json.dumps([A], indent=2),
        json.dumps(A),
        json.dumps({"content": "it's", "role": "assistant"}),
        json.dumps([{"from": "gpt", "value": "hello"}]),
        str([U, A]),
        str([A]),
        str(A),
        f"\n{[A]}\n",
        str({"value": "hello", "from": "gpt"}),
        str(numpy.array([U, A])),
        str([U, PARTS | {"content": numpy.array(PARTS["content"])}]),
        str([U, A | {"content": r"C:\d 'x'"}]),
    ],
)
def test_messages_written_as_text_are_no_text(text: str, field: str) -> None:
    """JSON in a string, and what ``str`` makes of lists and of numpy's arrays, which have no commas."""
    with pytest.raises(DataError, match=r"holds messages written as text.*in " + field):
        prompt_of(text, field) if field == "prompt" else answer_of(text, field, as_chat("hi"))
    if field == "chosen":  # the way out that the error shows
        assert answer_of([{"role": "assistant", "content": text}], field, as_chat("hi")) == text


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[{}]",
        '[{"role": "admin", "content": "x"}]',
        '{"role": "user", "name": "Ada"}',
        '{"from": "Oslo", "value": 3}',
        '[{"from": "gpt"}]',
        "[{'role': 'user', 'content': question}]",
        "[{'role': 'user', 'content': 'x'}][0]['content']",
        'Send this:\n[{"role": "user", "content": "x"}]',
        '[{"role": "user", "content": "x"}, 3]',
        '{"messages": [{"role": "user", "content": "x"}]}',
        "{[]: {'role': 'user'}}",
        "{" * 3000 + "'role': 'user'",
        "[{'role': '\\d' \x00",
    ],
)
def test_an_answer_may_be_json_or_python(text: str) -> None:
    """Only what is messages as a whole is taken for them."""
    assert answer_of(text, "chosen", as_chat("hi")) == text


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"at": "Oslo"}}}
CALLED = '<tool_call>\n{"name": "weather", "arguments": {"at": "Oslo"}}\n</tool_call>'


def test_tool_calls_and_thoughts_are_read() -> None:
    """In prompts and answers, with a content, an empty one or none; in prompts their results follow."""
    turns = [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "4 degrees", "tool_call_id": "1"},
    ]
    prompt = prompt_of(turns)
    assert [turn.content for turn in prompt] == ["Is it warm?", CALLED, "4 degrees"]
    for content, text in [("", CALLED), (None, CALLED), ("Wait.", f"Wait.\n{CALLED}")]:
        answer = [{"role": "assistant", "content": content, "tool_calls": [CALL]}]
        assert answer_of(answer, "chosen", prompt) == text
        assert answer_of([*turns, *answer], "chosen", prompt) == text
    thought = [{"role": "assistant", "content": "No.", "reasoning_content": "4 is cold."}]
    assert answer_of(thought, "chosen", prompt) == "<think>\n4 is cold.\n</think>\n\nNo."
    with pytest.raises(DataError, match=r"field 'chosen\[0\].tool_calls'"):
        answer_of([{"role": "assistant", "content": "", "tool_calls": [{}]}], "chosen", prompt)
