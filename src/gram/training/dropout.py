"""Dropout switched off in a model, and put back as it was.

Each forward pass would draw anew, so that what is learned would depend on how a step is cut into passes.
Knows modules and their configurations; knows no training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, ``model`` drops nothing in training mode; behind it, every share is what it was.

    Shares are found by name, in modules and in the configurations that modules read while they compute:
    ``attention_dropout``, ``resid_pdrop``, ``layerdrop`` and whatever else says "drop". Adapters of peft have
    torch's own layers.

    Example:
        >>> import torch
        >>> layer = nn.Dropout(0.5)
        >>> with without_dropout(layer):
        ...     layer(torch.ones(4)).tolist(), layer.p
        ([1.0, 1.0, 1.0, 1.0], 0.0)
        >>> layer.p
        0.5
    """
    shares = [(holder, name, value) for holder in _holders(model) for name, value in _shares(holder)]
    for holder, name, _ in shares:
        setattr(holder, name, 0.0)
    try:
        yield
    finally:
        for holder, name, value in shares:
            setattr(holder, name, value)


def _holders(model: nn.Module) -> list[object]:
    """The modules of ``model`` and their configurations, each once."""
    modules = list(model.modules())
    configurations = [getattr(module, "config", None) for module in modules]
    return list({id(holder): holder for holder in (*modules, *configurations)}.values())


def _shares(holder: object) -> list[tuple[str, float]]:
    """The shares that ``holder`` drops, by the names of its attributes."""
    all_of_it = "drop" in type(holder).__name__.lower()  # torch's layers call theirs ``p``
    return [
        (name, value)
        for name, value in getattr(holder, "__dict__", {}).items()
        if isinstance(value, float) and ("drop" in name.lower() or (all_of_it and name == "p"))
    ]
