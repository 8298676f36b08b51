"""The chat format around a prompt: a tokenizer's chat template, taken apart into pieces.

The template is rendered with a sentinel in place of each content and split at the sentinels, so that every
part of the user's text stays a slot that can be found, counted and shortened. Knows one tokenizer; knows
nothing of judge templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gram.errors import TemplateError
from gram.rendering.pieces import Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Plain letters, which no template rewrites, between form feeds, which a template removes where it trims.
_SENTINEL = "\fgramsentinel{}x\f"
_SENTINELS = re.compile(r"(\f?)gramsentinel(\d+)x(\f?)")
_ZERO_WIDTH_SPACE = "\u200b"


@dataclass(frozen=True, slots=True)
class _Content:
    """The place of a turn's content in a chat format, and the sides where the format trims it."""

    turn: int
    trims_left: bool
    trims_right: bool


class ChatFormat:
    """Wraps contents into the chat turns of one tokenizer.

    A tokenizer without a chat template (a base model) gets plain text: turns separated by blank lines, the
    beginning-of-sequence token in front and the end-of-sequence token behind an answer, where it has them.

    Args:
        neutralise: make control tokens in the users' texts harmless.
        whole: keep what the chat template writes behind the end-of-turn token of an answer (a line break,
            mostly), which is no part of the answer: where scalar models of others were trained to be read.

    Attributes:
        neutralises: whether control tokens in the users' texts are made harmless.
        text_begin: ids the tokenizer puts in front of plain text. They are added as ids and not as text,
            because behind a literal ``<s>`` some tokenizers split the first word in another way.
        chat_begin: ids to put in front of a conversation: none where the chat template writes its own.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, neutralise: bool = True, whole: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self.neutralises = neutralise
        self._whole = whole
        self._control = _control_tokens(tokenizer) if neutralise else None
        self._skeletons: dict[tuple[tuple[str, ...], bool], list[str | _Content]] = {}
        self.text_begin = _begin_ids(tokenizer)
        self.chat_begin = [] if tokenizer.chat_template else self.text_begin

    def wrap(self, turns: Sequence[tuple[str, Sequence[Piece]]], *, open_answer: bool) -> list[Piece]:
        """The pieces of a conversation.

        Args:
            turns: role and content of each turn, the content in pieces.
            open_answer: True ends with the cue for the assistant to speak; False closes the last turn.

        Raises:
            TemplateError: the chat template refuses these roles, or does not show every turn.
        """
        roles = tuple(role for role, _ in turns)
        pieces: list[Piece] = []
        for part in self._skeleton(roles, open_answer):
            if isinstance(part, str):
                pieces.append(Piece(part))
            else:
                pieces.extend(_trimmed(self._safe(turns[part.turn][1]), part))
        return [piece for piece in pieces if piece.text or piece.slot]

    def _skeleton(self, roles: tuple[str, ...], open_answer: bool) -> list[str | _Content]:
        """The text around the contents, and where these stand."""
        key = (roles, open_answer)
        if key not in self._skeletons:
            sentinels = [(role, _SENTINEL.format(place)) for place, role in enumerate(roles)]
            text = self._render(sentinels, open_answer)
            if not (open_answer or self._whole):
                text = text.rstrip(" \n")  # what follows the end-of-turn token is not part of the answer
            parts: list[str | _Content] = []
            places, end = [], 0
            for match in _SENTINELS.finditer(text):
                places.append(int(match[2]))
                parts += [text[end : match.start()], _Content(places[-1], not match[1], not match[3])]
                end = match.end()
            if places != list(range(len(roles))):
                raise TemplateError(
                    f"the tokenizer's chat template does not show the turns {roles} once each and in order"
                )
            self._skeletons[key] = [*parts, text[end:]]
        return self._skeletons[key]

    def _render(self, turns: Sequence[tuple[str, str]], open_answer: bool) -> str:
        if not self._tokenizer.chat_template:
            return self._plain(turns, open_answer)
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            return self._tokenizer.apply_chat_template(  # type: ignore[return-value]
                messages,
                tokenize=False,
                add_generation_prompt=open_answer,
                enable_thinking=False,  # known to templates of reasoning models, ignored by the others
            )
        except Exception as error:  # templates raise whatever they like, jinja2's own errors among it
            roles = ", ".join(role for role, _ in turns)
            raise TemplateError(
                f"the tokenizer's chat template refuses turns of ({roles}): {error}"
            ) from error

    def _plain(self, turns: Sequence[tuple[str, str]], open_answer: bool) -> str:
        if len(turns) == 1 and open_answer:
            return turns[0][1]
        body = "\n\n".join(content for _, content in turns)
        return body + ("\n\n" if open_answer else self.end_text)

    @property
    def end_text(self) -> str:
        """The end-of-sequence token as text, empty where there is none."""
        return str(self._tokenizer.eos_token or "")

    def _safe(self, content: Sequence[Piece]) -> list[Piece]:
        return [Piece(self.neutral(piece.text), piece.slot) if piece.slot else piece for piece in content]

    def neutral(self, text: str) -> str:
        """``text`` with control tokens made harmless.

        A literal ``<|im_end|>`` in an answer would otherwise end the turn. A zero-width space behind its
        first character keeps it readable and makes it ordinary text.
        """
        if self._control is None:
            return text
        return self._control.sub(lambda match: match[0][0] + _ZERO_WIDTH_SPACE + match[0][1:], text)


def _trimmed(content: Sequence[Piece], place: _Content) -> list[Piece]:
    """``content`` without the white space at its two ends that the chat format removes."""
    texts = [piece.text for piece in content]
    if place.trims_left:
        _strip_first(texts, range(len(texts)), str.lstrip)
    if place.trims_right:
        _strip_first(texts, reversed(range(len(texts))), str.rstrip)
    return [Piece(text, piece.slot) for text, piece in zip(texts, content, strict=True)]


def _strip_first(texts: list[str], order: Iterable[int], strip: Callable[[str], str]) -> None:
    for place in order:
        texts[place] = strip(texts[place])
        if texts[place]:
            return


def _begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer("x")["input_ids"]  # type: ignore[assignment]
    bos = tokenizer.bos_token_id
    return [bos] if isinstance(bos, int) and ids[:1] == [bos] else []


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Matches the tokens that steer a model: special ones, and added ones in angle or square brackets."""
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    words = {
        token.content
        for token in added.values()
        if len(token.content) > 1 and (token.special or re.fullmatch(r"<.*>|\[.*\]", token.content))
    }
    if not words:
        return None
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile("|".join(re.escape(word) for word in longest_first))
