"""What one process does: it loads the model once, and answers piece after piece of the work.

A row that the model cannot answer is found by halving, and the others are answered. Knows a model as
something that a function asks; knows nothing of Ray, files or other processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gram.errors import CheckpointError, ConfigError, FetchError, GramError
from gram.types import Usage
from gram.workers import Share, usage_of_model

M = TypeVar("M")
T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Why a row has no score."""

    reason: str


Outcome = Mapping[str, Any] | Failure


@dataclass(frozen=True)
class Answer:
    """What came of a piece.

    Attributes:
        piece: its number.
        outcomes: one for each of its rows; empty where it was not answered.
        failed: why it was not: something in it may have made the process ill. Empty where it was answered.
        error: what is wrong with the whole run, whichever row is asked.
    """

    piece: int
    outcomes: Sequence[Outcome] = ()
    failed: str = ""
    error: GramError | None = None
    usage: Usage = field(default_factory=Usage)


class Asker(Generic[M, T]):
    """A model in a process of its own.

    Args:
        load: gives the model; called once.
        function: one output row for each of some rows.
        share: of how many processes this is one; it has cores and a GPU of its own.
    """

    def __init__(
        self,
        load: Callable[[Share], M],
        function: Callable[[M, Sequence[T]], list[dict[str, Any]]],
        share: Share,
    ) -> None:
        self._function = function
        self._is_ill = False
        self._error: GramError | None = None
        try:
            self._model = load(share)
        except GramError as error:  # told with the first answer: out of here it would lose its type
            self._error = error

    def answer(self, piece: int, rows: Sequence[T]) -> Answer:
        """An output row or a failure for each of ``rows``.

        After an error that is not ours (a GPU's, mostly) the process may answer nothing right any more: it
        ends before the next piece, and whoever started it starts another.
        """
        if self._is_ill:
            os._exit(1)
        if self._error is not None:
            return Answer(piece, error=self._error)
        before = usage_of_model(self._model)
        try:
            outcomes = self._outcomes(rows)
        except (ConfigError, CheckpointError, FetchError) as error:
            return Answer(piece, error=error)
        except Exception as error:
            self._is_ill = True
            return Answer(piece, failed=f"{type(error).__name__}: {error}")
        return Answer(piece, outcomes, usage=usage_of_model(self._model) - before)

    def _outcomes(self, rows: Sequence[T]) -> list[Outcome]:
        if not rows:
            return []
        try:
            return list(self._function(self._model, rows))
        except (ConfigError, CheckpointError, FetchError):
            raise
        except GramError as error:
            if len(rows) == 1:
                return [Failure(str(error))]
            middle = len(rows) // 2
            return self._outcomes(rows[:middle]) + self._outcomes(rows[middle:])
