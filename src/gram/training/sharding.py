"""Weights, gradients and optimizer states divided among processes, where accelerate is told to.

accelerate's configuration is the switch (``configs/accelerate/fsdp2.yaml``, or ``ACCELERATE_USE_FSDP=true
FSDP_VERSION=2`` in the environment; ``zero3`` has DeepSpeed's); the trainer and accelerate save and load the
parts. Two things are done here, on every device alike: what is divided, as an engine reads the output layer
beside the model's own forward pass, and how it becomes whole again. Knows modules and processes; knows no
objective.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gram.engine.base import Batch
from gram.errors import ConfigError
from gram.modeling.trainable import decoder_layers
from gram.training.zero3 import Zero3


class Division(Protocol):
    """A way to divide a model among processes.

    Attributes:
        name: as people know it.
        autocasts: whether accelerate can be asked for products in bf16; else the trainer asks torch.
    """

    name: str
    autocasts: bool

    def around(self) -> AbstractContextManager[object]:
        """What stands around a training."""
        ...

    def take_up(self, trainer: Any) -> None:
        """Switch it on in the accelerator that ``trainer`` just made, if accelerate has not."""
        ...

    def divide(self, model: nn.Module, accelerator: Any) -> None:
        """Divide the parameters of ``model``, in place, or say how they will be."""
        ...

    def let_go(self, model: nn.Module) -> None:
        """Free what a pass without gradients has gathered: no backward pass comes to do it."""
        ...

    def whole(self, part: nn.Parameter) -> Tensor:
        """The whole weight of which this process holds ``part``, on the CPU. All processes call it."""
        ...


def asked_for() -> Division | None:
    """How accelerate's configuration asks several processes to divide the model among them; None: not at all.

    Raises:
        ConfigError: it asks for FSDP1, for weights that only the first process loads, or for what ``Zero3``
            refuses.
    """
    if _is_true("ACCELERATE_USE_DEEPSPEED"):
        Zero3.check()
        return Zero3()
    if not _is_true("ACCELERATE_USE_FSDP") or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "accelerate asks for FSDP1: set fsdp_version: 2 (see configs/accelerate/fsdp2.yaml)"
        )
    if _is_true("FSDP_CPU_RAM_EFFICIENT_LOADING"):
        raise ConfigError(
            "accelerate would have one process load the weights: set fsdp_cpu_ram_efficient_loading: false "
            "(see configs/accelerate/fsdp2.yaml)"
        )
    return FullyShard()


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("true", "1")


class FullyShard:
    """FSDP2: torch's ``fully_shard``.

    Each decoder layer is gathered for its own forward and backward pass. All else (embeddings, last norm,
    heads) is gathered for the whole pass of the model. Gathered weights stay in fp32, so that the numbers are
    those of whole copies; autocast lowers them for the products.
    """

    name = "FSDP"
    autocasts = True

    def around(self) -> AbstractContextManager[object]:
        return nullcontext()

    def take_up(self, trainer: Any) -> None:
        """On a CPU accelerate leaves FSDP out without a word, and would train whole copies."""
        from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

        state = trainer.accelerator.state
        if state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin()
            state.distributed_type = DistributedType.FSDP
        trainer.is_fsdp_enabled = True

    def divide(self, model: nn.Module, accelerator: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import OffloadPolicy, fully_shard

        plugin = accelerator.state.fsdp_plugin
        how: dict[str, Any] = {
            "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
            "offload_policy": plugin.cpu_offload or OffloadPolicy(),
        }
        for layer in decoder_layers(model):
            fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **how)
        fully_shard(model, reshard_after_forward=False, **how)

    def let_go(self, model: nn.Module) -> None:
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def whole(self, part: nn.Parameter) -> Tensor:
        return part.full_tensor().detach().cpu()  # type: ignore[operator]


def outline(model: nn.Module) -> nn.Module:
    """A copy of ``model`` without its weights, into which ``gathered`` puts those of the divided one."""
    empty = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad)
        for weight in model.parameters()
    }
    return copy.deepcopy(model, empty)  # type: ignore[arg-type]


def gathered(model: nn.Module, whole: nn.Module, division: Division, *, keep: bool) -> nn.Module:
    """``whole``, an ``outline`` of the divided ``model``, with its weights on the CPU. All processes call it.

    Args:
        keep: whether this process keeps the weights; in the others they stay without values.
    """
    filled: dict[int, nn.Parameter] = {}
    for (name, outlined), part in zip(whole.named_parameters(), model.parameters(), strict=True):
        weight = division.whole(part)
        assert weight.shape == outlined.shape, name
        filled[id(outlined)] = nn.Parameter(weight, outlined.requires_grad) if keep else outlined
    for module in whole.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = filled[id(weight)]  # a weight in two places stays one
    return whole


def in_step(batches: Sequence[Batch], accelerator: Any) -> Iterator[tuple[Batch, bool]]:
    """The batches of this process, and whether each counts.

    A pass over a divided model is one of all processes. So those with fewer batches than others read their
    smallest once more, as often as needed, and leave out what comes of it.
    """
    own = torch.tensor(len(batches), device=accelerator.device)
    most = int(accelerator.gather(own).max())
    smallest = min(batches, key=lambda batch: batch["input_ids"].numel())
    yield from ((batch, True) for batch in batches)
    yield from ((smallest, False) for _ in range(most - len(batches)))
