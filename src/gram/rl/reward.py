"""What all rewards share: an outcome per answer, shaping, and failures that are counted and limited.

Knows numbers, prompts and answers; knows neither models nor trainers. A reward is a number per answer, higher
is better, or None where the model failed.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from gram.errors import ConfigError, WrongTypeError
from gram.messages import kind_of
from gram.rl.failures import Failures
from gram.rl.rows import Reference, Response, Rows
from gram.rl.shaping import Shaping
from gram.types import FloatArray, PromptLike

FAILURE_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards of n answers.

    Attributes:
        rewards: n numbers; None where the model failed.
        scores: n probabilities of winning, 0 to 1; None as a whole for rewards without probabilities.
        metrics: ``mean`` and ``spread`` (standard deviation) of the rewards, ``failures`` (share of the
            answers), and what the kind of reward adds, such as ``position_gap``.
    """

    rewards: list[float | None]
    scores: list[float | None] | None
    metrics: dict[str, float]


@runtime_checkable
class Concurrent(Protocol):
    """A model that says whether calls from several threads may run at once, such as one on a server."""

    concurrent: bool


class Reward(ABC):
    """What all rewards share: shaping, and failures that are counted and limited.

    Args:
        shaping: length control, scale and clip.
        failure_limit: most failures in all calls together; one more stops the run. An answer that could not
            be read or scored is one failure, and so is a group.
    """

    def __init__(self, shaping: Shaping | None = None, *, failure_limit: int = FAILURE_LIMIT) -> None:
        self.shaping = shaping or Shaping()
        self.failures = Failures(failure_limit)

    def turn(self, lock: threading.Lock) -> AbstractContextManager[object]:
        """What a call from one of several threads holds: ``lock``, unless calls may run side by side."""
        return nullcontext() if self.concurrent else lock

    @property
    def concurrent(self) -> bool:
        """Whether calls may run side by side; a model of this process is asked by one at a time."""
        return False

    @property
    def grouped(self) -> bool:
        """Whether an answer is compared with the other answers of its call."""
        return False

    @property
    def in_step(self) -> bool:
        """Whether all processes of the run must make the same calls in the same order."""
        return False

    @abstractmethod
    def __call__(
        self,
        prompts: Iterable[PromptLike],
        responses: Iterable[Response],
        references: Iterable[Reference] | None = None,
    ) -> Rewards:
        """Rewards of ``responses[i]`` as answers to ``prompts[i]``; a row that cannot be read is a failure.

        Raises:
            ScoringError: the failures are over the limit.
            WrongTypeError: prompts, responses or references are no list.
            ValueError: not as many responses as prompts.
        """
        ...

    def _outcome(
        self,
        rows: Rows,
        values: FloatArray,
        scores: FloatArray | None = None,
        **metrics: float,
    ) -> Rewards:
        """The outcome of a call, given the values (and probabilities) of the rows that could be read."""
        shaped = self.shaping.apply(values, rows.responses, rows.chats)
        numbers = shaped[~np.isnan(shaped)]  # rewards of the answers that did not fail
        all_metrics = {
            "mean": float(numbers.mean()) if len(numbers) else math.nan,
            "spread": float(numbers.std()) if len(numbers) else math.nan,
            "failures": 1.0 - len(numbers) / max(1, rows.count),
            **metrics,
        }
        return Rewards(
            rows.spread(_with_none(shaped)),
            None if scores is None else rows.spread(_with_none(scores)),
            {name: value for name, value in all_metrics.items() if not math.isnan(value)},
        )


def is_concurrent(model: object) -> bool:
    """Whether a model may be asked by several threads at once."""
    return isinstance(model, Concurrent) and model.concurrent


def check_model(model: object, fits: bool, method: str) -> None:
    """Refuse a model that cannot do what the reward asks of it.

    Raises:
        WrongTypeError: it does not fit: a judge scores no single answers, and a path is no model.
    """
    if not fits:
        raise WrongTypeError(f"expected a model with {method}(), got {kind_of(model)}", field="model")


def refuse_groups(reward: Reward, trainer: str) -> None:
    """Refuse a reward within groups where a trainer asks for one answer per call: each would be alone.

    Raises:
        ConfigError: naming the trainer.
    """
    if reward.grouped:
        raise ConfigError(
            f"{trainer} asks for one answer per call, which a {kind_of(reward)} has nothing to compare with: "
            "use a ReferenceReward, or a LikelihoodReward"
        )


def _with_none(values: FloatArray) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
