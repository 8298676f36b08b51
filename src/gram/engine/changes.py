"""Whether a weight is still what it was when something was computed from it.

torch counts what is written to a tensor in place, but fused optimizers, those of transformers' trainer among
them, write past that count: their steps are counted here, whoever trains. What is written through
``weight.data`` into the same memory is not seen. Knows tensors and optimizers; knows no models.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakTensorKeyDictionary

State: TypeAlias = tuple[int, torch.dtype, int, int]

_steps: Any = WeakTensorKeyDictionary()  # weight: how many steps of optimizers it has been through


def state_of(weight: Tensor) -> State:
    """What is another value after the weight was changed, by an operation of torch or an optimizer's step.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> weight.grad, before = torch.ones(2), state_of(weight)
        >>> torch.optim.AdamW([weight], fused=True).step()
        >>> state_of(weight) == before
        False
    """
    # A weight in inference mode counts no changes: it cannot be trained.
    version = 0 if weight.is_inference() else weight._version
    return weight.data_ptr(), weight.dtype, version, _steps.get(weight, 0)


def _count(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        for weight in group["params"]:
            _steps[weight] = _steps.get(weight, 0) + 1


register_optimizer_step_post_hook(_count)  # of every optimizer of this process, made before or after
