"""Frozen weights held in bf16 while the others are trained, and given back as they were.

Half the memory, and no rounding of them in every step. Knows parameters and whether they are frozen; knows no
training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Lowered:
    """The frozen fp32 weights of a model, in bf16 until ``restore``.

    A weight that bf16 holds exactly, as those of most published models, needs no copy; of others the fp32
    original is kept, off any GPU.

    Example:
        >>> model = nn.Linear(1, 1).requires_grad_(False)
        >>> model.weight.fill_(0.1)[0, 0].dtype
        torch.float32
        >>> lowered = Lowered(model)
        >>> model.weight.dtype, round(model.weight.item(), 5)
        (torch.bfloat16, 0.1001)
        >>> lowered.restore()
        >>> model.weight.dtype, round(model.weight.item(), 5)
        (torch.float32, 0.1)
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept: list[tuple[nn.Parameter, Tensor | None]] = []
        for weight in model.parameters():
            if weight.requires_grad or weight.dtype != torch.float32:
                continue
            low = weight.data.bfloat16()
            exact = torch.equal(low.float(), weight.data)
            self._kept.append((weight, None if exact else weight.data.cpu()))
            weight.data = low

    def restore(self) -> None:
        """Give every weight its fp32 value back; a second call does nothing."""
        for weight, original in self._kept:
            weight.data = weight.data.float() if original is None else original.to(weight.device)
        self._kept = []
