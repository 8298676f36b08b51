"""What endpoints share: the model that is served, and how texts, items and outcomes are checked and told.

Knows the batcher and limits; knows no endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import HTTPException, Request

from gram.errors import DataError
from gram.messages import Chat, PromptLike, as_chat, as_text
from gram.serving.batcher import Batcher
from gram.serving.limits import Limits
from gram.serving.meters import Meters
from gram.serving.panel import Panel

CALLER = "x-gram-caller"
"""Header in which a caller may give itself a name, so that it waits in a line of its own."""

_LONGEST_NAME = 64


@dataclass(frozen=True)
class Service:
    """The model behind all endpoints.

    Attributes:
        names: by which it can be asked for, its own first.
        orders: of the options of typed questions.
    """

    batcher: Batcher
    names: tuple[str, ...]
    limits: Limits
    orders: int
    meters: Meters

    @property
    def name(self) -> str:
        """Of the model."""
        return self.names[0]

    def panel(self, request: Request, model: str | None) -> Panel:
        """One request's questions.

        Raises:
            HTTPException: 400, there is no such model.
        """
        if model is not None and model not in self.names:
            raise HTTPException(400, f"there is no model {model!r} here; there is: {self.name}")
        host = request.client.host if request.client is not None else ""
        return Panel(self.batcher, request.headers.get(CALLER, "")[:_LONGEST_NAME] or host)

    def check_state(self, state: object) -> None:
        """Refuse a state that is too long.

        Raises:
            HTTPException: 413.
        """
        text = state if isinstance(state, str) else json.dumps(state, ensure_ascii=False)
        self._check_length(len(text), "the state")

    def chat(self, prompt: PromptLike, field: str) -> Chat:
        """A prompt as messages.

        Raises:
            DataError: it cannot be read.
            HTTPException: 413, it is too long.
        """
        chat = as_chat(prompt, field)
        if not chat:
            raise DataError("is empty: there is no message", field=field)
        self._check_length(sum(len(turn.content) for turn in chat), field)
        return chat

    def text(self, text: str, field: str) -> str:
        """A text.

        Raises:
            DataError: it cannot be read.
            HTTPException: 413, it is too long.
        """
        self._check_length(len(text), field)
        return as_text(text, field)

    def texts(self, texts: Iterable[str], field: str) -> list[str]:
        """Several texts; see ``text``."""
        return [self.text(text, f"{field}[{place}]") for place, text in enumerate(texts)]

    def check_count(self, count: int, most: int, what: str) -> None:
        """Refuse a request that wants too much.

        Raises:
            HTTPException: 413.
        """
        if count > most:
            raise HTTPException(413, f"{count} {what} in one request; at most {most}")

    def _check_length(self, length: int, field: str) -> None:
        most = self.limits.max_characters
        if length > most:
            raise HTTPException(413, f"{field} has {length} characters; at most {most}")
