"""Pairs that arrive one by one, and in batches: how many a second, and how long the slowest wait.

Each pair is asked in both orders in bf16, from token ids to numbers, by our engine, by our engine over
transformers' own layers, and by a left-padded batch through the stock model with the logits of the last
position, in turn; wall time. Beside it, what ``torch.mm``
reaches on large square matrices: the ceiling of the device.

Command: python -m benchmarks.latency --shape real --device cuda --output latency.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import torch

from gram.bench.ours import for_scoring
from gram.bench.settings import BenchSettings, ShapeName
from gram.bench.shapes import DTYPES, QUICK, SHAPES, build, twin
from gram.bench.suite import prepare
from gram.bench.tables import rounded
from gram.bench.workloads import independent_pairs
from gram.engine.base import TokenRow
from gram.engine.plain import left_pad
from gram.engine.runner import Runner
from gram.files import atomic_write
from gram.modeling.quiet import quiet_libraries

BATCHES = {1: 200, 8: 100, 32: 50}  # pairs in a call: calls
FEW = {1: 4, 2: 2}
WARM_UP = 3  # calls
SQUARE = 8192

Pairs = Sequence[tuple[list[int], list[int]]]
"""Token ids of pairs, each in both orders."""


def main() -> None:
    """Measure, and write the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=get_args(ShapeName), default="real")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--prompt-tokens", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few calls: shows that it runs")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    result = rounded(measure(options.shape, options.device, options.prompt_tokens, quick=options.quick))
    with atomic_write(options.output) as file:
        json.dump(result, file, indent=1)
        file.write("\n")


def measure(name: ShapeName, device: str, prompt_tokens: int, *, quick: bool) -> dict[str, Any]:
    """The ceiling, and for each size of a call the speed and the waiting time of each path."""
    quiet_libraries()
    settings = BenchSettings(device=device, prompt_tokens=prompt_tokens)  # type: ignore[arg-type]
    contests, _, renderer, machine = prepare(settings)
    calls = FEW if quick else BATCHES
    model = build((QUICK if quick else SHAPES)[name], dtype=DTYPES["bf16"], device=device, seed=0)
    stock = twin(model)
    runners = {"ours": for_scoring(model, None), "unfused": for_scoring(twin(model), None, fused=False)}
    labels = list(renderer.label_ids)
    pairs = independent_pairs(contests, max(size * count for size, count in calls.items()), seed=0)
    orders = [renderer.judge([pair, pair.swapped()]) for pair in pairs]
    ids = [(list(one.ids), list(two.ids)) for one, two in orders]

    def ours(runner: Runner, some: Pairs) -> None:
        runner.next_logprobs([TokenRow(row) for pair in some for row in pair], labels)

    def padded(some: Pairs) -> None:
        with torch.inference_mode():
            batch = {k: v.to(device) for k, v in left_pad([row for pair in some for row in pair]).items()}
            stock(**batch, use_cache=False, logits_to_keep=1).logits[:, -1, labels].float().cpu()

    paths: dict[str, Callable[[Pairs], None]] = {name: partial(ours, one) for name, one in runners.items()}
    paths["padded"] = padded
    return {
        "shape": name,
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "mm_gflops": mm_gflops(device, 256 if quick else SQUARE, machine.clock),
        "calls": {str(size): timed(paths, ids, size, count) for size, count in calls.items()},
    }


def timed(paths: dict[str, Callable[[Pairs], None]], pairs: Pairs, size: int, calls: int) -> dict[str, Any]:
    """Per path: pairs per second, and median and 99th percentile of a call, in milliseconds."""
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for number in range(-WARM_UP, calls):
        start = max(number, 0) * size
        for name, path in paths.items():
            began = time.perf_counter()
            path(pairs[start : start + size])
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {
        name: {
            "pairs_per_second": size * calls / sum(found),
            "p50_ms": 1000 * float(np.percentile(found, 50)),
            "p99_ms": 1000 * float(np.percentile(found, 99)),
        }
        for name, found in seconds.items()
    }


def mm_gflops(device: str, side: int, clock: Callable[[], float]) -> float:
    """What ``torch.mm`` does of bf16 squares, in GFLOPS: the median of ten, after two."""
    one, two = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(one)
    seconds = []
    for _ in range(12):
        began = clock()
        torch.mm(one, two, out=out)
        seconds.append(clock() - began)
    return 2 * side**3 / median(seconds[2:]) / 1e9


if __name__ == "__main__":
    main()
