"""A served judge under load, in the style of RL: many callers, 8 answers to each prompt, one per request.

Each answer is compared with a reference, in both orders. Beside the server stands the library on the same
rows, in as many processes, and the server with batching off. Every setting gets a server of its own, so that
nothing is remembered. Callers are threads with a connection each, that send the next row when they have their
answer.

Command: python -m benchmarks.serve_load --model MODEL --output serve_load.json
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gram.asking import LoadOptions
from gram.files import atomic_write
from gram.progress import chunks
from gram.types import Pair, RewardModel
from gram.workers import Share, workers_with

ANSWERS = 8  # to a prompt
CALLERS = (1, 8, 64)
ROWS = {1: 64, 8: 256}  # rows for few callers, who would take long
CHUNK = 128  # pairs to a call of the library, as in gram score
NAMES = (
    "water",
    "stone",
    "river",
    "light",
    "house",
    "road",
    "hand",
    "year",
    "word",
    "number",
    "answer",
    "day",
)
LIKE = ("small", "large", "old", "new", "first", "last", "open", "warm", "quiet", "clear", "long", "short")


def main() -> None:
    """Measure, write the numbers, and print the table of docs/serving.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=128, help="each with 8 answers")
    parser.add_argument("--prompt-words", type=int, default=120)
    parser.add_argument("--answer-words", type=int, default=80)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--quick", action="store_true", help="few and short rows: shows that it runs")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.prompt_words, options.answer_words = 8, 12, 8
    result = measure(options)
    with atomic_write(options.output) as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(table(result))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All settings, the library first."""
    rows = made_up(options.prompts, options.prompt_words, options.answer_words)
    expected, seconds, tokens = by_library(rows, options)
    library = {
        "rows": len(rows),
        "seconds": seconds,
        "rows_per_second": len(rows) / seconds,
        "tokens": tokens,
    }
    settings = [(callers, None) for callers in CALLERS] + [(CALLERS[-1], 1)]
    served = [under_load(rows, expected, callers, most, options) for callers, most in settings]
    return {
        "model": options.model,
        "workers": options.workers,
        "dtype": options.dtype,
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "library": library,
        "server": served,
    }


def made_up(prompts: int, prompt_words: int, answer_words: int) -> list[Pair]:
    """Rows of made-up text, the 8 of a prompt one after the other; lengths vary by half."""
    draw = random.Random(0)

    def text(words: int) -> str:
        count = draw.randint(words // 2, words + words // 2) // 4
        return " ".join(f"the {draw.choice(LIKE)} {draw.choice(NAMES)} ," for _ in range(max(1, count)))

    rows = []
    for _ in range(prompts):
        prompt, reference = text(prompt_words), text(answer_words)
        rows += [Pair(prompt, text(answer_words), reference) for _ in range(ANSWERS)]
    return rows


def by_library(rows: Sequence[Pair], options: argparse.Namespace) -> tuple[np.ndarray, float, int]:
    """Rewards of all rows, the seconds that took, and the tokens."""
    with workers_with(partial(load, options.model, options.dtype), options.workers) as workers:
        list(workers.map(compare, chunks(rows[:ANSWERS], ANSWERS)))  # warm
        before = workers.usage.tokens
        start = time.perf_counter()
        parts = list(workers.map(compare, chunks(rows, CHUNK)))
        seconds = time.perf_counter() - start
        return np.concatenate(parts), seconds, workers.usage.tokens - before


def load(model: str, dtype: Any, share: Share) -> RewardModel:
    """The model, in one of several processes."""
    from gram.scoring.asked import asked_model

    return asked_model([model], LoadOptions(dtype=dtype), "mean", 0.0, None, share)


def compare(model: RewardModel, pairs: Sequence[Pair]) -> np.ndarray:
    """(n,) log-odds, the mean of both orders."""
    return model.compare(pairs).log_odds.mean(axis=1)


def under_load(
    rows: Sequence[Pair],
    expected: np.ndarray,
    callers: int,
    max_batch_tokens: int | None,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What ``callers`` at once get from a server of their own."""
    rows = rows[: ROWS.get(callers, len(rows))]
    with server(options, max_batch_tokens) as address:
        ask(http.client.HTTPConnection(address), Pair("warm", "up", "now"))
        rewards, latencies, seconds = load_of(address, rows, callers)
        counters = metrics(address)
    quantiles = np.quantile(latencies, [0.5, 0.95, 0.99])
    return {
        "callers": callers,
        "batching": max_batch_tokens is None,
        "rows": len(rows),
        "seconds": seconds,
        "rows_per_second": len(rows) / seconds,
        **dict(zip(("p50", "p95", "p99"), map(float, quantiles), strict=True)),
        "units_per_batch": counters["gram_batch_units_sum"] / counters["gram_batch_units_count"],
        "batch_fill": counters["gram_batch_fill_sum"] / counters["gram_batch_fill_count"],
        "tokens_shared": counters["gram_tokens_shared_total"] / counters["gram_tokens_total"],
        "largest_difference": float(np.abs(rewards - expected[: len(rows)]).max()),
    }


