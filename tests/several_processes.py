"""Work done by several processes that train together, as torchrun starts them; on the CPU, with gloo.

They come from one server that has imported the heavy libraries, so that each starts at once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
"""What ``accelerate launch`` sets for a configuration of FSDP2, besides its defaults."""


needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs DeepSpeed")


def divided_by_deepspeed(folder: Path) -> dict[str, str]:
    """What ``accelerate launch`` sets for ZeRO-3 with a file of DeepSpeed's own, on CPUs.

    Args:
        folder: for that file, by which tiny weights are divided too.
    """
    zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
    filled = ("train_batch_size", "train_micro_batch_size_per_gpu")
    filled += ("gradient_accumulation_steps", "gradient_clipping")
    given = {"zero_optimization": zero, **dict.fromkeys(filled, "auto")}
    path = folder / "deepspeed.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    switch = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(path)}
    return {**switch, "DS_ACCELERATOR": "cpu"}


def together(
    count: int, work: Callable[..., Any], *arguments: Any, folder: Path, **environment: str
) -> list[Any]:
    """What ``work(*arguments)`` returns in each of ``count`` processes, in the order of their ranks.

    Args:
        work: a function of a module.
        folder: an existing one, for what comes back.
        environment: more variables for all of them.
    """
    import torch
    from torch.multiprocessing import start_processes

    multiprocessing.set_forkserver_preload(["gram.training.pipeline", "torch.distributed.fsdp", "peft"])
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    torch.save((work, arguments), folder / "work.pt")  # a tensor sent to a process would be shared by all
    start_processes(_one, (count, port, environment, str(folder)), nprocs=count, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _one(rank: int, count: int, port: int, environment: dict[str, str], folder: str) -> None:
    import torch
    import torch.distributed as dist

    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ.update(place, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), **environment)
    torch.set_num_threads(1)
    work, arguments = torch.load(Path(folder) / "work.pt", weights_only=False)
    torch.save(work(*arguments), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
