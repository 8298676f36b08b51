"""Work done by several processes that train together, as torchrun starts them; on the CPU, with gloo.

They come from one server that has imported the heavy libraries, so that each starts at once.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
"""What ``accelerate launch`` sets for a configuration of FSDP2, besides its defaults."""


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
