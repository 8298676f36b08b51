"""Forward passes of ours in place of those of single modules: put there, found again, and taken away.

A module's class stays as it is, so that no other model changes; hooks of the module run as before. Knows
modules; knows nothing of what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

from torch import nn


class _StandIn(partial[Any]):
    """A function that was put in place of a forward pass here, and not by somebody else."""


@dataclass(frozen=True)
class Call:
    """What a module was given, and what it said."""

    module: Any
    values: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Any


def is_free(module: nn.Module) -> bool:
    """Whether a module runs the forward pass of its class: another's (offloading, tracing) is left alone."""
    return "forward" not in module.__dict__


def put(module: nn.Module, function: Callable[..., Any], *bound: Any) -> None:
    """Have ``function(*bound, module, ...)`` called as the forward pass of ``module``."""
    module.forward = MethodType(_StandIn(function, *bound), module)


def put_there(module: nn.Module) -> Callable[..., Any] | None:
    """The function that ``put`` has put in place of the forward pass; None: there is none."""
    found = getattr(module.__dict__.get("forward"), "__func__", None)
    return found.func if isinstance(found, _StandIn) else None


def take_away(modules: Iterable[nn.Module]) -> None:
    """Give every module the forward pass of its class back."""
    for module in modules:
        if put_there(module) is not None:
            del module.forward


def calls_of(modules: Iterable[nn.Module], run: Callable[[], object]) -> list[Call]:
    """Every call of one of the modules while ``run`` runs, in the order in which they end."""
    calls: list[Call] = []

    def record(module: Any, values: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        calls.append(Call(module, values, keywords, output))

    hooks = [module.register_forward_hook(record, with_kwargs=True) for module in modules]
    try:
        if hooks:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls
