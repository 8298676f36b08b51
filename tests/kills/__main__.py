"""The long series: ``make kills``. Prints a table for docs/reliability.md; exit 1 if anything was wrong."""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.kills.commands import make_commands, prepare
from tests.kills.harness import Killer, Tally, spread

_SHORT = {"score": 8, "mine": 5, "eval": 6, "adapt --overwrite": 2, "train": 3}  # kills
_REAL = 3  # kills of a command with a process of its own, whose imports take seconds
_SIZES = (0, 20, 200, 2000, 20_000, 200_000)


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="kills in all, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands with this in their name")
    parser.add_argument("--short", action="store_true", help="a minute of it, for make test")
    options = parser.parse_args()
    began = time.monotonic()
    prepare()
    rows: list[tuple[str, int, Tally]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        commands = [command for command in make_commands(place) if options.only in command.name]
        share = -(-options.kills // max(1, sum(not command.real for command in commands)))
        for command in commands:
            if options.short and command.name not in _SHORT:
                continue
            killer = Killer(command, place)
            draw = random.Random(f"{options.seed} {command.name}")
            if options.short:
                _series(killer, draw, _SHORT[command.name], twice=1, sizes=_SIZES[2:3])
            elif command.real:
                _series(killer, draw, _REAL, twice=0, sizes=())
            else:
                _series(killer, draw, share, twice=3, sizes=_SIZES)
            rows.append((command.name, killer.operations, killer.tally))
            print(f"{command.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for fault in killer.tally.faults:
                print(f"  {fault.strip()}", file=sys.stderr, flush=True)
    _print(rows, options.seed, time.monotonic() - began)
    return 1 if any(tally.faults for _, _, tally in rows) else 0


def _series(killer: Killer, draw: random.Random, kills: int, twice: int, sizes: Sequence[int]) -> None:
    """Two thirds of the kills before file operations, evenly spread; the others at random moments."""
    for operation in spread(killer.operations, kills * 2 // 3):
        killer.kill_before(operation)
    for _ in range(kills * 4):
        if killer.tally.kills >= kills:
            break
        killer.kill_after(draw.uniform(0, killer.seconds))
    for _ in range(twice):
        killer.two_at_once(draw.uniform(0.1, 0.9) * killer.seconds)
    for size in sizes:
        killer.fill_disk(size)


def _print(rows: list[tuple[str, int, Tally]], seed: int, seconds: float) -> None:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    python = platform.python_version()
    print(f"{datetime.now(UTC):%Y-%m-%d}, seed {seed}, {seconds:.0f} s, Python {python}, {libraries}\n")
    print("| command | file operations | kills | second runs refused | full disks | faults |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, operations, tally in rows:
        cells = (name, operations, tally.kills, tally.refused, tally.full, len(tally.faults))
        print("| " + " | ".join(map(str, cells)) + " |")
    totals = [sum(getattr(tally, name) for _, _, tally in rows) for name in ("kills", "refused", "full")]
    faults = sum(len(tally.faults) for _, _, tally in rows)
    print(f"| **all** | | {totals[0]} | {totals[1]} | {totals[2]} | {faults} |")


if __name__ == "__main__":
    sys.exit(main())
