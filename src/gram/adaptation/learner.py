"""How to adapt, and the training of one model again and again from the same weights.

Knows objectives and which weights are trained; knows nothing of folds, nor of what the training is for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from gram.asking import Precision
from gram.bounds import Count, Folds, Rank, Rate, Seed, check_bounds
from gram.errors import ConfigError
from gram.modeling.lowered import Lowered
from gram.modeling.trainable import LoraSettings, add_lora, freeze, merged, without_adapters
from gram.objectives.objective import Objective, Sample
from gram.training.config import check_run_length
from gram.training.fit import FitSettings, fit
from gram.types import Preference

Method: TypeAlias = Literal["lora", "all", "frozen"]

RATES: dict[Method, tuple[float, ...]] = {
    "lora": (3e-4, 1e-3),
    "all": (1e-4, 3e-4),
    "frozen": (1e-3, 1e-2),
}
_PASSES = 12
_STEPS = (32, 200)  # least and most steps tried by default


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt; the defaults are meant to be left alone.

    Attributes:
        method: low-rank adapters, all weights, or the output head of a frozen model.
        learning_rates: candidates for the rate, each tried once; empty: those of the method.
        max_steps: largest number of optimizer steps among the candidates; None: by the number of rows.
        batch_size: rows per step.
        token_budget: most tokens of a forward pass in training; None: by the free memory.
        folds: of the cross-validation.
        lora_rank, lora_alpha: of the adapters.
        keep_adapters: leave them apart from the weights they were trained on.
        seed: of adapters and of the order of training.
        dtype: precision of the products in training.

    Example:
        >>> AdaptSettings(method="all").rates, AdaptSettings().steps_for(rows=100)
        ((0.0001, 0.0003), 75)
    """

    method: Method = "lora"
    learning_rates: tuple[Rate, ...] = ()
    max_steps: Count | None = None
    batch_size: Count = 16
    token_budget: Count | None = None
    folds: Folds = 5
    lora_rank: Rank = 16
    lora_alpha: Count = 32
    keep_adapters: bool = False
    seed: Seed = 0
    dtype: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.method not in RATES:
            raise ConfigError(f"method must be one of {', '.join(RATES)}, got '{self.method}'")
        check_bounds(self)
        check_run_length(self.max_steps or 1, self.batch_size)

    @property
    def rates(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(self.learning_rates)) or RATES[self.method]

    def steps_for(self, rows: int) -> int:
        """Most steps tried: twelve passes over the rows, but no fewer than 32 and no more than 200."""
        least, most = _STEPS
        return self.max_steps or min(most, max(least, math.ceil(_PASSES * rows / self.batch_size)))


class Learner:
    """Trains one model again and again from the same weights."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective[Preference],
        samples: Sequence[Sample],
        settings: AdaptSettings,
    ) -> None:
        self._model: nn.Module = model
        self._objective = objective
        self._samples = samples
        self._settings = settings
        self._device: Literal["cpu", "cuda"] = "cuda" if model.device.type == "cuda" else "cpu"
        torch.manual_seed(settings.seed)  # of the adapters
        if settings.method == "lora":
            lora = LoraSettings(settings.lora_rank, settings.lora_alpha)
            self._model = add_lora(model, lora, score_head=objective.head == "score")
        elif settings.method == "frozen":
            freeze(model)
        self._lowered = Lowered(self._model) if settings.dtype == "bf16" else None
        weights = [weight for weight in self._model.parameters() if weight.requires_grad]
        self._start = [(weight, weight.detach().clone()) for weight in weights]

    def learn(
        self,
        rows: npt.NDArray[np.int64],
        rate: float,
        steps: int,
        observe: Callable[[int], None] | None = None,
    ) -> float:
        """Train on ``rows`` from the old weights; returns the mean loss."""
        self._restart()
        how = FitSettings(
            steps=steps,
            batch_size=min(self._settings.batch_size, len(rows)),
            token_budget=self._settings.token_budget,
            learning_rate=rate,
            schedule="constant_with_warmup",
            warmup=0.0,
            seed=self._settings.seed,
            dtype=self._settings.dtype,
            device=self._device,
            log_steps=steps,
        )
        samples = [self._samples[place] for place in rows]
        model = cast(PreTrainedModel, self._model)
        return fit(model, self._objective, samples, how, title=None, observe=observe).train_loss

    def settle(self, adopted: bool) -> nn.Module:
        """Merge the adapters into the model if ``adopted``, else remove them and restore the old weights.

        Returns:
            The model; with its adapters apart where they are to be kept.
        """
        if self._lowered is not None:
            self._lowered.restore()
        if not adopted:
            self._restart()
        elif self._settings.keep_adapters:
            return self._model
        plain = merged(self._model) if adopted else without_adapters(self._model)
        return plain.requires_grad_(True)

    def _restart(self) -> None:
        with torch.no_grad():
            for weight, value in self._start:
                weight.copy_(value)
