"""Ours, set up as ``gram score`` and ``gram train`` set it up.

When one of these sets a model up in another way, this is the place to follow it; what is timed, beside whom
and how it is counted stays. Knows no pairs and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gram.engine.base import Engine
from gram.engine.choose import choose_engine
from gram.engine.heads import core
from gram.engine.runner import Runner
from gram.engine.stand_in import take_away
from gram.modeling.lowered import Lowered
from gram.modeling.trainable import LoraSettings, add_lora

LORA = LoraSettings()
LEARNING_RATE = 0.0
"""Of all paths: an update costs what it costs, and all of them keep the same weights to compare."""


@dataclass
class Training:
    """A model that is ready for steps.

    Attributes:
        engine: what the objectives read the model through.
        autocast: precision of the products where it is not that of the weights; None: no autocast.
    """

    model: Any
    engine: Engine
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    autocast: torch.dtype | None


def for_scoring(model: Any, token_budget: int | None, *, fused: bool = True) -> Runner:
    """The model behind the runner that ``gram.load`` uses.

    Args:
        fused: as it is in use; else transformers' own layers run under the same engine.
    """
    runner = Runner(model, token_budget=token_budget)
    if not fused:
        take_away(core(model).modules())
    return runner


def for_training(model: Any, *, bf16: bool, lora: bool, fused: bool = True) -> Training:
    """An fp32 model as ``gram train`` trains it, with ``--dtype bf16`` and ``--lora``; the model is changed.

    Args:
        bf16: products in bf16; weights in training stay fp32, frozen ones are held in bf16.
        lora: adapters on a frozen model.
        fused: as it is in use; else transformers' own layers run under the same engine.
    """
    model.train()
    engine = choose_engine(model, training=True, bf16=bf16)
    if not fused:
        take_away(core(model).modules())
    trained: Any = add_lora(model, LORA, score_head=False) if lora else model
    if bf16:
        Lowered(trained)
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    return Training(trained, engine, parameters, optimizer, torch.bfloat16 if bf16 else None)
