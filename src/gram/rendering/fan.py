"""Judge prompts in the fan layout: the template's text, cut where two answers are read without each other.

The tokens of an answer are the same at both places and beside every other answer, so that one reading serves
all verdicts. Its text is therefore encoded apart, and shortened by what is left beside the prompt, never by
what the other answer needs. Knows a template and a tokenizer; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar

from gram.asking import Layout
from gram.errors import TemplateError
from gram.rendering.pieces import Encoded, Piece, located
from gram.rendering.renderer import Renderer, Settings
from gram.rendering.truncation import shorten_to_fit
from gram.types import Pair, as_pairs

LOOKING = 2
"""How many of the last tokens of a new model's prompts look at both answers; those before are read once."""


@dataclass(frozen=True)
class _Prompt:
    """One judge prompt in parts.

    Attributes:
        head: all in front of the first answer.
        answers: the first and the second, by place.
        joint: the text between them; ``tail``: the text behind.
        closing: line breaks behind both answers, which are read with them.
    """

    head: tuple[Piece, ...]
    answers: tuple[Piece, Piece]
    joint: str
    tail: str
    closing: str


@dataclass(frozen=True)
class _Head:
    """The tokens in front of the first answer, and the room in each answer, closing included, in tokens."""

    tokens: Encoded
    room: int


