"""The nouns of the project and the protocols every model is used through.

Knows numpy and messages: no tokenizer, no template, no torch. Prompts may be given in any form that
``messages`` reads. Everything here is immutable, so a
record can be shared between data, training, scoring and evaluation without copies.

``Pair`` carries no label on purpose: a label beside it (``Preference``) turns with it when the two
answers are swapped, so that a label cannot leak through the position of an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from gram.bounds import Within, check_number
from gram.errors import WrongTypeError
from gram.messages import Chat as Chat
from gram.messages import Message as Message
from gram.messages import PromptLike as PromptLike
from gram.messages import as_chat as as_chat
from gram.messages import as_instances, as_text, as_texts, kind_of
from gram.usage import Usage as Usage

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, without a label that says which is better.

    Example:
        >>> pair = Pair("What is 2 + 2?", a="4", b="5")
        >>> pair.swapped().a, pair.prompt[0].role
        ('5', 'user')
    """

    prompt: Chat
    a: str
    b: str

    def __init__(self, prompt: PromptLike, a: str, b: str) -> None:
        _fill(self, prompt=as_chat(prompt), a=as_text(a, "a"), b=as_text(b, "b"))

    def swapped(self) -> Pair:
        """The same two answers, shown the other way round."""
        return Pair(self.prompt, self.b, self.a)


@dataclass(frozen=True, slots=True)
class ResponsePair:
    """Two unlabeled answers to one prompt: the raw material of stage 1."""

    prompt: Chat
    first: str
    second: str
    id: str = ""

    def __init__(self, prompt: PromptLike, first: str, second: str, id: str = "") -> None:  # noqa: A002
        texts = {"first": as_text(first, "first"), "second": as_text(second, "second")}
        _fill(self, prompt=as_chat(prompt), **texts, id=id)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one prompt."""

    prompt: Chat
    response: str
    id: str = ""

    def __init__(self, prompt: PromptLike, response: str, id: str = "") -> None:  # noqa: A002
        _fill(self, prompt=as_chat(prompt), response=as_text(response, "response"), id=id)


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text without a prompt."""

    text: str
    id: str = ""

    def __post_init__(self) -> None:
        _fill(self, text=as_text(self.text, "text"))


@dataclass(frozen=True, slots=True)
class Preference:
    """A labeled pair.

    ``p_a`` is the probability that ``pair.a`` is the better answer: 1 or 0 for a hard label, 0.5 for a
    tie. ``margin`` is how much better the better answer is, in the unit of the data set (0: not given).
    ``group`` names the underlying question: rows of one group never stand on both sides of a split.

    Example:
        >>> swapped = Preference(Pair("What is 2 + 2?", a="4", b="5"), p_a=1.0).swapped()
        >>> swapped.pair.a, swapped.p_a  # the label turns with the answers
        ('5', 0.0)
    """

    pair: Pair
    p_a: float
    id: str = ""
    subset: str = ""
    group: str = ""
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.pair, Pair):
            raise WrongTypeError(f"expected a Pair, got {kind_of(self.pair)}", field="pair")
        check_number("p_a", self.p_a, float, Within(0, 1))
        check_number("margin", self.margin, float, Within())

    def swapped(self) -> Preference:
        """The same judgement with the answers, and the label with them, the other way round."""
        return replace(self, pair=self.pair.swapped(), p_a=1.0 - self.p_a)


@dataclass(frozen=True, slots=True)
class Contest:
    """Several candidate answers to one prompt.

    Example:
        >>> len(Contest("What is 2 + 2?", ["4", "5", "four"]).responses)
        3
    """

    prompt: Chat
    responses: tuple[str, ...]
    id: str = ""

    def __init__(self, prompt: PromptLike, responses: Iterable[str], id: str = "") -> None:  # noqa: A002
        _fill(self, prompt=as_chat(prompt), responses=tuple(as_texts(responses, "responses")), id=id)


def _fill(item: object, **values: object) -> None:
    """Set the fields of an immutable ``item`` that is being made."""
    for name, value in values.items():
        object.__setattr__(item, name, value)


