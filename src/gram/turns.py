"""Thoughts and tool calls in the text of an assistant's turn, in the notation that most open models write.

Data sets and trainers give them as fields of a message. Here they become text, ``<think>`` in front of the
words and ``<tool_call>`` with JSON behind, so that an answer stays one string. Rendering takes calls apart
again, and the chat template writes them in the model's own syntax. Knows no file and no template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_CALL = re.compile(r"<tool_call>\n(.*)\n</tool_call>")
_BEHIND = re.compile(rf"(?:\A|\n){_CALL.pattern}(?:\n{_CALL.pattern})*\Z")
THOUGHTS = re.compile(r"\A\s*<think>(.*?)</think>", re.DOTALL)
"""The thoughts in front of an answer, as reasoning models write them."""


def with_calls(words: str, calls: Sequence[Mapping[str, Any]]) -> str:
    r"""``words`` and the tool calls behind them.

    Args:
        calls: as OpenAI's API and ``transformers`` write them: ``{"function": {"name", "arguments"}}``, the
            arguments an object or its JSON; the inner object alone will do.

    Raises:
        ValueError: a call without a name, or with arguments that are no object.

    Example:
        >>> call = {"function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
        >>> print(with_calls("Let me look.", [call]))
        Let me look.
        <tool_call>
        {"name": "weather", "arguments": {"at": "Oslo"}}
        </tool_call>
    """
    blocks = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
            raise ValueError(f"a tool call needs a function with a name, got {call!r:.80}")
        content = {"name": name, "arguments": _arguments(function.get("arguments"))}
        blocks.append(f"<tool_call>\n{json.dumps(content, ensure_ascii=False)}\n</tool_call>")
    return "\n".join([words, *blocks] if words else blocks)


def with_thoughts(thoughts: str, words: str) -> str:
    r"""``words`` and the thoughts in front of them; words that have their thoughts in them stay as they are.

    Example:
        >>> with_thoughts("2 + 2.", "4")
        '<think>\n2 + 2.\n</think>\n\n4'
    """
    return words if THOUGHTS.match(words) else f"<think>\n{thoughts}\n</think>\n\n{words}"


def split_calls(text: str) -> tuple[str, list[dict[str, Any]]]:
    r"""What ``with_calls`` put together: the words, and the calls as ``{"type", "function"}``.

    Only text that ``with_calls`` would write is taken apart, so that nothing is lost on the way.

    Example:
        >>> split_calls(with_calls("Hm.", [{"name": "look", "arguments": {}}]))
        ('Hm.', [{'type': 'function', 'function': {'name': 'look', 'arguments': {}}}])
        >>> split_calls("no call")
        ('no call', [])
    """
    behind = _BEHIND.search(text)
    if behind is None:
        return text, []
    words = text[: behind.start()]
    try:
        functions = [json.loads(match[1]) for match in _CALL.finditer(text, behind.start())]
        if with_calls(words, functions) != text:
            return text, []
    except (ValueError, RecursionError):
        return text, []
    return words, [{"type": "function", "function": function} for function in functions]


def _arguments(value: object) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            raise ValueError(
                f"the arguments of a tool call must be a JSON object, got {value!r:.80}"
            ) from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"the arguments of a tool call must be an object, got {value!r:.80}")
    return value
