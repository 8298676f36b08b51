"""Clock, memory and the ceiling: paths timed in turn, so that a busy machine is busy for all of them.

On a CPU: process CPU seconds of one thread, and the growth of the resident memory at its peak (Linux).
On a GPU: wall seconds between synchronised points, and the growth of allocated memory. Knows no model's
meaning.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from gram.bench.arithmetic import body_products
from gram.engine.pool import ACTIVATIONS

_MEGABYTE = 1e6


@dataclass
class Timing:
    """What one path did, round by round.

    Attributes:
        seconds: per round.
        memory: the greatest growth of memory over a round, in MB; None: this system does not tell.
        result: what the path returned last.
    """

    seconds: list[float] = field(default_factory=list)
    memory: float | None = None
    result: Any = None

    @property
    def median(self) -> float:
        return median(self.seconds)


class Machine:
    """The device that is measured."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cpu":
            torch.set_num_threads(1)

    @property
    def unit(self) -> str:
        return "wall seconds" if self.device == "cuda" else "process CPU seconds, one thread"

    def clock(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def in_turn(self, paths: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
        """Run all paths ``rounds`` times, one after the other within each round.

        The first round starts from as little memory as there can be, which shows how much each path takes;
        the others find what earlier steps have left to be used again, as in training.
        A path that returns a ``float`` has timed itself.
        """
        timings = {name: Timing() for name in paths}
        for number in range(rounds):
            for name, path in paths.items():
                self._once(path, timings[name], fresh=number == 0)
        return timings

    def _once(self, path: Callable[[], Any], timing: Timing, *, fresh: bool) -> None:
        before = self._reset_peak(fresh)
        began = self.clock()
        result = path()
        seconds = self.clock() - began
        peak = self._peak()
        timing.seconds.append(result if isinstance(result, float) else seconds)
        timing.result = result
        if before is not None and peak is not None:
            timing.memory = max(timing.memory or 0.0, (peak - before) / _MEGABYTE)

    def _reset_peak(self, fresh: bool) -> int | None:
        """Bytes in use now; the peak is counted from here."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        if sys.platform != "linux":
            return None
        if fresh:  # what earlier paths have freed must not hide what this one takes
            ACTIVATIONS.release()
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present
        return _status("VmRSS")

    def _peak(self) -> int | None:
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated()
        return _status("VmHWM") if sys.platform == "linux" else None


def _status(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return 1024 * int(match[1])


def body_matmuls(model: Any, tokens: int, dtype: torch.dtype) -> Callable[[], None]:
    """The body's products and nothing else, on ``tokens`` rows: the ceiling of 2 * body * tokens FLOP.

    Inputs and outputs are there beforehand, so that no memory is asked for.
    """
    weights = [layer.weight.detach().to(dtype) for layer in body_products(model)]
    device = weights[0].device
    ins = {width: torch.randn(tokens, width, device=device).to(dtype) for width in _widths(weights, 1)}
    outs = {
        width: torch.empty(tokens, width, device=device, dtype=dtype).zero_() for width in _widths(weights, 0)
    }

    def run() -> None:
        with torch.inference_mode():
            for weight in weights:
                torch.mm(ins[weight.shape[1]], weight.t(), out=outs[weight.shape[0]])

    return run


def _widths(weights: list[Tensor], axis: int) -> set[int]:
    return {weight.shape[axis] for weight in weights}


def spread(times: list[float], base: list[float]) -> dict[str, float]:
    """How many times ``base`` the ``times`` are, round by round: median, lowest and highest."""
    ratios = [one / two for one, two in zip(times, base, strict=True)]
    return {"median": median(ratios), "low": min(ratios), "high": max(ratios)}