@contextmanager
def server(options: argparse.Namespace, max_batch_tokens: int | None) -> Iterator[str]:
    """Host and port of ``gram serve``, which ends with the block."""
    command = [sys.executable, "-m", "gram", "serve", "--model", options.model, "--dtype", options.dtype]
    command += ["--port", "0", "--workers", str(options.workers)]
    command += [] if max_batch_tokens is None else ["--max-batch-tokens", str(max_batch_tokens)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("gram serve: ") and " at http://" in line:
                break
        else:
            raise SystemExit("".join(lines))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield line.rsplit("http://", 1)[1].strip()
        finally:
            process.send_signal(signal.SIGTERM)


def load_of(address: str, rows: Sequence[Pair], callers: int) -> tuple[np.ndarray, list[float], float]:
    """Rewards, the seconds of each request, and those of all."""
    places, lock = iter(range(len(rows))), threading.Lock()
    rewards, latencies = np.full(len(rows), np.nan), [0.0] * len(rows)

    def caller() -> None:
        connection = http.client.HTTPConnection(address, timeout=600)
        with contextlib.closing(connection):
            while True:
                with lock:
                    place = next(places, None)
                if place is None:
                    return
                start = time.perf_counter()
                rewards[place] = ask(connection, rows[place])
                latencies[place] = time.perf_counter() - start

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rewards, latencies, time.perf_counter() - start


def ask(connection: http.client.HTTPConnection, row: Pair) -> float:
    """The reward of one answer."""
    item = {"prompt": row.prompt[0].content, "response": row.a, "reference": row.b}
    body = json.dumps({"items": [item]})
    connection.request("POST", "/v1/reward", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {content}")
    return content["data"][0]["reward"]


def metrics(address: str) -> dict[str, float]:
    """Counters of the server, without those that have labels."""
    connection = http.client.HTTPConnection(address)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}


def table(result: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    library = result["library"]["rows_per_second"]
    lines = [
        "| callers | answers/s | of the library's | p50, p95, p99 (s) | answers per batch | fill | off by |",
        "|---|---|---|---|---|---|---|",
        f"| library, one call | {library:.2f} | 1 | | | | |",
    ]
    for row in result["server"]:
        name = f"{row['callers']}" + ("" if row["batching"] else ", batching off")
        times = ", ".join(f"{row[key]:.3f}" for key in ("p50", "p95", "p99"))
        lines.append(
            f"| {name} | {row['rows_per_second']:.2f} | {row['rows_per_second'] / library:.2f} | {times} | "
            f"{row['units_per_batch']:.1f} | {row['batch_fill']:.2f} | {row['largest_difference']:.1e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
