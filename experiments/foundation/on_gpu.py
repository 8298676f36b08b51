"""Trains the arms of gram-135m and asks them, several at once on one GPU.

Command: python -m experiments.foundation.on_gpu [--workers 8] [--seconds 300] [ARM[:SEED] ...]
(default: every arm, the main ones first and with two seeds). What they start from is made if it is missing.
What is done is kept, and a second run goes on with the rest. Knows nothing of what arms are.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.foundation import lessons
from experiments.foundation.arms import ARMS, CONFIGS, MODELS, make
from experiments.foundation.data import COUNT
from experiments.foundation.measure import FLOORS, ask, asked

from gram.modeling.manifest import FILE
from gram.training.config import load_config
from gram.training.pipeline import train

TWO_SEEDS = ("likelihood", "judge", "bradley_terry")
FULL = tuple(f"{name}-{COUNT}" for name in TWO_SEEDS)
_BUDGET = 12_000
"""Most tokens of a forward pass when asked: the memory is shared."""
_ALONE = 45.0
"""Seconds before the end after which no other arm is begun."""

Job = tuple[str, int]


def jobs() -> list[Job]:
    """Every arm with its seeds, those that say most first."""
    first = [(name, 0) for name in (*FULL, *TWO_SEEDS)]
    rest = [(name, 0) for name in (*ARMS, *FLOORS) if (name, 0) not in first]
    return [*first, *rest, *((name, 1) for name in TWO_SEEDS)]


def _work(waiting: Any, end: float, logs: Path) -> None:
    log = os.open(logs / f"{os.getpid()}.log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    while time.monotonic() < end - _ALONE:
        try:
            name, seed = waiting.pop(0)
        except IndexError:
            return
        print(f"== {name}:{seed} {time.strftime('%T')}", flush=True)
        try:
            if name in ARMS:
                make(name, seed)
            ask(name, seed, held_back=True, token_budget=_BUDGET)
            ask(name, seed, token_budget=_BUDGET)
        except Exception:  # an arm that fails must not end the others
            traceback.print_exc()


def _starts() -> None:
    """Make what arms start from: stage 1, and the judge that learned from easy labels."""
    lessons.write()
    for name in ("1-pretrain", "2-easy"):
        config = load_config(CONFIGS / f"{name}.yaml")
        if not (config.output / FILE).is_file():
            train(config)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ARM[:SEED]")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=300.0, help="after which all are stopped")
    options = parser.parse_args(arguments)
    end = time.monotonic() + options.seconds
    wanted = [(name, int(seed or 0)) for name, _, seed in (text.partition(":") for text in options.names)]
    if unknown := {name for name, _ in wanted} - {*ARMS, *FLOORS}:
        parser.error(f"no arm {min(unknown)}; there are {', '.join((*ARMS, *FLOORS))}")
    _starts()
    logs = MODELS / "log"
    logs.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager:
        waiting = manager.list(wanted or jobs())
        workers = [spawn.Process(target=_work, args=(waiting, end, logs)) for _ in range(options.workers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(max(1.0, end - time.monotonic()))
            worker.kill()
    for name, seed in wanted or jobs():
        print(name, seed, "asked" if (asked(seed) / name).is_dir() else "not asked")


if __name__ == "__main__":
    main()