def as_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs in any iterable as a list.

    Raises:
        WrongTypeError: a single pair where a list is due, or a value that is no pair.
    """
    return as_instances(pairs, Pair, "pairs")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A model's verdicts on n pairs; probabilities and position bias follow from them without the model.

    Attributes:
        log_odds: (n, 2) natural-log odds that ``a`` beats ``b``. Column 0: asked with ``a`` shown first;
            column 1: with ``a`` shown second. NaN: not asked.
        mass: (n, 2) probability the model gave to the two labels together, out of its whole vocabulary;
            1 for models that do not answer in words, NaN where it is not told.
        usage: tokens read for these verdicts; zero where the model does not count them.
        bounded: (n, 2) where a server told one label's probability only: the true log-odds have the same sign
            and are at least as far from 0, and the mass is at most so much. None: nowhere.

    Example:
        >>> verdicts = Verdicts(np.log([[3.0, 1.0]]), np.ones((1, 2)))  # odds 3:1 shown first, 1:1 second
        >>> verdicts.p_a.tolist(), verdicts.position_gap.tolist()
        ([0.625], [0.25])
    """

    log_odds: FloatArray
    mass: FloatArray
    usage: Usage = field(default_factory=Usage)
    bounded: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        _fill(self, log_odds=np.asarray(self.log_odds, float), mass=np.asarray(self.mass, float))
        if self.log_odds.ndim != 2 or self.log_odds.shape[1] != 2:
            raise ValueError(f"log_odds must have shape (n, 2), got {self.log_odds.shape}")
        if self.mass.shape != self.log_odds.shape:
            raise ValueError(f"mass {self.mass.shape} and log_odds {self.log_odds.shape} differ in shape")

    def __len__(self) -> int:
        return len(self.log_odds)

    @property
    def p_a(self) -> FloatArray:
        """(n,) probability that ``a`` beats ``b``, averaged over the orders that were asked."""
        verdict_mask = ~np.isnan(self.log_odds)  # (n, 2): the orders that were asked
        total = np.where(verdict_mask, sigmoid(self.log_odds), 0.0).sum(axis=1)  # (n,)
        count = verdict_mask.sum(axis=1)  # (n,)
        return np.divide(total, count, out=np.full(len(self), np.nan), where=count > 0)

    @property
    def position_gap(self) -> FloatArray:
        """(n,) P(a) when shown first minus P(a) when shown second: above 0 favours the first place."""
        p = sigmoid(self.log_odds)
        return p[:, 0] - p[:, 1]

    def swapped(self) -> Verdicts:
        """The verdicts on the swapped pairs."""
        bounded = None if self.bounded is None else self.bounded[:, ::-1]
        return Verdicts(-self.log_odds[:, ::-1], self.mass[:, ::-1], self.usage, bounded)


def sigmoid(x: FloatArray) -> FloatArray:
    """The logistic function without overflow; NaN stays NaN."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))


@runtime_checkable
class PreferenceModel(Protocol):
    """Anything that can say which of two answers is better."""

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        """Verdicts for ``pairs``, in their order."""
        ...


@runtime_checkable
class ScalarModel(Protocol):
    """Anything that gives a single answer a number; higher is better, the unit is the model's own."""

    def score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        """(n,) scores of ``responses[i]`` as an answer to ``prompts[i]``."""
        ...


class Fingerprinted(Protocol):
    """Something with a fingerprint; two with equal fingerprints have the same content."""

    @property
    def hash(self) -> str: ...


@runtime_checkable
class RewardModel(PreferenceModel, Protocol):
    """What every model has that ``gram.load`` gives; one that scores single answers is a ``ScalarModel`` too.

    Attributes:
        temperature: divides the log-odds; set by calibration, 1 where there was none.
    """

    temperature: float

    @property
    def slope(self) -> float:
        """Log-odds per unit of score; 1 over the temperature where there are no scores."""
        ...

    @property
    def template(self) -> Fingerprinted | None:
        """The judge prompt; None for models that are not asked with one."""
        ...

    @property
    def usage(self) -> Usage:
        """What all answers so far took together."""
        ...

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int] | None:
        """Tokens that each pair loses to fit the model, as it is shown; None if that is not known.

        Renders and asks no model.
        """
        ...
