"""One tokenizer's chat template as a function from messages to text.

It gives the same text on every day, has been tried under limits before it is used, and says what it refuses.
Knows jinja's ways of misbehaving; does not know where in the text a content stands.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from gram.errors import TemplateError
from gram.rendering.limits import trial
from gram.turns import split_calls

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]

DATE = "2024-07-26"
"""The day that a template which asks for one is told: the one that Llama's templates name by themselves."""

_DIRECTIVES = "aAbBcdDeFgGhHIjmMnpSTuUVwWxXyYZf"
_failures: dict[str, str | None] = {}  # per template and special tokens, why it cannot be used


class ChatTemplate:
    """The chat template of ``tokenizer``.

    Args:
        tokenizer: one with a chat template.
        date: what the template is told when it asks for today's date, in ISO form.
        switched: switch thoughts off (``enable_thinking``) in finished conversations too, where some
            templates write the switch into a user's or the system's turn.

    Raises:
        TemplateError: the template takes too long, too much memory, or writes too much.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, date: str = DATE, *, switched: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._switched = switched
        self.options = dated(tokenizer, date)
        special = tokenizer.special_tokens_map
        key = json.dumps([self.options, tokenizer.chat_template, special, switched], default=str)
        if key not in _failures:
            _failures[key] = trial(self._raw)
        if reason := _failures[key]:
            raise TemplateError(f"the tokenizer's chat template {reason}; it is not used")

    def text(self, messages: Sequence[Message], open_answer: bool, *, thinking: bool = False) -> str:
        """The conversation as text, as ``apply_chat_template`` writes it.

        Args:
            open_answer: end with the cue for the assistant to speak.
            thinking: let the cue of a reasoning model leave room for thoughts.

        Raises:
            TemplateError: the template refuses the conversation.
        """
        try:
            return self._raw(messages, open_answer, thinking=thinking)
        except Exception as error:  # templates raise whatever they like, jinja2's own errors among it
            roles = ", ".join(str(message["role"]) for message in messages)
            raise TemplateError(
                f"the tokenizer's chat template refuses turns of ({roles}): {error}"
            ) from error

    def conversation(
        self, contents: Sequence[tuple[str, str]], open_answer: bool
    ) -> tuple[list[dict[str, Any]], str]:
        """Roles and contents as messages, and the text of these.

        Tool calls behind an answer's words become a field of its message, for the template to write in the
        model's syntax; where it does not know them, they stay part of the words.

        Raises:
            TemplateError: the template refuses the conversation.
        """
        plain = [{"role": role, "content": content} for role, content in contents]
        parted = [
            split_calls(content) if role == "assistant" else (content, []) for role, content in contents
        ]
        if not any(calls for _, calls in parted):
            return plain, self.text(plain, open_answer)
        bare: list[dict[str, Any]] = [
            message | {"content": words} for message, (words, _) in zip(plain, parted, strict=True)
        ]
        called = [
            message | ({"tool_calls": calls} if calls else {})
            for message, (_, calls) in zip(bare, parted, strict=True)
        ]
        try:
            text = self.text(called, open_answer)
        except TemplateError:
            called = [_with_json(message) for message in called]
            text = self.text(called, open_answer)
        try:
            shown = text != self.text(bare, open_answer)
        except TemplateError:  # refuses the reply of a tool that nobody called
            shown = True
        return (called, text) if shown else (plain, self.text(plain, open_answer))

    def _raw(self, messages: Sequence[Message], open_answer: bool, *, thinking: bool = False) -> str:
        # known to templates of reasoning models, ignored by the others
        switch = {"enable_thinking": thinking} if open_answer or self._switched else {}
        return self._tokenizer.apply_chat_template(  # type: ignore[return-value]
            list(messages),  # type: ignore[arg-type]
            tokenize=False,
            add_generation_prompt=open_answer,
            **switch,
            **self.options,
        )


def _with_json(message: dict[str, Any]) -> dict[str, Any]:
    """``message`` with the arguments of its calls as JSON, as OpenAI writes them and DeepSeek wants them."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(arguments, ensure_ascii=False)}}
        for call in message.get("tool_calls", [])
        for arguments in [call["function"]["arguments"]]
    ]
    return message | ({"tool_calls": calls} if calls else {})


def dated(tokenizer: PreTrainedTokenizerBase, date: str = DATE) -> dict[str, Any]:
    """Options of ``apply_chat_template`` that give a template a fixed day in place of the clock's.

    Templates ask with ``strftime_now(format)``. A macro of that name in front of the template answers; it is
    as jinja sees it the only such name, and the rest of the template stays as it is.

    Example:
        A tokenizer without a template needs none::

            >>> from types import SimpleNamespace
            >>> dated(SimpleNamespace(chat_template=None))
            {}
    """
    if not tokenizer.chat_template:
        return {}
    template = tokenizer.get_chat_template()
    return {"chat_template": _clock(date) + template} if "strftime_now" in template else {}


@cache
def _clock(date: str) -> str:
    """A jinja macro ``strftime_now`` for one day: each directive becomes its text on that day."""
    day = datetime.date.fromisoformat(date)
    texts = {f"%{mark}{letter}": day.strftime(f"%{letter}") for letter in _DIRECTIVES for mark in ("", "-")}
    texts |= {f"%-{letter}": day.strftime(f"%{letter}").lstrip("0") or "0" for letter in "dmHIMSjyUWVwu"}
    replaced = "".join(
        f" | replace({json.dumps(mark)}, {json.dumps(text.strip())})" for mark, text in texts.items()
    )
    # jinja drops the line break behind a block, so that the template begins at the start of a line as before
    return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n"
