"""The parts of benchmarks/on_gpu.sh: each a process with a limit of its own, then a table of what they found.

A part that fails or takes too long is named in the table and stops no other. All results go into one folder.

Command: python -m benchmarks.gpu [--device cuda] [--quick] [--seconds 470] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gram.bench import tables

ROOT = Path(__file__).resolve().parents[1]
PROMPT_TOKENS = "300"
WHOLE = 470  # seconds


@dataclass(frozen=True)
class Part:
    """A command with its limit in seconds; ``result`` is the JSON file that it writes, if it writes one."""

    name: str
    command: Sequence[str]
    limit: int
    result: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a part ended, in a few words, what it took, and what it says beside its result."""

    part: Part
    words: str
    seconds: float
    figures: str = ""


def main() -> int:
    """Run the parts; prints the tables and writes them beside the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="one tiny model: shows that it runs")
    parser.add_argument("--seconds", type=int, default=WHOLE, help="for all parts together")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"on_gpu: torch {torch.__version__} of {sys.executable} sees no GPU", file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU dry run"
    folder = options.output or ROOT / "benchmarks" / "results" / re.sub(r"[^a-z0-9]+", "-", name.lower())
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.seconds
    outcomes = []
    for part in parts(options.device, options.quick, folder):
        print(f"on_gpu: {part.name}", file=sys.stderr, flush=True)
        outcomes.append(run(part, min(part.limit, end - time.monotonic()), folder))
    text = f"{name}, torch {torch.__version__}\n\n{summary(outcomes)}"
    (folder / "tables.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def parts(device: str, quick: bool, folder: Path) -> list[Part]:
    """What is run, in this order: what is most wanted first, and last what may take all the time left."""
    little = ["--quick"] if quick else []
    rounds = "1" if quick else "3"
    common = [*little, "--device", device, "--prompt-tokens", PROMPT_TOKENS]
    bench = ["--dtype", "bf16", "--rounds", rounds, "--json", *common]
    batch = ["--pairs", "2", "--steps", "1"] if quick else ["--pairs", "16", "--steps", "2"]
    found = []
    for shape, share in [("0.6b", 1.0)] if quick else [("real", 0.75), ("0.6b", 1.0)]:
        for what, limit, command in (
            ("score", 80, ["-m", "gram", "bench", "score", *bench]),
            ("train", 90, ["-m", "gram", "bench", "train", *batch, *bench]),
            ("latency", 60, ["-m", "benchmarks.latency", *common]),
        ):
            result = folder / f"{what}-{shape}.json"
            arguments = [*command, "--shape", shape, "--output", str(result)]
            found.append(Part(f"{what} {shape}", arguments, round(share * limit), result))
    files = [
        str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "needs_gpu" in path.read_text()
    ]
    tests = ["-m", "pytest", "-vv", "-p", "no:cacheprovider", "-k", "gpu", *files]
    return [*found, Part("CUDA tests", tests, 200)]


def run(part: Part, limit: float, folder: Path) -> Outcome:
    """Run a part, with all that it prints in a file of its name."""
    log = folder / f"{part.name.replace(' ', '-')}.log"
    if part.result is not None:
        part.result.unlink(missing_ok=True)  # of an earlier run
    if limit < 1:
        return Outcome(part, "not run: no time left", 0.0)
    began = time.monotonic()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # compilers that a part has started end with it
        )
        try:
            code = process.wait(limit)
            words = "done" if code == 0 else f"failed with {code}: {_last_line(log)}"
        except subprocess.TimeoutExpired:
            words = f"stopped after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return Outcome(part, words, time.monotonic() - began, _verdicts(log))


def summary(outcomes: Sequence[Outcome]) -> str:
    """The tables of scoring and training, and last the table of all parts with their main figures."""
    results = {
        outcome.part.name: json.loads(outcome.part.result.read_text(encoding="utf-8"))
        for outcome in outcomes
        if outcome.part.result is not None and outcome.part.result.is_file()
    }
    ceilings = {
        result["shape"]: result["mm_gflops"] for name, result in results.items() if name.startswith("latency")
    }
    sections = []
    for what, table in (("score", tables.score_table), ("train", tables.train_table)):
        rows = [row for name, result in results.items() if name.startswith(what) for row in result["rows"]]
        if rows:
            legend = tables.SCORE_LEGEND if what == "score" else tables.TRAIN_LEGEND
            sections += [table(rows), legend, tables.profile_table(rows), tables.PROFILE_LEGEND]
    lines = ["| part | outcome | seconds | figures |", "|---|---|---|---|"]
    for outcome in outcomes:
        name = outcome.part.name
        figures = _figures(results[name], ceilings) if name in results else [outcome.figures]
        lines += [f"| {name} | {outcome.words} | {outcome.seconds:.0f} | {figures[0]} |"]
        lines += [f"| | | | {figure} |" for figure in figures[1:]]
    return "\n\n".join([*sections, "\n".join(lines)]) + "\n"


def _figures(result: dict[str, Any], ceilings: dict[str, float]) -> list[str]:
    """The numbers of one part to tell first, one a line."""
    if "calls" in result:
        lines = [f"torch.mm {result['mm_gflops'] / 1000:.3g} TFLOPS"]
        for size, paths in result["calls"].items():
            found = [
                f"{'' if name == 'ours' else name + ' '}{path['pairs_per_second']:.3g} pairs/s, "
                f"p50 {path['p50_ms']:.3g} ms, p99 {path['p99_ms']:.3g} ms"
                for name, path in paths.items()
            ]
            lines.append(f"calls of {size}: {'; '.join(found)}")
        return lines
    lines = []
    for row in result["rows"]:
        peers = [
            f"{tables.PEERS[name]} {ratio['median']:.2f}"
            for name, ratio in row["ratio"].items()
            if name in tables.PEERS
        ]
        used = row["gflops"] / ceilings[row["shape"]] if row["shape"] in ceilings else None
        items = (
            f"{row['prompts'] / 2 / row['seconds']['ours']:.3g} pairs/s"
            if "workload" in row
            else f"{row['per_second']['ours']:.3g} {'scored ' * (row['unit'] == 'token')}{row['unit']}s/s"
        )
        share = "" if used is None else f", {100 * used:.2g}% of torch.mm"
        what = row.get("workload") or row["task"]
        lines.append(
            f"{what}: {row['tokens_per_second']:.3g} tokens/s, {items}{share}; times ours: {', '.join(peers)}"
        )
    return lines


def _verdicts(log: Path) -> str:
    """How the tests went that have ended, whether or not their part has."""
    found = Counter(re.findall(r" (PASSED|FAILED|SKIPPED|ERROR)\b.*%\]", log.read_text(encoding="utf-8")))
    return ", ".join(f"{count} {verdict.lower()}" for verdict, count in sorted(found.items()))


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "nothing printed").replace("|", "/")[:160]


if __name__ == "__main__":
    sys.exit(main())
