"""Causal masks as pieces of one band, which is made once per size.

Knows places of queries and keys only.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def causal_mask(
    queries: int, stop: int, keys: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(queries, keys) added to the scores: 0 where a query sees a key, else minus infinity.

    Args:
        stop: the last query is at place ``stop - 1`` of the keys, and sees up to itself.
        window: how many keys, its own place included, a query sees at most; None: all before it.

    Example:
        >>> causal_mask(2, 3, 4, None, torch.float32, torch.device("cpu")).tolist()
        [[0.0, 0.0, -inf, -inf], [0.0, 0.0, 0.0, -inf]]
    """
    return _band(1 << (keys - 1).bit_length(), window, dtype, device)[stop - queries : stop, :keys]


@lru_cache(maxsize=4)
def _band(size: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size) the causal mask of one sequence; every node's mask is a piece of it."""
    with torch.inference_mode(False):  # the cached mask may serve a training step later
        sees = torch.ones(size, size, dtype=torch.bool, device=device).tril()
        sees = sees if window is None else sees.triu(1 - window)
        return torch.zeros(size, size, dtype=dtype, device=device).masked_fill_(~sees, -torch.inf)
