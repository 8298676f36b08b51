"""Rows that hold one judged answer each -> rows with a better and a worse answer to the same prompt.

Two forms are joined: truth labels (TRL's unpaired form, KTO: ``label`` or ``kto_tag``), where a good answer
and a bad one to the same prompt become a pair wherever they stand; and ratings (HelpSteer: ``helpfulness``),
where two rows that follow each other do. Other rows pass as they are. Knows rows, and no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gram.data.forms import truth
from gram.data.labels import number
from gram.data.row import Rejected, RejectSink, Row
from gram.data.rows import parse
from gram.errors import DataError
from gram.types import Answer, Chat, Message

LABELS = ("label", "kto_tag")
RATING = "helpfulness"
_OF_ONE_ANSWER = {*LABELS, RATING, "response", "completion", "messages", "conversations", "system", "margin"}
_OF_ONE_ANSWER |= {
    "question",
    "query",
    "instruction",
    "input",
    "history",
    "context",
    "system_prompt",
    "problem",
}


@dataclass(slots=True)
class _Side:
    """One judged answer and its row."""

    row: Row
    answer: Answer
    rating: float = 0.0


@dataclass(slots=True)
class _Sides:
    """The good and the bad answers to one prompt."""

    good: list[_Side] = field(default_factory=list)
    bad: list[_Side] = field(default_factory=list)


class Joined:
    """The rows of a source, those with one judged answer joined to pairs; counts what finds no partner.

    Args:
        reject: receives each row that cannot be used.

    Attributes:
        unpaired: answers without a partner, once all rows have been read.
    """

    def __init__(self, rows: Iterable[Row], reject: RejectSink) -> None:
        self._rows = rows
        self._reject = reject
        self.unpaired = 0

    def __iter__(self) -> Iterator[Row]:
        labeled: dict[Chat, _Sides] = {}
        waiting: _Side | None = None
        for row in self._rows:
            try:
                side, label = self._judged(row)
            except DataError as error:
                self._reject(Rejected(error, row.values))
                continue
            if side is None:
                yield row
            elif label is not None:
                sides = labeled.setdefault(side.answer.prompt, _Sides())
                (sides.good if label else sides.bad).append(side)
            elif waiting and waiting.answer.prompt == side.answer.prompt:
                yield _pair(*sorted((waiting, side), key=lambda side: -side.rating))
                waiting = None
            else:
                self.unpaired += waiting is not None
                waiting = side
        self.unpaired += waiting is not None
        for sides in labeled.values():
            yield from self._pairs(sides)

    def _judged(self, row: Row) -> tuple[_Side | None, bool | None]:
        """The judged answer of a row and its label; no label: it is rated; neither: another form of row."""
        names = [name for name in (*LABELS, RATING) if row.values.get(name) is not None]
        if not names:
            return None, None
        answer = parse(row)
        if not isinstance(answer, Answer):
            return None, None
        try:
            if names[0] == RATING:
                return _Side(row, answer, number(row.values, RATING)), None
            return _Side(row, answer), truth(row.values, names[0])
        except DataError as error:
            raise row.error(error.reason, error.field) from None

    def _pairs(self, sides: _Sides) -> Iterator[Row]:
        """Every answer in a pair at least once; the shorter list of the two begins again."""
        if not sides.good or not sides.bad:
            self.unpaired += len(sides.good) + len(sides.bad)
            return
        for place in range(max(len(sides.good), len(sides.bad))):
            yield _pair(sides.good[place % len(sides.good)], sides.bad[place % len(sides.bad)], hard=True)


def _pair(better: _Side, worse: _Side, *, hard: bool = False) -> Row:
    """Two rows as one: the better answer's, and what the other says else, in columns ``rejected.NAME``."""
    gap = better.rating - worse.rating
    label: dict[str, Any] = {} if hard else {"margin": gap, "p_chosen": 1.0 if gap else 0.5}
    values, others = (
        {name: value for name, value in side.row.values.items() if name not in _OF_ONE_ANSWER}
        for side in (better, worse)
    )
    others = {
        f"rejected.{name}": value
        for name, value in others.items()
        if name != "prompt" and value != values.get(name)
    }
    texts = {"chosen": better.answer.response, "rejected": worse.answer.response}
    answers = {name: _messages((Message("assistant", text),)) for name, text in texts.items()}
    prompt = _messages(better.answer.prompt)
    return Row({**values, **others, "prompt": prompt, **answers, **label}, better.row.file, better.row.line)


def _messages(turns: Chat) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]
