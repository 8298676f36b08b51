"""What a process is asked: comparisons, answers, typed questions; each by itself, whatever became of others.

Knows models as ``RewardModel``; knows no request, no queue and no other process.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import NamedTuple, TypeAlias

import numpy as np

from gram.decisions import Answer as DecidedAnswer
from gram.decisions import DecisionModel, Question, Request
from gram.errors import GramError, ScoringError
from gram.serving.facts import TextScorer
from gram.tokens import TokenReader
from gram.types import Answer, Pair, RewardModel, ScalarModel, Usage


class Reading(Answer):
    """An answer that is read token by token, where it is a score that is asked of another."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """A typed question about a state.

    Attributes:
        state: as ``decide`` takes it.
        prompt: the same as a text, equal for equal states.
        orders: in how many orders the options are shown.
    """

    state: object
    prompt: str
    question: Question
    orders: int

    @classmethod
    def of(cls, state: object, question: Question, orders: int) -> Decision:
        """The unit of a question."""
        return cls(state, json.dumps(state, ensure_ascii=False), question, orders)


@dataclass(frozen=True, slots=True)
class Whole:
    """A text that holds prompt and answer, as other servers are asked about it; each text by itself."""

    text: str
    prompt: str = ""


Unit: TypeAlias = Pair | Answer | Decision | Whole

_NAME = "question"

_log = logging.getLogger("gram.serving")


class Outcome(NamedTuple):
    """What came of one unit.

    Attributes:
        values: of a pair the log-odds and the label masses, (shown first, shown second) each, NaN where it
            was not asked; of an answer its score; of a reading the log-probability of each token; of a typed
            question none, as ``decided`` has them. None where the model gave no number.
        tokens: its share, by length, of what its batch read.
        cut: tokens that it lost to fit the model; of a typed question the prompts that were shortened.
        error: why there is no number; empty where there is.
        texts: of a reading, what each token writes.
    """

    values: tuple[float, ...] | None
    tokens: int = 0
    cut: int = 0
    error: str = ""
    decided: DecidedAnswer | None = None
    texts: tuple[str, ...] = ()


def answer_units(model: RewardModel, units: Sequence[Unit]) -> list[Outcome]:
    """The outcome of each unit, in their order.

    Units are asked together; where that fails they are asked again in halves, so that one which the model
    cannot answer costs no other.
    """
    places: dict[type, list[int]] = {}
    for place, unit in enumerate(units):
        places.setdefault(type(unit), []).append(place)
    outcomes: dict[int, Outcome] = {}
    for where in places.values():
        outcomes |= zip(where, _asked(model, [units[place] for place in where]), strict=True)
    return [outcomes[place] for place in range(len(units))]


def _asked(model: RewardModel, units: Sequence[Unit]) -> list[Outcome]:
    try:
        return _together(model, units)
    except Exception as error:  # also of a bug: the process goes on, and the others get their numbers
        if len(units) == 1:
            return [Outcome(None, error=_reason(error))]
        half = len(units) // 2
        return _asked(model, units[:half]) + _asked(model, units[half:])


def _together(model: RewardModel, units: Sequence[Unit]) -> list[Outcome]:
    questions = [unit for unit in units if isinstance(unit, Decision)]
    if questions:
        return _decided(model, questions)
    readings = [unit for unit in units if isinstance(unit, Reading)]
    if readings:
        return [_read(model, unit) for unit in readings]
    earlier = model.usage
    values = _values(model, units)
    usage = model.usage - earlier
    cut = _cut(model, units) if usage.truncated else [0] * len(units)
    return [Outcome(*row) for row in zip(values, shares(usage, units), cut, strict=True)]


def _decided(model: RewardModel, questions: Sequence[Decision]) -> list[Outcome]:
    if not isinstance(model, DecisionModel):
        raise ScoringError("the model answers no typed questions")
    requests = [Request(one.state, {_NAME: one.question}, one.orders) for one in questions]
    return [
        Outcome((), decisions.usage.tokens, decisions.usage.truncated, decided=decisions[_NAME])
        for decisions in model.decide(requests)
    ]


def _read(model: RewardModel, unit: Reading) -> Outcome:
    if not isinstance(model, TokenReader):
        raise ScoringError("the model tells nothing of the tokens of an answer")
    earlier = model.usage
    tokens = model.token_logprobs(unit.prompt, unit.response)
    return Outcome(tokens.values, (model.usage - earlier).tokens, tokens.cut, texts=tokens.texts)


def _values(model: RewardModel, units: Sequence[Unit]) -> list[tuple[float, ...]]:
    texts = [unit.text for unit in units if isinstance(unit, Whole)]
    if texts:
        if not isinstance(model, TextScorer):
            raise ScoringError("the model scores no text as it stands")
        return [(_finite(score),) for score in model.score_texts(texts)]
    answers = [unit for unit in units if isinstance(unit, Answer)]
    if answers:
        if not isinstance(model, ScalarModel):
            raise ScoringError("the model compares answers and gives a single one no number")
        scores = model.score([unit.prompt for unit in answers], [unit.response for unit in answers])
        return [(_finite(score),) for score in scores]
    verdicts = model.compare([unit for unit in units if isinstance(unit, Pair)])
    table = np.concatenate([verdicts.log_odds, verdicts.mass], axis=1)  # (n, 4)
    if not np.isfinite(table[:, 0]).all() or np.isinf(table).any():  # the first order is always asked
        raise ScoringError("the model gave no finite number")
    return [tuple(map(float, row)) for row in table]


def _finite(score: float) -> float:
    if not np.isfinite(score):
        raise ScoringError("the model gave no finite number")
    return float(score)


def _cut(model: RewardModel, units: Sequence[Unit]) -> list[int]:
    """Tokens that each pair or answer loses: an answer half of what it would lose on both sides of a pair."""
    pairs = [unit for unit in units if isinstance(unit, Pair)]
    pairs += [Pair(unit.prompt, unit.response, unit.response) for unit in units if isinstance(unit, Answer)]
    counts = model.tokens_cut(pairs)
    if counts is None:
        return [0] * len(units)
    return [n if isinstance(u, Pair) else n // 2 for n, u in zip(counts, units, strict=True)]


def _reason(error: Exception) -> str:
    """Why there is no number. A bug is told on stderr by its place, without a text that may hold a prompt."""
    if isinstance(error, GramError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    name = type(error).__name__
    _log.error("%s at %s:%s in a forward pass", name, PurePath(last.filename).name, last.lineno)
    return f"the model failed ({name})"


def shares(usage: Usage, units: Sequence[Unit]) -> list[int]:
    """Tokens of each unit: its part, by characters, of those that were read for all.

    Example:
        >>> shares(Usage(tokens=30), [Answer("Why?", "So."), Answer("Why?", "So, so, so.")])
        [10, 20]
    """
    lengths = [prompt_length(unit) + answer_length(unit) for unit in units]
    total = max(1, sum(lengths))
    return [round(usage.tokens * length / total) for length in lengths]


def prompt_length(unit: Unit) -> int:
    """Characters of the prompt, which answers to it share."""
    if isinstance(unit, Decision | Whole):
        return len(unit.prompt)
    return sum(len(turn.content) for turn in unit.prompt)


def answer_length(unit: Unit) -> int:
    """Characters of what is asked about."""
    match unit:
        case Pair():
            return len(unit.a) + len(unit.b)
        case Answer():
            return len(unit.response)
        case Decision():
            return len(repr(unit.question))
        case Whole():
            return len(unit.text)


def key_of(unit: Unit) -> bytes:
    """16 bytes that are the same for equal units only.

    Example:
        >>> key_of(Pair("Why?", "a", "b")) == key_of(Pair("Why?", "ab", ""))
        False
    """
    match unit:
        case Pair():
            parts = [*_turns(unit), unit.a, unit.b]
        case Answer():
            parts = [*_turns(unit), unit.response]
        case Decision():
            parts = [unit.prompt, repr(unit.question), str(unit.orders)]
        case Whole():
            parts = [unit.text]
    digest = blake2b(type(unit).__name__.encode(), digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def _turns(unit: Pair | Answer) -> Iterator[str]:
    for turn in unit.prompt:
        yield turn.role
        yield turn.content
