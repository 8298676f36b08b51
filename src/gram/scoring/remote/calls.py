"""Requests to one server: so many side by side, within a budget of tokens, none that was answered before.

Knows JSON answers and what they say they cost; knows no prompt and no label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from gram.asking import Calling
from gram.errors import ScoringError
from gram.scoring.remote.cache import AnswerFile
from gram.wire import Wire, together

T = TypeVar("T")

_PASSES = (408, 425, 429, 500, 502, 503, 504, 529)
_TRIES = 3  # that fit into the deadline if each takes as long as it may


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and the tokens of the prompt that the server read for it: none if it was kept."""

    content: Any
    tokens: int


class Calls:
    """A server that is asked as ``calling`` says.

    Args:
        root: its address.
        token: that the server wants.
        kept_as: stands for the address in the file of answers, where it is another one each time.

    Raises:
        ConfigError: as ``Wire`` and ``AnswerFile``.
    """

    def __init__(self, root: str, calling: Calling, token: str | None, *, kept_as: str | None = None) -> None:
        self._root = root
        self._kept_as = kept_as or root
        self._wire = Wire(
            root,
            token=token,
            deadline=calling.deadline,
            connections=calling.connections,
            patience=calling.deadline / _TRIES,
            passes=_PASSES,
        )
        self._connections = calling.connections
        self._spend = calling.spend
        self._spent = 0
        self._kept = AnswerFile(calling.cache) if calling.cache is not None else None
        self._gate: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    def all(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """What the coroutines give, in their order; the first failure ends the others."""
        return self._wire.run(together(work))

    async def get(self, path: str) -> Any:
        """The JSON at ``path``, which is never kept."""
        return await self._wire.get(path)

    async def ask(
        self,
        path: str,
        body: dict[str, Any],
        part: Callable[[Any], Any] = lambda answer: answer,
        *,
        free: bool = False,
    ) -> Answered:
        """The answer to ``body``.

        Args:
            part: takes out of an answer what is needed of it, which is what is kept.
            free: no model reads what is asked.

        Raises:
            ScoringError: the budget is spent, or as ``Wire.post``.
        """
        url = self._kept_as + path
        if self._kept is not None and (found := self._kept.find(url, body)) is not None:
            return Answered(found, 0)
        async with self._open_gate():
            if self._spend is not None and self._spent >= self._spend:
                raise ScoringError(
                    f"{self._root}: the budget of {self._spend} tokens is spent ({self._spent}); what was "
                    "answered is kept where a cache or an output is given: run again with a larger one"
                )
            answer = await self._wire.post(path, body)
        tokens = 0 if free else self._count(answer, path)
        content = part(answer)
        if self._kept is not None:
            self._kept.keep(url, body, content)
        return Answered(content, tokens)

    def _count(self, answer: Any, path: str) -> int:
        """Count what an answer cost; returns the tokens of its prompt."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        usage = usage if isinstance(usage, dict) else {}
        read = _whole(usage.get("prompt_tokens", usage.get("input_tokens")))
        total = _whole(usage.get("total_tokens")) or read + _whole(usage.get("completion_tokens"))
        if self._spend is not None and not total:
            raise ScoringError(f"{self._root}{path}: tells no usage, so that spend= cannot be held to")
        self._spent += total
        return read

    def _open_gate(self) -> asyncio.Semaphore:
        """The gate of this loop: a fork has another one."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = loop, asyncio.Semaphore(self._connections)
        return self._gate[1]


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
