"""Whether a model can be shown a row, asked while rows are read: one that it cannot is a bad row.

A chat template may refuse an order of turns. Only the tokenizer is opened for that, and only when a prompt of
several turns comes. Knows prompts and chat formats; knows no rows and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from gram.asking import LoadOptions
from gram.errors import DataError, TemplateError
from gram.modeling.loading import load_tokenizer
from gram.modeling.manifest import completed
from gram.modeling.on_hub import manifest_of
from gram.modeling.renderers import chat_settings
from gram.rendering import ChatFormat, Piece
from gram.types import Chat, Message

_ANSWER = Message("assistant", "x")


class Showing:
    """Refuses rows with prompts that a chat template refuses.

    Args:
        openers: give the chat formats of the models that are asked; called once, when they are needed.

    Example:
        >>> from gram.types import Answer
        >>> check = Showing([lambda: print("opened")])
        >>> check(Answer("Why?", "So."))  # every template takes one turn of the user
    """

    def __init__(self, openers: Sequence[Callable[[], ChatFormat]]) -> None:
        self._openers = openers
        self._formats: list[ChatFormat] | None = None

    def __call__(self, row: object) -> None:
        """Check the prompt of a pair, a contest, an answer, or of what holds one of these.

        Raises:
            DataError: the chat template refuses it.
        """
        match row:
            case (
                object(prompt=prompt)
                | object(pair=object(prompt=prompt))
                | object(item=object(prompt=prompt))
            ):
                self._check(prompt)

    def _check(self, prompt: Chat) -> None:
        if len(prompt) == 1 and prompt[0].role == "user":
            return
        if self._formats is None:
            self._formats = [opener() for opener in self._openers]
        turns = [(turn.role, [Piece(turn.content, slot="x")]) for turn in (*prompt, _ANSWER)]
        try:
            for chat in self._formats:
                chat.wrap(turns, open_answer=False)
        except TemplateError as error:
            raise DataError(f"cannot be shown to the model: {error}", field="prompt") from error


def showing(references: Sequence[str | Path], options: LoadOptions) -> Showing | None:
    """The check of rows for models that are asked together as ``options`` say.

    None where there is nothing to refuse: a judge is shown the whole conversation as the text of one turn.

    Raises:
        CheckpointError: a ``gram.json`` that cannot be read.
    """
    others = replace(options, revision=None)  # which is of the first alone
    made = [_opener(reference, others if k else options) for k, reference in enumerate(references)]
    openers = [opener for opener in made if opener]
    return Showing(openers) if openers else None


def _opener(reference: str | Path, options: LoadOptions) -> Callable[[], ChatFormat] | None:
    manifest = manifest_of(reference, options.revision)
    asking = completed(options, manifest)
    if asking.kind == "judge" or asking.context == "judge":
        return None

    def open_format() -> ChatFormat:
        tokenizer = load_tokenizer(
            reference,
            revision=options.revision,
            base=options.base,
            trust_remote_code=options.trust_remote_code,
        )
        settings = None if manifest is None else chat_settings(manifest, source=reference)
        return ChatFormat(tokenizer, neutralise=asking.neutralise is not False, settings=settings)

    return open_format
