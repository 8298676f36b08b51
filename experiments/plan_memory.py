"""The memory that ``gram plan`` says beside what a training takes: SmolLM2-135M on one CPU, two steps each.

``python -m experiments.plan_memory`` takes some ten minutes of one core and prints two JSON lines per
setting. Each trains in a process of its own, on made-up pairs, in passes of at most 2,048 tokens. Measured is
the most that the process ever held (its maximum resident set), less what it held before the model was loaded:
once as glibc's malloc has it, which keeps holes where activations were, and once with all tensors given back
to the system at their death, so that only what is in use counts. The latter is what a plan is about.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m"
SETTINGS = {
    "all weights": [],
    "adapters": ["--lora"],
    "all weights, recomputed": ["--gradient-checkpointing"],
}
ALLOCATORS = {
    "as malloc has it": {},
    "given back": {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
}


def main() -> None:
    for name, options in SETTINGS.items():
        for allocator, variables in ALLOCATORS.items():
            command = [sys.executable, "-m", "experiments.plan_memory", *options, "--one"]
            environment = {**os.environ, **variables}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            print(json.dumps({"setting": name, "memory": allocator, **found}), flush=True)


def one(options: list[str]) -> dict[str, Any]:
    """Train in this process, and compare: GB planned and measured, and the one over the other."""
    from gram.objectives.objective import Objective
    from gram.training.arithmetic import Way, fixed_memory, total
    from gram.training.config import TrainConfig
    from gram.training.pipeline import train
    from gram.training.planning import PlanOptions, shape_of

    before, largest = peak(), 0
    collate = Objective.collate

    def counted(self: Any, samples: Any) -> Any:
        nonlocal largest
        batch = collate(self, samples)
        largest = max(largest, batch["input_ids"].numel())
        return batch

    Objective.collate = counted  # type: ignore[method-assign]
    lora, again = "--lora" in options, "--gradient-checkpointing" in options
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "pairs.jsonl"
        answers = [
            f"{side} {number} " + "the garden of the tower is quiet . " * 30
            for number in range(16)
            for side in "ab"
        ]
        pairs = [
            {"prompt": "which ?", "chosen": a, "rejected": b}
            for a, b in zip(*[iter(answers)] * 2, strict=True)
        ]
        rows.write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
        train(
            TrainConfig(
                model=MODEL,
                data=[str(rows)],
                output=Path(folder) / "out",
                max_steps=2,
                batch_size=4,
                token_budget=2048,
                dtype="fp32",
                device="cpu",
                lora=lora,
                adapter="kept" if lora else "merged",
                gradient_checkpointing=again,
            )
        )
    shape = shape_of(PlanOptions(model=MODEL, dtype="fp32", lora=lora, gradient_checkpointing=again))
    way = Way(rank=16 if lora else 0, low=False, checkpointing=again)
    planned = total(fixed_memory(shape, way)) + shape.kept * largest
    measured = peak() - before
    return {
        "tokens_of_a_pass": largest,
        "planned_gb": round(planned / 1e9, 2),
        "measured_gb": round(measured / 1e9, 2),
        "planned_over_measured": round(planned / measured, 2),
    }


def peak() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(sys.argv[1:])))
    else:
        main()
