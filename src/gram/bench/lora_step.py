"""Stage 2 with LoRA as a careful user writes it: Hugging Face and PEFT, no trainer, no autocast.

Weights and adapters in the precision of the products, both orders of a pair in one left-padded batch, logits
of the last position only, torch's own attention, AdamW. It knows nothing of our engines.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gram.bench.learner import Learner
from gram.bench.ours import LEARNING_RATE, LORA
from gram.engine.plain import left_pad
from gram.objectives.formulas import smoothed_label_loss
from gram.objectives.objective import Sample


def lora_learner(
    model: Any, like: Sequence[nn.Parameter], *, dtype: torch.dtype, labels: Sequence[int], smoothing: float
) -> Learner:
    """The loop on a copy of ``model``.

    Args:
        model: with stock attention and no adapters.
        like: weights of adapters in PEFT's order, with whose values it begins.
        labels: ids of the two label words.
        smoothing: of the label.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    settings = LoraConfig(
        r=LORA.rank, lora_alpha=LORA.alpha, target_modules="all-linear", task_type=TaskType.CAUSAL_LM
    )
    frozen = copy.deepcopy(model).to(dtype)
    trained: Any = get_peft_model(frozen, settings, autocast_adapter_dtype=False).train()
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter, value in zip(parameters, like, strict=True):
            parameter.copy_(value)

    def loss(samples: Sequence[Sample]) -> Tensor:
        batch = left_pad([row.ids for sample in samples for row in sample.rows])
        batch = {name: value.to(trained.device) for name, value in batch.items()}
        logits = trained(**batch, use_cache=False, logits_to_keep=1).logits[:, -1, list(labels)].float()
        first = torch.tensor([1.0, 0.0], device=logits.device).repeat(len(samples))
        return smoothed_label_loss(logits, first, smoothing) / len(first)

    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    return Learner(loss, parameters, optimizer, None)
