"""``gram bulk`` with one actor and with several: rows a second while they score, and what starting costs.

Each number of actors takes turns. A rate counts the rows behind the first finished shard, from its end to
that of the last: what Ray and loading take stands apart, as seconds. Each actor has one thread, so that as
many cores as actors have to be free, and a little more for Ray.

Command: python -m benchmarks.bulk --model gram-135m --actors 1 2 --output bulk.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from gram.files import atomic_write


def measured(model: str, rows: str, actors: int, shard_rows: int) -> dict[str, float]:
    """One run in a folder of its own: rows a second, and the seconds before and in all."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "bulk"
        options = ["--model", model, "--input", rows, "--output", str(output), "--device", "cpu"]
        options += ["--num-actors", str(actors), "--shard-rows", str(shard_rows)]
        run = subprocess.run(
            [sys.executable, "-m", "gram", "bulk", *options],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        shards = json.loads((output / "manifest.json").read_text())["shards"]
    result = json.loads(run.stdout)
    largest = max(shard["rows"] for shard in shards)
    return {
        "rows_per_second": (result["rows"] - largest) / result["scoring_seconds"],
        "seconds_before": result["seconds"] - result["scoring_seconds"],
        "seconds": result["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gram-135m")
    parser.add_argument("--input", default="data/held_back.jsonl.gz")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shard-rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    settings = parser.parse_args()
    runs: dict[int, list[dict[str, float]]] = {actors: [] for actors in settings.actors}
    for number in range(settings.rounds):
        for actors, done in runs.items():
            done.append(measured(settings.model, settings.input, actors, settings.shard_rows))
            print(f"round {number + 1}, {actors} actors: {done[-1]}", file=sys.stderr)
    table: dict[str, Any] = {
        str(actors): {name: round(median(run[name] for run in done), 2) for name in done[0]}
        for actors, done in runs.items()
    }
    first = table[str(settings.actors[0])]["rows_per_second"]
    for numbers in table.values():
        numbers["times_the_first"] = round(numbers["rows_per_second"] / first, 2)
    about = {"model": settings.model, "input": settings.input, "shard_rows": settings.shard_rows}
    result = json.dumps({**about, "cores": os.cpu_count(), "actors": table})
    if settings.output:
        with atomic_write(settings.output) as file:
            file.write(result + "\n")
    print(result)


if __name__ == "__main__":
    main()
