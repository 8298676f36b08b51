"""What all rewards share: an outcome per answer, shaping, and failures that are counted and limited.

Knows numbers, prompts and answers; knows neither models nor trainers. A reward is a number per answer, higher
is better, or None where the model failed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gram.rl.failures import Failures
from gram.rl.shaping import Shaping
from gram.types import Chat, FloatArray, PromptLike, as_chat

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


class Reward(ABC):
    """What all rewards share: shaping, and failures that are counted and limited.

    Args:
        shaping: length control, scale and clip.
        failure_limit: most failures in all calls together; one more stops the run. An answer that could not
            be scored is one failure, and so is a group.
    """

    def __init__(self, shaping: Shaping | None = None, *, failure_limit: int = FAILURE_LIMIT) -> None:
        self.shaping = shaping or Shaping()
        self.failures = Failures(failure_limit)

    @abstractmethod
    def __call__(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[str],
        references: Sequence[str | None] | None = None,
    ) -> Rewards:
        """Rewards of ``responses[i]`` as answers to ``prompts[i]``.

        Raises:
            ScoringError: the failures are over the limit.
        """
        ...

    def _outcome(
        self,
        values: FloatArray,
        responses: Sequence[str],
        prompts: Sequence[Chat],
        scores: FloatArray | None = None,
        **metrics: float,
    ) -> Rewards:
        shaped = self.shaping.apply(values, responses, prompts)
        numbers = shaped[~np.isnan(shaped)]  # rewards of the answers that did not fail
        all_metrics = {
            "mean": float(numbers.mean()) if len(numbers) else math.nan,
            "spread": float(numbers.std()) if len(numbers) else math.nan,
            "failures": 1.0 - len(numbers) / max(1, len(shaped)),
            **metrics,
        }
        return Rewards(
            _with_none(shaped),
            None if scores is None else _with_none(scores),
            {name: value for name, value in all_metrics.items() if not math.isnan(value)},
        )


def as_chats(prompts: Sequence[PromptLike], responses: Sequence[str]) -> list[Chat]:
    """The prompts as messages.

    Raises:
        ValueError: not as many responses as prompts.
    """
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses")
    return [as_chat(prompt) for prompt in prompts]


def reference_text(value: Any) -> str | None:
    """The reference answer in a column or label of a dataset; None if it is None or empty.

    Example:
        >>> reference_text(0), reference_text("")
        ('0', None)
    """
    return None if value is None or value == "" else str(value)


def _with_none(values: FloatArray) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
