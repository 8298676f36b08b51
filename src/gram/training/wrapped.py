"""A model inside the wrappers that train it on several processes. Knows modules; knows no objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")


def through(model: nn.Module, read: Callable[[nn.Module], T]) -> T:
    """``read`` applied to the model inside ``model``, as if it were that model's own forward pass.

    Data-parallel and sharding wrappers do their work in the forward pass of the model that they wrap. An
    engine calls parts of that model. If it did so without a forward pass of the wrapper, gradients would not
    be shared between processes.

    Args:
        read: a function of the inner model, such as an objective's loss.
    """
    inner = getattr(model, "module", model)
    forward = inner.__dict__.get("forward")

    def restore() -> None:
        if forward is None:
            inner.__dict__.pop("forward", None)
        else:
            inner.forward = forward

    def redirection(*_: Any, **__: Any) -> T:
        restore()
        return read(inner)

    inner.forward = redirection
    try:
        return model()
    finally:
        restore()
