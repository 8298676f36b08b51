"""The renderer: pairs, answers and texts in, token ids out.

Every prompt is encoded whole, as one string, exactly as a naive caller would: encoding its parts one by one
gives other tokens at the seams. Knows a tokenizer, a judge template and a length limit; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict

from gram.asking import Context, Layout
from gram.errors import ConfigError, DataError, TemplateError
from gram.messages import as_answers, as_texts
from gram.rendering.chat import ChatFormat, ChatSettings
from gram.rendering.pieces import Encoded, Piece, located
from gram.rendering.questions import STATE, ShownQuestion, question_pieces
from gram.rendering.template import JudgeTemplate
from gram.rendering.truncation import ELLIPSIS, shorten, shorten_to_fit
from gram.types import Chat, Pair, PromptLike, as_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 256
_STEP = 128  # tokens
_TURN = "turn "  # and its number: the slot of a turn in the prompt of an answer


class Settings(TypedDict):
    """What is saved with a model so that its prompts stay those of its training (fields of ``gram.json``)."""

    template: dict[str, Any]
    template_hash: str
    max_length: int
    neutralise: bool
    chat: ChatSettings
    layout: Layout
    looking: NotRequired[int]  # of the fan layout


class Renderer:
    """Renders for one tokenizer, one template and one length limit.

    Args:
        tokenizer: a fast tokenizer (spans need character offsets).
        template: the judge prompt.
        max_length: most tokens in one prompt, label excluded.
        neutralise: make control tokens inside prompts and answers harmless; False: paper-exact.
        whole: answers keep what the chat template writes behind their end, see ``ChatFormat``.
        chat: settings of the chat format; by default those of new models.
        embedded: how many tokens the model embeds, where the tokenizer has more.

    Raises:
        ConfigError: the tokenizer is not a fast one, or ``max_length`` is not positive.
        TemplateError: a chat template that does not end or writes too much; a label that is not one token in
            its place (raised on first use of ``label_ids``).
    """

    layout: ClassVar[Layout] = "sequence"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: JudgeTemplate,
        max_length: int,
        *,
        neutralise: bool = True,
        whole: bool = False,
        chat: ChatSettings | None = None,
        embedded: int | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise ConfigError("a fast tokenizer (tokenizer.json) is needed: answers are found by offsets")
        if max_length < 1:
            raise ConfigError(f"max_length must be positive, got {max_length}")
        self.tokenizer = tokenizer
        self.template = template
        self.max_length = max_length
        self.chat = ChatFormat(tokenizer, neutralise=neutralise, whole=whole, settings=chat)
        self._embedded = embedded
        self._label_ids: tuple[int, int] | None = None

    @property
    def settings(self) -> Settings:
        """Everything but the tokenizer that decides what a prompt looks like."""
        return {
            "template": self.template.to_json(),
            "template_hash": self.template.hash,
            "max_length": self.max_length,
            "neutralise": self.chat.neutralises,
            "chat": self.chat.settings,
            "layout": self.layout,
        }

    def judge(self, pairs: Iterable[Pair]) -> list[Encoded]:
        """Judge prompts; the next token is the verdict. Slots: ``prompt``, ``a``, ``b``."""
        return self._encode([self._judge_pieces(pair) for pair in as_pairs(pairs)])

    def answers(
        self, prompts: Iterable[PromptLike], responses: Iterable[str], context: Context = "chat"
    ) -> list[Encoded]:
        """Answers in the place where their likelihood is asked. Slot: ``a``, the answer.

        Args:
            context: ``chat``: as the assistant's turn after the prompt. ``judge``: as the first answer of
                the judge prompt, which is where stage 1 on pairs learns to write answers; the ids end with
                the token that ends the answer.
        """
        rows = list(zip(*as_answers(prompts, responses), strict=True))
        if context == "chat":
            return self._encode([self._answer_pieces(k, x, y) for k, (x, y) in enumerate(rows)])
        pairs = [Pair(x, a=y, b="") for x, y in rows]
        return [
            Encoded(item.ids[: item.scored("a")[1]], {"a": item.spans["a"]}, item.cut)
            for item in self.judge(pairs)
        ]

    def texts(self, texts: Iterable[str]) -> list[Encoded]:
        """Plain texts, a long one in windows of at most ``max_length`` tokens. Slot: ``text``, all tokens.

        The windows of a text are nearly equal in size, so that the last is not a scrap without context.
        """
        begin, end = self.chat.text_begin, self.chat.end_text
        windows = []
        for tokens, _ in self._tokens([self.chat.neutral(text) + end for text in as_texts(texts, "texts")]):
            ids = begin + tokens
            count = -(-len(ids) // self.max_length)
            bounds = [len(ids) * place // count for place in range(count + 1)] if count else []
            for start, stop in pairwise(bounds):
                if stop - start > 1:  # a single token has nothing before it to be predicted from
                    windows.append(Encoded(ids[start:stop], {"text": (0, stop - start)}))
        return windows

    def as_they_stand(self, texts: Iterable[str]) -> list[Encoded]:
        """Texts that somebody else has put together: control tokens in them count. No slots.

        Behind what the tokenizer puts in front of plain text, unless it stands there already.

        Raises:
            DataError: a text that is empty, or too long: there is no telling what could be left out.
        """
        begin = self.chat.text_begin
        prompts = []
        for number, (ids, _) in enumerate(self._tokens(as_texts(texts, "texts"))):
            ids = ids if ids[: len(begin)] == begin else begin + ids
            if not len(begin) < len(ids) <= self.max_length:
                count = len(ids) if len(ids) > len(begin) else 0
                reason = f"has {count} tokens; the model reads 1 to {self.max_length}"
                raise DataError(reason, field=f"texts[{number}]")
            prompts.append(Encoded(ids, {}))
        return prompts

    def questions(self, state: str, asked: Sequence[ShownQuestion]) -> list[Encoded]:
        """Prompts that ask questions about one state; the next token is a label. Slot: ``state``.

        Only the state is ever shortened. How much of it is left depends on the length of the question alone,
        in steps of 128 tokens: other questions of the call change nothing, and most are shown the same.

        Raises:
            DataError: a question that by itself is too long, by its name.
        """
        state = self.chat.neutral(state)
        [(_, offsets)] = self._tokens([state])
        around = [self.question_pieces("", question) for question in asked]
        texts = ["".join(piece.text for piece in pieces) for pieces in around]
        lengths = [len(ids) + len(self.chat.chat_begin) for ids, _ in self._tokens(texts)]
        prompts, cuts = [], []
        for question, pieces, length in zip(asked, around, lengths, strict=True):
            text, removed = shorten(state, offsets, self._room(len(offsets), length, question.name))
            prompts.append(
                [Piece(text, STATE) if item.slot == STATE else Piece(item.text) for item in pieces]
            )
            cuts.append({STATE: removed} if removed else {})
        return [
            Encoded(item.ids, item.spans, cut | item.cut)
            for item, cut in zip(self._encode(prompts), cuts, strict=True)
        ]

    def question_pieces(self, state: str, question: ShownQuestion) -> list[Piece]:
        """The pieces of a prompt of ``questions``, with the slots ``state`` and ``question``."""
        return self.chat.wrap([("user", question_pieces(state, question))], open_answer=True)

    def one_token_words(self, question: ShownQuestion, words: Sequence[str]) -> dict[str, int]:
        """Those of ``words`` that are one token where the label of a question stands, and their ids.

        Of words that become the same token the first counts.
        """
        text = "".join(piece.text for piece in self.question_pieces("x", question))
        [(bare, _), *full] = self._tokens([text, *(text + word for word in words)])
        found: dict[int, str] = {}
        for word, (ids, _) in zip(words, full, strict=True):
            if len(ids) == len(bare) + 1 and ids[:-1] == bare:
                found.setdefault(ids[-1], word)
        return {word: token for token, word in found.items()}

    def _room(self, wanted: int, length: int, name: str) -> int:
        """How many of the ``wanted`` tokens of a state there is room for beside ``length`` others."""
        if wanted + length <= self.max_length:
            return wanted
        length += len(next(self._tokens([ELLIPSIS]))[0])
        in_steps = self.max_length - -(-length // _STEP) * _STEP
        room = in_steps if in_steps > 0 else self.max_length - length
        if room < 1:
            raise DataError(
                f"takes {length} of the {self.max_length} tokens that the model reads, and leaves none for "
                "the state: shorten its instructions or options",
                field=f"questions.{name}",
            )
        return room

    @property
    def label_ids(self) -> tuple[int, int]:
        """Ids of the two label words in the place where the verdict stands.

        Raises:
            TemplateError: a label is not exactly one token there; says which tokens came out.
        """
        if self._label_ids is None:
            text = "".join(piece.text for piece in self._judge_pieces(Pair("Why?", a="Yes.", b="No.")))
            first, second = (self._label_id(text, label) for label in self.template.labels)
            if first == second:
                raise TemplateError(f"both labels {self.template.labels} become the same token {first}")
            self._label_ids = (first, second)
        return self._label_ids

    def _label_id(self, text: str, label: str) -> int:
        [(bare, _), (full, _)] = self._tokens([text, text + label])
        if len(full) == len(bare) + 1 and full[:-1] == bare:
            return full[-1]
        shared = next((i for i, (x, y) in enumerate(zip(bare, full, strict=False)) if x != y), len(bare))
        tokens = self.tokenizer.convert_ids_to_tokens(full[shared:])
        hint = " (the template ends with a space: remove it)" if text.endswith(" ") else ""
        raise TemplateError(
            f"template '{self.template.name}': label {label!r} must be one token in its place, "
            f"but after {text[-24:]!r} the tokens are {tokens}{hint}"
        )

    def _judge_pieces(self, pair: Pair) -> list[Piece]:
        return self.chat.wrap([("user", self.template.pieces(pair))], open_answer=True)

    def _answer_pieces(self, number: int, prompt: Chat, response: str) -> list[Piece]:
        turns = [
            (turn.role, [Piece(turn.content, slot=f"{_TURN}{place}")]) for place, turn in enumerate(prompt)
        ]
        try:
            return self.chat.wrap([*turns, ("assistant", [Piece(response, slot="a")])], open_answer=False)
        except TemplateError as error:
            raise TemplateError(f"prompts[{number}]: {error}") from error

    def _encode(self, prompts: Sequence[Sequence[Piece]]) -> list[Encoded]:
        encodings = []
        begin = self.chat.chat_begin
        texts = ["".join(piece.text for piece in pieces) for pieces in prompts]
        for pieces, (ids, offsets) in zip(prompts, self._tokens(texts), strict=True):
            cut: dict[str, int] = {}
            if len(begin) + len(ids) > self.max_length:
                pieces, cut = shorten_to_fit(
                    pieces,
                    self.max_length,
                    lambda text: next(self._tokens([text]))[1],
                    ahead=len(begin),
                    spare=_earlier_turns(pieces),
                )
                [(ids, offsets)] = self._tokens(["".join(piece.text for piece in pieces)])
            encodings.append(located(pieces, begin, ids, offsets, cut))
        return encodings

    def _tokens(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """Ids and character offsets per text; in chunks, since a batch is encoded in parallel.

        The offsets take three times the memory of the ids; nobody needs those of more than one chunk.

        Raises:
            DataError: a token that the model does not embed.
        """
        for start in range(0, len(texts), _CHUNK):
            batch = self.tokenizer(
                list(texts[start : start + _CHUNK]),
                add_special_tokens=False,  # the chat format has put them in already: never a second BOS
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            if self._embedded is not None:
                self._refuse_unembedded(batch["input_ids"], self._embedded)  # type: ignore[arg-type]
            yield from zip(batch["input_ids"], batch["offset_mapping"], strict=True)  # type: ignore[misc]

    def _refuse_unembedded(self, rows: Sequence[Sequence[int]], embedded: int) -> None:
        largest = max((token for ids in rows for token in ids), default=0)
        if largest >= embedded:
            word = self.tokenizer.convert_ids_to_tokens(largest)
            raise DataError(f"a text holds the token '{word}', which the model does not embed")


def _earlier_turns(pieces: Sequence[Piece]) -> list[str]:
    """The turns before the last, oldest first, but the very first, which often sets the task, at the end."""
    turns = [piece.slot for piece in pieces if piece.slot and piece.slot.startswith(_TURN)][:-1]
    return turns[1:] + turns[:1]