class FanRenderer(Renderer):
    """Renders judge prompts that fork into two answers; all else as a ``Renderer``.

    The prompt's text may take up to half of ``max_length``, and each answer half of what is left, whatever
    the other one is.

    Args:
        args, looking, how: of a ``Renderer``, and how many of the last tokens look at both answers.

    Raises:
        TemplateError: the template shows the prompt behind an answer, or nothing behind both.
    """

    layout: ClassVar[Layout] = "fan"

    def __init__(self, *args: Any, looking: int = LOOKING, **how: Any) -> None:
        super().__init__(*args, **how)
        self.looking = looking

    @property
    def settings(self) -> Settings:
        return {**super().settings, "looking": self.looking}

    def judge(self, pairs: Iterable[Pair]) -> list[Encoded]:
        prompts = [self._parts(self._judge_pieces(pair)) for pair in as_pairs(pairs)]
        literals = {text for prompt in prompts for text in (prompt.joint, prompt.tail, prompt.closing)}
        ids = self._behind(literals)
        heads = self._heads(prompts, ids)
        answers = self._answers(prompts, heads)
        return [self._put_together(prompt, heads[prompt.head], answers, ids) for prompt in prompts]

    def _parts(self, pieces: Sequence[Piece]) -> _Prompt:
        slots = [piece.slot for piece in pieces]
        first, second = sorted((slots.index("a"), slots.index("b")))
        joint, tail = (
            "".join(p.text for p in part) for part in (pieces[first + 1 : second], pieces[second + 1 :])
        )
        if "prompt" not in slots[:first]:
            raise TemplateError(
                f"template '{self.template.name}': the fan layout needs {{prompt}} in front of both answers"
            )
        if not tail:
            raise TemplateError(
                f"template '{self.template.name}': the fan layout needs text behind both answers, where the "
                "verdict is read"
            )
        both = takewhile(lambda pair: pair[0] == pair[1] == "\n", zip(joint, tail[:-1], strict=False))
        closing = "\n" * sum(1 for _ in both)
        answers = (pieces[first], pieces[second])
        return _Prompt(tuple(pieces[:first]), answers, joint[len(closing) :], tail[len(closing) :], closing)

    def _heads(self, prompts: Sequence[_Prompt], ids: dict[str, list[int]]) -> dict[tuple[Piece, ...], _Head]:
        begin, heads = self.chat.chat_begin, {}
        distinct = {prompt.head: prompt for prompt in prompts}
        texts = ["".join(piece.text for piece in head) for head in distinct]
        bare = ["".join(piece.text for piece in head if piece.slot is None) for head in distinct]
        tokens = list(self._tokens([*texts, *bare]))
        encoded, literal = tokens[: len(texts)], tokens[len(texts) :]
        for (head, prompt), (found, offsets), (own, _) in zip(
            distinct.items(), encoded, literal, strict=True
        ):
            around = sum(len(ids[text]) for text in (prompt.joint, prompt.tail))
            room = self.max_length - len(begin) - len(own) - around
            pieces: Sequence[Piece] = head
            cut: dict[str, int] = {}
            if len(found) > len(own) + room // 2:
                limit = len(begin) + len(own) + room // 2
                pieces, cut = self._shortened(head, limit, ahead=len(begin))
                [(found, offsets)] = self._tokens(["".join(piece.text for piece in pieces)])
            spans = located(pieces, begin, found, offsets, cut)
            heads[head] = _Head(spans, (self.max_length - len(begin) - len(found) - around) // 2)
        return heads

    def _answers(
        self, prompts: Sequence[_Prompt], heads: dict[tuple[Piece, ...], _Head]
    ) -> dict[tuple[str, str, int], tuple[list[int], int]]:
        """By text, closing and room: the tokens of an answer with its closing, and how many were cut."""
        wanted = {
            (answer.text, prompt.closing, heads[prompt.head].room)
            for prompt in prompts
            for answer in prompt.answers
        }
        whole = self._behind({text + closing for text, closing, _ in wanted})
        found = {}
        for text, closing, room in wanted:
            ids, cut = whole[text + closing], 0
            if len(ids) > room:
                pieces = [Piece(text, "a"), Piece(closing)]
                # One less: behind other text the first token may be another one.
                short, lost = self._shortened(pieces, room - 1)
                cut = lost.get("a", 0)
                [ids] = self._behind(["".join(piece.text for piece in short)]).values()
            found[text, closing, room] = ids, cut
        return found

    def _put_together(
        self,
        prompt: _Prompt,
        head: _Head,
        answers: dict[tuple[str, str, int], tuple[list[int], int]],
        literals: dict[str, list[int]],
    ) -> Encoded:
        ids, cut, spans = list(head.tokens.ids), dict(head.tokens.cut), dict(head.tokens.spans)
        branches = []
        for answer, behind in zip(prompt.answers, (prompt.joint, prompt.tail), strict=True):
            own, lost = answers[answer.text, prompt.closing, head.room]
            start, slot = len(ids), str(answer.slot)
            ids += own
            branches.append((start, len(ids)))
            spans[slot] = (start, max(start, len(ids) - len(literals[prompt.closing])))
            ids += literals[behind]
            if lost:
                cut[slot] = lost
        return Encoded(
            ids, spans, cut, (branches[0], branches[1]), min(self.looking, len(literals[prompt.tail]))
        )

    def _shortened(
        self, pieces: Sequence[Piece], limit: int, ahead: int = 0
    ) -> tuple[Sequence[Piece], dict[str, int]]:
        try:
            return shorten_to_fit(pieces, limit, self._offsets, ahead=ahead)
        except TemplateError as error:
            raise TemplateError(
                f"max_length {self.max_length} is too small for the fan layout, which leaves {limit} tokens "
                f"to a part of the prompt: {error}"
            ) from error

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        return next(self._tokens([text]))[1]

    def _behind(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Ids of texts as they stand behind others: without what a tokenizer puts in front of a beginning.

        They are those behind a line break, or behind a letter where the text begins with white space.
        """
        distinct = list(dict.fromkeys(texts))
        anchors = ["x" if text[:1].isspace() else "\n" for text in distinct]
        joined = [anchor + text for anchor, text in zip(anchors, distinct, strict=True)]
        *found, (letter, _), (line, _) = self._tokens([*joined, "x", "\n"])
        alone = {"x": letter, "\n": line}
        ids = {}
        for text, anchor, (together, _) in zip(distinct, anchors, found, strict=True):
            known = alone[anchor]
            apart = together[: len(known)] == known
            ids[text] = together[len(known) :] if apart else next(self._tokens([text]))[0]
        return ids
