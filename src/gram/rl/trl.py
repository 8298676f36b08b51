"""A reward as TRL calls it: ``GRPOTrainer``, ``RLOOTrainer`` and ``OnlineDPOTrainer`` (1.16).

TRL calls ``f(prompts=, completions=, completion_ids=, <every other column>=, trainer_state=, log_extra=,
log_metric=)`` with strings or lists of messages and wants a number or None per completion; the online DPO
trainer passes no ``log_metric`` and takes None for 0. Knows this call; imports nothing of TRL.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from gram.errors import ConfigError
from gram.rl.reward import Reward
from gram.rl.rows import readable, reference_texts
from gram.rl.rows import text_of as text_of

Completion: TypeAlias = "str | Sequence[Mapping[str, Any]]"
_called: dict[str, tuple[Any, weakref.ref[Any]]] = {}
"""By the name of a reward, which was called last, and for which trainer (its state)."""


class TrlReward:
    """A reward function for TRL.

    Args:
        reward: what to compute.
        reference_column: the dataset column with reference answers; not needed where the reward writes its
            own, or needs none.
        name: under which TRL logs it (``rewards/<name>/mean``; this class adds ``<name>/position_gap``, ...).
            Several rewards of one trainer need names of their own: TRL logs those of one name as their mean.

    Example:
        >>> from gram.rl import LikelihoodReward
        >>> class Length:  # scores an answer by its number of characters
        ...     def score(self, prompts, responses):
        ...         return [len(response) for response in responses]
        >>> reward = TrlReward(LikelihoodReward(Length()))
        >>> reward(prompts=["Why?"], completions=["because"])
        [7.0]
    """

    def __init__(self, reward: Reward, *, reference_column: str = "reference", name: str = "gram") -> None:
        self.reward = reward
        self.__name__ = name
        self._column = reference_column

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward per completion; None where the model failed.

        Raises:
            ConfigError: another reward of the same trainer has the same name.
            ScoringError: the failures are over the limit.
            DataError: no row has the reference that the reward needs.
        """
        self._check_name(columns.get("trainer_state"))
        references = columns.get(self._column)
        outcome = self.reward(
            prompts,
            [
                readable(text_of, completion, f"completions[{place}]")
                for place, completion in enumerate(completions)
            ],
            None if references is None else reference_texts(references, self._column),
        )
        if log_metric is not None:
            for name, value in outcome.metrics.items():
                log_metric(f"{self.__name__}/{name}", value)
        return outcome.rewards

    def _check_name(self, trainer: Any) -> None:
        mine = trainer, weakref.ref(self)
        last_trainer, last = _called.setdefault(self.__name__, mine)
        if trainer is not None and last_trainer is trainer and last() not in (self, None):
            raise ConfigError(
                f"two rewards of this trainer are called '{self.__name__}', and TRL would log them as one: "
                "give each a name (TrlReward(..., name=))"
            )
        _called[self.__name__] = mine


class AsyncTrlReward(TrlReward):
    """``TrlReward`` as a coroutine: TRL runs such rewards at the same time, and waits for the slowest only.

    The model is asked in a thread of its own. A ``GroupReward`` over several processes is asked in place, in
    the order of TRL's list, which is the same in all processes; that of threads would not be.
    """

    async def __call__(  # type: ignore[override]
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward per completion; None where the model failed."""
        ask = partial(super().__call__, prompts, completions, log_metric, **columns)
        return ask() if self.reward.in_step else await asyncio.to_thread(ask)
