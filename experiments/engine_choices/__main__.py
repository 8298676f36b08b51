"""The command line: which parts run, and what is put on file. Knows no measurement."""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from experiments import engine_choices
from experiments.engine_choices.demonstration import demo
from experiments.engine_choices.layers import compiled, label_rows, losses
from experiments.engine_choices.profiles import profile_table, profiled
from experiments.engine_choices.setting import Setting
from experiments.engine_choices.tries import blocks, packs, shared

from gram.bench.tables import rounded
from gram.files import atomic_write
from gram.modeling.quiet import quiet_libraries

OUTPUT = Path("experiments/results/engine_choices.json")

PARTS = {
    "losses": losses,
    "compile": compiled,
    "shared": shared,
    "packs": packs,
    "blocks": blocks,
    "demo": demo,
    "tied": label_rows,
    "profile": profiled,
}


def cpu_name() -> str:
    """What the system calls its processor, and its widest vector instructions."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return f"{match[1] if match else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.engine_choices",
        description=engine_choices.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="prompts with several answers each (default: made up)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--smoke", action="store_true", help="tiny models, to see that it runs")
    parser.add_argument("--table", action="store_true", help="run nothing: print the profile on file")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.table:
        print(profile_table(json.loads(options.output.read_text())["profile"]["rows"]))
        return
    if options.smoke and options.output == OUTPUT:
        parser.error("--smoke measures nothing: name another --output")
    quiet_libraries()
    setting = Setting(options.rounds, options.seed, options.smoke, options.data)
    for part in options.parts:
        began = time.process_time()
        rows = PARTS[part](setting)
        entry = {
            "torch": torch.__version__,
            "cpu": cpu_name(),
            "seed": setting.seed,
            "rounds": setting.rounds,
            "data": setting.data,
            "cpu_seconds": time.process_time() - began,
            "rows": rows,
        }
        entries = json.loads(options.output.read_text()) if options.output.exists() else {}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(options.output) as file:
            file.write(json.dumps(entries | {part: rounded(entry)}, indent=1) + "\n")
        print(f"{part}: {json.dumps(rounded(rows))}", flush=True)
        if part == "profile":
            print(profile_table(rows))


if __name__ == "__main__":
    main()
