"""The chat format around a prompt: a tokenizer's chat template, taken apart into pieces.

The template is rendered with a sentinel in place of each content and split at the sentinels, so that every
part of the user's text stays a slot that can be found, counted and shortened. What a template does to a
content itself is seen by rendering the contents too, and followed. Knows one tokenizer; knows nothing of
judge templates.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from gram.errors import TemplateError
from gram.rendering.apart import found_apart
from gram.rendering.chat_template import DATE, ChatTemplate
from gram.rendering.control import ControlTokens
from gram.rendering.follow import followed
from gram.rendering.opened import closed
from gram.rendering.pieces import Piece
from gram.rendering.skeleton import Skeleton, Turn, sentinels, skeleton_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM = ("system", "developer")

_log = logging.getLogger("gram.rendering")


class ChatSettings(TypedDict):
    """What ``gram.json`` keeps of the chat format (its field ``chat``).

    Attributes:
        date: the day that a template which asks for one is told, in ISO form.
        thoughts: ``template``: think blocks in front of answers are the template's matter, and a block that
            it opens for the judge is closed. ``text``, of models that were trained before these were known:
            they are words like others, and a block stays open.
        switch: ``cue``: a template is told to switch thoughts off where it opens an answer, and a finished
            conversation is what ``apply_chat_template`` writes. ``always``, of models that were trained
            before: it is told so there too.
        html: ``text``: tags of HTML in the users' texts are words, also where the tokenizer has added tokens
            for them, as Gemma's has. ``control``, of models that were trained before: they are made harmless
            like control tokens.
    """

    date: str
    thoughts: str
    switch: str
    html: str


NEW_SETTINGS: ChatSettings = {"date": DATE, "thoughts": "template", "switch": "cue", "html": "text"}
"""The settings of models that are new here."""


class ChatFormat:
    """Wraps contents into the chat turns of one tokenizer.

    A tokenizer without a chat template (a base model) gets plain text: turns separated by blank lines, the
    beginning-of-sequence token in front and the end-of-sequence token behind an answer, where it has them.

    Args:
        neutralise: make control tokens in the users' texts harmless.
        whole: keep what the chat template writes behind the end-of-turn token of an answer (a line break,
            mostly), which is no part of the answer: where scalar models of others were trained to be read.
        settings: as a model was trained; by default as new models are.

    Attributes:
        neutralises: whether control tokens in the users' texts are made harmless.
        settings: what to keep in ``gram.json``.
        text_begin: ids the tokenizer puts in front of plain text. They are added as ids and not as text,
            because behind a literal ``<s>`` some tokenizers split the first word in another way.
        chat_begin: ids to put in front of a conversation: none where the chat template writes its own.

    Raises:
        TemplateError: the chat template takes too long, too much memory, or writes too much.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        neutralise: bool = True,
        whole: bool = False,
        settings: ChatSettings | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.neutralises = neutralise
        self.settings: ChatSettings = NEW_SETTINGS if settings is None else {**NEW_SETTINGS, **settings}
        self._follows = self.settings["thoughts"] == "template"
        self._whole = whole
        self._control = ControlTokens(tokenizer, html=self.settings["html"] == "control")
        switched = self.settings["switch"] == "always"
        self._template = (
            ChatTemplate(tokenizer, self.settings["date"], switched=switched)
            if tokenizer.chat_template
            else None
        )
        self._skeletons: dict[tuple[tuple[str, ...], bool], Skeleton] = {}
        self._takes_role: dict[str, bool] = {}  # of the roles of ``_SYSTEM`` that were met
        self.text_begin = _begin_ids(tokenizer)
        self.chat_begin = [] if tokenizer.chat_template else self.text_begin

    def wrap(self, turns: Sequence[Turn], *, open_answer: bool) -> list[Piece]:
        """The pieces of a conversation.

        Args:
            turns: role and content of each turn, the content in pieces.
            open_answer: True ends with the cue for the assistant to speak; False closes the last turn.

        Raises:
            TemplateError: the chat template refuses the turns, or does not show every turn.
        """
        safe = [(role, self._safe(role, content)) for role, content in turns]
        return [piece for piece in self._pieces(safe, open_answer) if piece.text or piece.slot]

    def _pieces(self, turns: Sequence[Turn], open_answer: bool) -> list[Piece]:
        turns = self._folded(turns, open_answer)
        template = self._template if self._follows else None
        contents = [(role, "".join(piece.text for piece in content)) for role, content in turns]
        try:
            skeleton = self._skeleton(tuple(role for role, _ in turns), open_answer)
            pieces = skeleton.filled(turns)
            if template is not None:
                written = template.conversation(contents, open_answer)
                pieces = self._follow(template, pieces, *written, skeleton, open_answer)
        except TemplateError:
            if template is None:
                raise
            apart = self._apart(template, turns, contents, open_answer)
            found = apart or self._without_empty(template, turns, contents, open_answer)
            if found is None:
                raise
            pieces = found
        return pieces

    def _without_empty(
        self,
        template: ChatTemplate,
        turns: Sequence[Turn],
        contents: Sequence[tuple[str, str]],
        open_answer: bool,
    ) -> list[Piece] | None:
        """The pieces without the empty turns, where the template leaves these out itself."""
        *before, last = [(*turn, text) for turn, (_, text) in zip(turns, contents, strict=True)]
        kept = [(role, content) for role, content, text in before if text.strip()]
        if not kept or len(kept) == len(before):
            return None
        pieces = self._pieces([*kept, last[:2]], open_answer)
        _, real = template.conversation(contents, open_answer)
        written = self._ended(real, open_answer)
        return pieces if "".join(piece.text for piece in pieces) == written else None

    def _follow(
        self,
        template: ChatTemplate,
        pieces: list[Piece],
        messages: Sequence[dict[str, Any]],
        real: str,
        skeleton: Skeleton,
        open_answer: bool,
    ) -> list[Piece]:
        """``pieces``, or what the template makes of these very contents where that is something else."""
        if skeleton.end and real.endswith(skeleton.end):
            real = real[: -len(skeleton.end)] + str(skeleton.parts[-1])
        if real == "".join(piece.text for piece in pieces):
            return pieces
        cue = None if open_answer else self._cue(template, messages[:-1])
        found = followed(real, pieces, cue)
        if found is None:
            raise TemplateError(
                "the tokenizer's chat template changes what the turns hold, so that it cannot be told where "
                f"they are in its text: {real[:200]!r}"
            )
        return found

    def _apart(
        self,
        template: ChatTemplate,
        turns: Sequence[Turn],
        contents: Sequence[tuple[str, str]],
        open_answer: bool,
    ) -> list[Piece] | None:
        """The pieces by one turn at a time; an answer that is a call is all from its cue to its end token."""

        def write(messages: Sequence[dict[str, Any]]) -> str:
            return self._ended(template.text(messages, open_answer), open_answer)

        messages, _ = template.conversation(contents, open_answer)
        answer = None
        if not open_answer and "tool_calls" in messages[-1]:
            real = write(messages)
            cues = [self._cue(template, messages[:-1], thinking=thinking) for thinking in (True, False)]
            start = max((len(cue) for cue in cues if cue and real.startswith(cue)), default=None)
            if start is None:
                return None
            answer = start, max(start, self._control.end(real))
        return found_apart(turns, messages, write, answer)

    def _cue(
        self, template: ChatTemplate, before: Sequence[dict[str, Any]], *, thinking: bool = True
    ) -> str | None:
        try:
            return template.text(before, True, thinking=thinking) if before else None
        except TemplateError:  # answers may go on where this conversation may not end
            return None

    def _ended(self, text: str, open_answer: bool) -> str:
        """``text`` of a template with the end that a model reads."""
        if open_answer:
            return closed(text) if self._follows else text
        return text if self._whole else text.rstrip(" \n")  # behind the end-of-turn token is no answer

    def _folded(self, turns: Sequence[Turn], open_answer: bool) -> Sequence[Turn]:
        """``turns`` without a system turn where the template takes none: it goes in front of the user's."""
        role = turns[0][0]
        if self._template is None or role not in _SYSTEM or len(turns) < 2 or turns[1][0] != "user":
            return turns
        folded = [("user", [*turns[0][1], Piece("\n\n"), *turns[1][1]]), *turns[2:]]
        if role not in self._takes_role:
            if self._takes(turns, open_answer):
                self._takes_role[role] = True
            elif self._takes(folded, open_answer):
                self._takes_role[role] = False
                _log.warning(
                    "the chat template takes no %s turn: its text goes in front of the first user turn", role
                )
        return turns if self._takes_role.get(role, True) else folded

    def _takes(self, turns: Sequence[Turn], open_answer: bool) -> bool:
        try:
            self._skeleton(tuple(role for role, _ in turns), open_answer)
        except TemplateError:
            return False
        return True

    def _skeleton(self, roles: tuple[str, ...], open_answer: bool) -> Skeleton:
        """The text around the contents, and where these stand."""
        key = (roles, open_answer)
        if key not in self._skeletons:
            turns = sentinels(roles)
            if self._template is None:
                text = self._plain(turns, open_answer)
            else:
                messages = [{"role": role, "content": content} for role, content in turns]
                text = self._template.text(messages, open_answer)
            skeleton = skeleton_of(text, len(roles), lambda end: self._ended(end, open_answer))
            if skeleton is None:
                raise TemplateError(
                    f"the tokenizer's chat template does not show the turns {roles} once each and in order"
                )
            self._skeletons[key] = skeleton
        return self._skeletons[key]

    def _plain(self, turns: Sequence[tuple[str, str]], open_answer: bool) -> str:
        if len(turns) == 1 and open_answer:
            return turns[0][1]
        body = "\n\n".join(content for _, content in turns)
        return body + ("\n\n" if open_answer else self.end_text)

    @property
    def end_text(self) -> str:
        """The end-of-sequence token as text, empty where there is none."""
        return str(self._tokenizer.eos_token or "")

    def _safe(self, role: str, content: Sequence[Piece]) -> list[Piece]:
        if not self.neutralises:
            return list(content)
        is_answer = role == "assistant" and self._follows
        safe = self._control.neutral_answer if is_answer else self._control.neutral
        return [Piece(safe(piece.text), piece.slot) if piece.slot else piece for piece in content]

    def neutral(self, text: str) -> str:
        """``text`` with control tokens made harmless, see ``ControlTokens``."""
        return self._control.neutral(text) if self.neutralises else text


def _begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer("x")["input_ids"]  # type: ignore[assignment]
    bos = tokenizer.bos_token_id
    return [bos] if isinstance(bos, int) and ids[:1] == [bos] else []
