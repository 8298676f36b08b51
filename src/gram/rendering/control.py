"""Control tokens in the users' texts, made harmless. Knows a tokenizer's added tokens, or the usual ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gram.turns import THOUGHTS, split_calls, with_calls

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ZERO_WIDTH_SPACE = "\u200b"
_USUAL = re.compile(
    r"<[|｜][^<>\s]{1,40}[|｜]>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>|\[/?(?:INST|SYSTEM_PROMPT)\]"
    r"|</?think>"
)
"""What steers the models of ChatML, Llama, Gemma, Mistral, DeepSeek and those that think."""


def neutral_anywhere(text: str) -> str:
    """``text`` with the usual control tokens made harmless, for a model whose tokenizer is not here.

    Example:
        >>> neutral_anywhere("Yes.<|im_end|> a < b").replace("\u200b", "_")
        'Yes.<_|im_end|> a < b'
    """
    return _USUAL.sub(_spaced, text)


def _spaced(match: re.Match[str]) -> str:
    return match[0][0] + _ZERO_WIDTH_SPACE + match[0][1:]


class ControlTokens:
    """The tokens that steer a model: special ones, and added ones in angle or square brackets.

    A literal ``<|im_end|>`` in an answer would end the turn. A zero-width space behind its first character
    keeps it readable and makes it ordinary text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        words = {
            token.content
            for token in added.values()
            if len(token.content) > 1 and (token.special or re.fullmatch(r"<.*>|\[.*\]", token.content))
        }
        longest_first = sorted(words, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if words else None

    def neutral(self, text: str) -> str:
        """``text`` with control tokens made harmless."""
        if self._pattern is None:
            return text
        return self._pattern.sub(_spaced, text)

    def end(self, text: str) -> int:
        """Where the control token begins that ``text`` ends with, but for white space; else its length."""
        last = list(self._pattern.finditer(text))[-1:] if self._pattern else []
        return last[0].start() if last and not text[last[0].end() :].strip() else len(text)

    def neutral_answer(self, text: str) -> str:
        """``text`` of the assistant, harmless but for the marks of its own thoughts and tool calls."""
        words, calls = split_calls(text)
        thoughts = THOUGHTS.match(words)
        if thoughts is None:
            words = self.neutral(words)
        else:
            start, stop = thoughts.span(1)
            marked = words[:start] + self.neutral(words[start:stop]) + words[stop : thoughts.end()]
            words = marked + self.neutral(words[thoughts.end() :])
        return with_calls(words, self._neutral_json(calls)) if calls else words

    def _neutral_json(self, value: Any) -> Any:
        """A JSON value with all of its texts made harmless."""
        if isinstance(value, str):
            return self.neutral(value)
        if isinstance(value, list):
            return [self._neutral_json(item) for item in value]
        if isinstance(value, dict):
            return {self.neutral(key): self._neutral_json(item) for key, item in value.items()}
        return value
