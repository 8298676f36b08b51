"""How many processes score, and where: the options of ``gram bulk`` beside those of ``gram score``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gram.bounds import Count, Within


@dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """How many processes score, where, and how much a kill can cost."""

    output: Path
    """Folder for the shards of scores and their manifest.json: a new one, or that of a run to go on with."""
    num_actors: Annotated[int, Within(1, 4096)] = 1
    """Processes that score, each with a model of its own (cuda: and a GPU)."""
    cpus_per_actor: Annotated[int, Within(1, 256)] = 1
    """Cores, and threads, of each."""
    address: str | None = None
    """Ray cluster to run on: auto, HOST:PORT or ray://HOST:PORT. Default: one of its own, on this machine."""
    shard_rows: Count = 1024
    """Most rows of a shard: what a kill can cost. Rows of one prompt lie together."""
