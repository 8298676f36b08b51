"""Control tokens in the users' texts, made harmless. Knows a tokenizer's added tokens, or the usual ones.

Knows no chat template and no setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
_HTML = re.compile(
    r"</?(?:a|abbr|b|blockquote|body|br|caption|center|cite|code|col|colgroup|dd|del|dfn|div|dl|dt|em|font|h[1-6]|head"
    r"|hr|html|i|ins|kbd|li|mark|ol|p|pre|q|s|samp|small|span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead"
    r"|tr|tt|u|ul|var)>"
)
"""Tags for text and tables. Those of media (``<img>``, ``<video>``) are marks for pictures to some models."""


def neutral_anywhere(text: str) -> str:
    """``text`` with the usual control tokens made harmless, for a model whose tokenizer is not here.

    Example:
        >>> neutral_anywhere("Yes.<|im_end|> a < b").replace("\u200b", "_")
        'Yes.<_|im_end|> a < b'
    """
    return _USUAL.sub(_spaced, text)


def neutral_answer(text: str, neutral: Callable[[str], str] = neutral_anywhere) -> str:
    r"""``text`` of the assistant, harmless but for the marks of its own thoughts and tool calls.

    Args:
        neutral: what makes a text harmless.

    Example:
        >>> neutral_answer("<think>Hm. </s></think>Yes.</think>").replace("\u200b", "_")
        '<think>Hm. <_/s></think>Yes.<_/think>'
    """
    words, calls = split_calls(text)
    thoughts = THOUGHTS.match(words)
    if thoughts is None:
        words = neutral(words)
    else:
        start, stop = thoughts.span(1)
        marked = words[:start] + neutral(words[start:stop]) + words[stop : thoughts.end()]
        words = marked + neutral(words[thoughts.end() :])
    return with_calls(words, _neutral_json(calls, neutral)) if calls else words


def _neutral_json(value: Any, neutral: Callable[[str], str]) -> Any:
    """A JSON value with all of its texts made harmless."""
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, list):
        return [_neutral_json(item, neutral) for item in value]
    if isinstance(value, dict):
        return {neutral(key): _neutral_json(item, neutral) for key, item in value.items()}
    return value


def _spaced(match: re.Match[str]) -> str:
    return match[0][0] + _ZERO_WIDTH_SPACE + match[0][1:]


class ControlTokens:
    """The tokens that steer a model: special ones, and added ones in angle or square brackets.

    A literal ``<|im_end|>`` in an answer would end the turn. A zero-width space behind its first character
    keeps it readable and makes it ordinary text.

    Args:
        html: tags of HTML steer, too, where they are added tokens that are not special. Gemma's tokenizers
            have many of them (``<b>``, ``<td>``), which are words to the model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, html: bool = False) -> None:
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        named = set(tokenizer.all_special_tokens)  # ``<s>`` is a tag, or the token that a text begins with
        words = {
            token.content
            for token in added.values()
            if len(token.content) > 1 and (token.special or re.fullmatch(r"<.*>|\[.*\]", token.content))
            if token.special or html or token.content in named or not _HTML.fullmatch(token.content)
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
        """``neutral_answer`` of this model's tokens."""
        return neutral_answer(text, self.neutral)
