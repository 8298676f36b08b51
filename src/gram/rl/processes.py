"""The processes of a training run, as a reward needs them: the number of this one, and the values of all.

Knows torch.distributed, if it has been started; never loads torch itself.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol


class Processes(Protocol):
    """All processes of a run, seen from one of them."""

    @property
    def rank(self) -> int:
        """Number of this process."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The ``value`` of every process, in the order of their ranks; all of them must call."""
        ...


class Torch:
    """The processes of torch.distributed; where that is not in use, this process alone.

    Example:
        >>> Torch().rank, Torch().gather("mine")
        (0, ['mine'])
    """

    @property
    def rank(self) -> int:
        distributed = _distributed()
        return distributed.get_rank() if distributed else 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        distributed = _distributed()
        return distributed is None or distributed.get_world_size() == 1

    def gather(self, value: Any) -> list[Any]:
        distributed = _distributed()
        if not distributed:
            return [value]
        values: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(values, value)
        return values


def _distributed() -> Any:
    """torch.distributed if a process group is in use, else None; without torch loaded there can be none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    return torch.distributed
