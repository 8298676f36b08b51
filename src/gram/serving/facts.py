"""What is known of the model that is served: its kind, and what it can be asked.

Knows models as ``RewardModel``; knows no request and no process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from gram.decisions import DecisionModel
from gram.tokens import TokenReader
from gram.types import FloatArray, RewardModel, ScalarModel


@runtime_checkable
class TextScorer(Protocol):
    """Anything that gives a text a number where it ends: a model with a scalar head."""

    def score_texts(self, texts: Sequence[str]) -> FloatArray:
        """(n,) scores of texts as they stand."""
        ...


class About(NamedTuple):
    """What is known of a model from how it was loaded.

    Attributes:
        kind: ``judge``, ``likelihood``, ``scalar`` or ``ensemble`` (of models that score).
        dtype: precision of the weights.
        both_orders: each pair is asked both ways.
        fingerprint: equal where all that the scores depend on is; empty where it is not known.
    """

    kind: str
    dtype: str
    both_orders: bool
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server needs to know of a model.

    Attributes:
        kind, dtype, both_orders, fingerprint: see ``About``.
        scores: gives single answers a number.
        reads_texts: scores texts as they stand.
        decides: answers typed questions.
        reads: tells how likely the tokens of an answer are.
        slope: log-odds per unit of score.
        template: hash of the judge prompt; empty where there is none.
        device: ``cpu`` or ``cuda``.
    """

    kind: str
    dtype: str
    both_orders: bool
    fingerprint: str
    scores: bool
    reads_texts: bool
    decides: bool
    reads: bool
    slope: float
    template: str
    device: str


def facts_of(model: RewardModel, about: Callable[[RewardModel], About]) -> Facts:
    """The facts of ``model``, some of which ``about`` knows."""
    torch = sys.modules.get("torch")  # loaded where a model needs it
    return Facts(
        *about(model),
        scores=isinstance(model, ScalarModel),
        reads_texts=isinstance(model, TextScorer),
        decides=isinstance(model, DecisionModel),
        reads=isinstance(model, TokenReader),
        slope=float(model.slope),
        template=model.template.hash if model.template is not None else "",
        device="cuda" if torch is not None and torch.cuda.is_initialized() else "cpu",
    )
