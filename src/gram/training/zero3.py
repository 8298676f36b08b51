"""A model divided among processes by DeepSpeed (ZeRO-3), where accelerate is told to.

accelerate's configuration is the switch (``configs/accelerate/zero3.yaml``, or its variables in the
environment); the trainer starts DeepSpeed's engine, which divides, saves and loads. Here is what would make
that another training than ours, and how the model becomes whole again. Knows modules and processes; knows no
objective.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gram.errors import ConfigError

_OURS = {
    "ACCELERATE_GRADIENT_CLIPPING": "gradient_clipping: gram train --max-grad-norm",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps: gram train --token-budget",
}
"""Settings of accelerate that gram train has itself, and what to use instead."""
_FILLED = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)
"""What a file of DeepSpeed's own leaves to the trainer."""
_SECTIONS = ("zero_optimization", "fp16", "bf16")


class Zero3:
    """Weights, gradients and optimizer states divided by DeepSpeed.

    Attributes:
        name: as people know it.
        autocasts: asked for bf16, accelerate would have DeepSpeed lower the weights too, which one process
            keeps in fp32.
    """

    name = "ZeRO-3"
    autocasts = False

    @staticmethod
    def check() -> None:
        """Refuse what could not be trained as one process trains it.

        Raises:
            ConfigError: a single process, another stage, weights in half precision, a setting that gram train
                has itself; or DeepSpeed is not installed.
        """
        if find_spec("deepspeed") is None:
            raise ConfigError("accelerate asks for DeepSpeed: pip install 'gram-rm[deepspeed]'")
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise ConfigError("DeepSpeed divides a model among two processes or more: start it without")
        given = _file()
        default = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
        stage = given["zero_optimization"].get("stage", default)
        if str(stage) != "3":
            raise ConfigError(
                f"accelerate asks for ZeRO stage {stage}: set zero_stage: 3 "
                "(see configs/accelerate/zero3.yaml)"
            )
        low = any(given[name].get("enabled") is True for name in ("fp16", "bf16"))
        if low or os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
            raise ConfigError(
                "DeepSpeed would train weights in half precision: set mixed_precision: 'no', and leave fp16 "
                "and bf16 out of its file; gram train --dtype bf16 lowers the products, and keeps the weights"
            )
        for name, instead in _OURS.items():
            if os.environ.get(name, "auto") != "auto":
                raise ConfigError(f"{instead} says it; leave it out of accelerate's configuration")

    @contextmanager
    def around(self) -> Iterator[None]:
        """Leaves stdout to the command, as DeepSpeed prints; and behind it, models that load whole again."""
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            unset_hf_deepspeed_config()

    def take_up(self, trainer: Any) -> None:
        """The trainer and accelerate have done it."""
        assert trainer.is_deepspeed_enabled

    def divide(self, model: nn.Module, accelerator: Any) -> None:
        """DeepSpeed does it when training begins.

        It gathers each module for its own passes. What an engine reads of a module beside that module's own
        forward pass (the output layer; in fused layers all weights) is gathered with the one that reads it.
        """

    def let_go(self, model: nn.Module) -> None:
        """DeepSpeed frees what a pass has gathered."""

    def whole(self, part: nn.Parameter) -> Tensor:
        """The whole weight of which this process holds ``part``, on the CPU. All processes call it."""
        with import_module("deepspeed").zero.GatheredParameters([part]):
            return part.detach().cpu().clone()


def _file() -> dict[str, Any]:
    """DeepSpeed's own file, if accelerate's configuration names one; with all sections that are looked at.

    Raises:
        ConfigError: it cannot be read, or says itself what the trainer would tell DeepSpeed.
    """
    name = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if name == "none":
        return {section: {} for section in _SECTIONS}
    try:
        given = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"deepspeed_config_file {name}: {error}") from error
    sections = {section: given.get(section, {}) for section in _SECTIONS} if isinstance(given, dict) else {}
    if not sections or not all(isinstance(value, dict) for value in sections.values()):
        raise ConfigError(f"deepspeed_config_file {name}: must be an object, and so {', '.join(_SECTIONS)}")
    for field in _FILLED:
        if given.get(field) != "auto":  # left out, it would be DeepSpeed's own: no clipping, for one
            raise ConfigError(f'deepspeed_config_file {name}: {field}: must be "auto": gram train says it')
    for field in ("optimizer", "scheduler"):
        if field in given:
            raise ConfigError(f"deepspeed_config_file {name}: {field}: leave it out: gram train has its own")
    return given | sections
