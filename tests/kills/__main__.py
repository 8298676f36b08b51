"""The long series: ``make kills``. Prints a table for docs/reliability.md; exit 1 if anything was wrong."""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.kills.commands import make_commands, prepare
from tests.kills.harness import Killer, Tally, spread

_REAL = 3  # kills of a command with a process of its own, whose imports take seconds
_SIZES = (0, 20, 200, 2000, 20_000, 200_000)


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="kills in all, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands with this in their name")
    options = parser.parse_args()
    began = time.monotonic()
    prepare()
    rows: list[tuple[str, int, Tally]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        commands = [command for command in make_commands(place) if options.only in command.name]
        forked = sum(not command.real for command in commands)
        for command in commands:
            share = _REAL if command.real else -(-options.kills // max(1, forked))
            draw = random.Random(f"{options.seed} {command.name}")
            killer = Killer(command, place)
            for operation in spread(killer.operations, share * 2 // 3):
                killer.kill_before(operation)
            for _ in range(share * 4):
                if killer.tally.kills >= share:
                    break
                killer.kill_after(draw.uniform(0, killer.seconds))
            for _ in range(3 if not command.real else 0):
                killer.two_at_once(draw.uniform(0.1, 0.9) * killer.seconds)
            for size in _SIZES if not command.real else ():
                killer.fill_disk(size)
            rows.append((command.name, killer.operations, killer.tally))
            print(f"{command.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for fault in killer.tally.faults:
                print(f"  {fault.strip()}", file=sys.stderr, flush=True)
    _print(rows, options.seed, time.monotonic() - began)
    return 1 if any(tally.faults for _, _, tally in rows) else 0


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
