"""Messages with tool calls and thoughts in fields of their own: nothing of them is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from gram.errors import WrongTypeError
from gram.messages import message_text
from gram.turns import with_calls
from gram.types import as_chat

CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
TEXT = '<tool_call>\n{"name": "weather", "arguments": {"at": "Oslo"}}\n</tool_call>'

OTHER = {"name": "weather", "arguments": '{"at": "Rome"}'}
NULL = {"name": None, "arguments": None}  # as tables write a call that is not there


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Wait.", "tool_calls": [CALL]}, f"Wait.\n{TEXT}"),
        ({"content": "", "tool_calls": [CALL]}, TEXT),
        ({"content": None, "tool_calls": [CALL, CALL]}, f"{TEXT}\n{TEXT}"),
        ({"tool_calls": (CALL,)}, TEXT),
        ({"content": None, "function_call": CALL["function"]}, TEXT),
        ({"content": None, "function_call": CALL["function"], "tool_calls": [CALL]}, TEXT),
        ({"content": None, "function_call": NULL, "tool_calls": [CALL]}, TEXT),
        ({"content": "Wait.", "function_call": NULL}, "Wait."),
        ({"content": "Wait.", "tool_calls": [None, {"id": None, "function": NULL}]}, "Wait."),
        ({"content": [{"type": "text", "text": "Wait."}], "tool_calls": [CALL]}, f"Wait.\n{TEXT}"),
        ({"content": "Wait.", "tool_calls": None}, "Wait."),
        ({"content": "Wait.", "tool_calls": []}, "Wait."),
        ({"content": "4", "reasoning_content": "Hm."}, "<think>\nHm.\n</think>\n\n4"),
        ({"content": "4", "thinking": "Hm."}, "<think>\nHm.\n</think>\n\n4"),
        ({"content": "<think>Hm.</think>4", "reasoning": "Hm."}, "<think>Hm.</think>4"),
        ({"content": "", "reasoning": "Hm.", "tool_calls": [CALL]}, f"<think>\nHm.\n</think>\n\n\n{TEXT}"),
    ],
)
def test_calls_and_thoughts_become_text(message: dict[str, Any], text: str) -> None:
    assert message_text({"role": "assistant"} | message, "chosen[0]") == text
    [turn] = as_chat([{"role": "assistant"} | message])
    assert turn.content == text


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"content": None}, "chosen.content"),
        ({"content": None, "tool_calls": []}, "chosen.content"),
        ({"content": "x", "tool_calls": "call"}, "chosen.tool_calls"),
        ({"content": "x", "tool_calls": [{"function": {}}]}, "chosen.tool_calls"),
        ({"content": "x", "tool_calls": ["weather"]}, "chosen.tool_calls"),
        ({"content": "x", "function_call": OTHER, "tool_calls": [CALL]}, "chosen.function_call"),
        (
            {"content": "x", "function_call": CALL["function"], "tool_calls": [CALL, CALL]},
            "chosen.function_call",
        ),
        ({"content": None, "function_call": NULL}, "chosen.content"),
        ({"content": "x", "tool_calls": [{"name": "w", "arguments": "{"}]}, "chosen.tool_calls"),
        ({"content": "x", "reasoning": [{"type": "image"}]}, r"chosen.reasoning\[0\]"),
        ({"content": [{"type": "image_url"}], "tool_calls": [CALL]}, r"chosen.content\[0\]"),
    ],
)
def test_what_is_no_call_is_named(message: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongTypeError, match=rf"field '{field}"):
        message_text(message, "chosen")


def test_any_names_and_arguments_survive() -> None:
    odd = {"name": 'a"b', "arguments": {"</tool_call>": ["\n", None, 1.5, {"é": "🙂"}]}}
    assert with_calls("", [odd]).count("\n") == 2  # JSON has no line breaks of its own
