"""A model in a process of its own: what its process outlasts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from conftest import wait_for_end
from gram.serving.apart import Apart
from gram.serving.facts import About
from gram.types import Pair, Verdicts
from gram.workers import WHOLE, Share
from test_serving_queue import Longer


class Slow(Longer):
    """Says by a file that it has been asked, and answers when another one is there."""

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        folder = Path(pairs[0].prompt[0].content)
        (folder / "asked").touch()
        while not (folder / "answer").exists():
            time.sleep(0.01)
        return super().compare(pairs)


def make(_: Share) -> Slow:
    return Slow()


def about(_: object) -> About:
    return About("judge", "fp32", True)


async def until(true: Callable[[], object]) -> None:
    for _ in range(3_000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to hold")


def processes() -> list[int]:
    """Process ids of the children that get a model."""
    children = psutil.Process().children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_costs_no_answer(number: signal.Signals, tmp_path: Path) -> None:
    """It comes before the process has taken its first step, and again in the midst of a batch."""

    async def run() -> int:
        worker = Apart(make, WHOLE, about)
        before = processes()
        starting = asyncio.create_task(worker.start())
        await until(lambda: set(processes()) - set(before))
        [new] = set(processes()) - set(before)
        os.kill(new, number)
        await starting
        assert worker.pid == new
        asking = asyncio.create_task(worker.ask([Pair(str(tmp_path), "aaa", "b")]))
        await until((tmp_path / "asked").exists)
        os.kill(new, number)
        await asyncio.sleep(0.1)
        (tmp_path / "answer").touch()
        [outcome] = await asking
        assert outcome.values == (2.0, 2.0, 1.0, 1.0)
        await worker.end()
        return new

    wait_for_end([asyncio.run(run())])
