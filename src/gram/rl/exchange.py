"""What the processes of a run hand each other in one reward's calls, checked to come from the same call.

``Processes`` pairs the values of all processes by the order in which they come. Where that order differs, as
that of threads may, a process would get what another reward sent. Not noticed is one thing: two rewards of
equal settings that stand in each other's place from the first call to the last. Knows orders of calls; knows
no reward.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gram.errors import ConfigError
from gram.rl.processes import Processes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Sent(Generic[T]):
    """A value, the settings of its reward, that reward, and the how manieth of its values this is."""

    settings: Hashable
    sender: str
    number: int
    value: T


class Exchange:
    """The values of one reward, which all processes of a run exchange.

    Args:
        processes: how they reach each other.
        settings: must be the same in all processes.

    Example:
        >>> from gram.rl.processes import Torch
        >>> Exchange(Torch(), "win_rate").gather("mine")
        ['mine']
    """

    def __init__(self, processes: Processes, settings: Hashable) -> None:
        self._processes = processes
        self._settings = settings
        self._sender = uuid.uuid4().hex
        self._number = 0
        self._team: list[str] = []  # the senders of the first values: the same reward in each process

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self._processes.rank

    def gather(self, value: T) -> list[T]:
        """The ``value`` of every process, in the order of their ranks; all of them must call.

        Raises:
            ConfigError: a process sent a value of another reward, or of another call.
        """
        mine = _Sent(self._settings, self._sender, self._number, value)
        received: list[_Sent[T]] = self._processes.gather(mine)
        if len(received) > 1:  # what was asked before the processes met does not count
            senders = [sent.sender for sent in received]
            self._team = self._team or senders
            of_one_call = {(sent.settings, sent.number) for sent in received} == {
                (mine.settings, mine.number)
            }
            if not of_one_call or senders != self._team:
                raise ConfigError(
                    "the processes sent values of different rewards or calls: all of them must make the same "
                    "calls in the same order, and those of threads come in any (TrlReward uses none)"
                )
            self._number += 1
        return [sent.value for sent in received]
