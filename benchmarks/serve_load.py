"""A served judge under load, in the style of RL: many callers, 8 answers to each prompt, one per request.

Each answer is compared with a reference, in both orders. Beside the server stands the library on the same
rows, in as many processes, and the server with batching off. Every setting gets a server of its own, so that
nothing is remembered, and is compared with the library's mean time right before and right after it, as the
pace of a machine drifts within minutes. Then 64 callers ask typed questions, of ``gram serve`` and of
``transformers serve``.

Command: python -m benchmarks.serve_load --model MODEL --output serve_load.json [--only rewards|decisions]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve_decisions import decision_table, decisions
from benchmarks.serving import gram_serve, load_of, metrics
from gram.asking import LoadOptions
from gram.files import atomic_write
from gram.progress import chunks
from gram.types import Pair, RewardModel
from gram.workers import Share, Workers, workers_with

ANSWERS = 8  # to a prompt
CALLERS = (1, 8, 64)
ROWS = {1: 64, 8: 256}  # rows for few callers, who would take long
PATH = "/v1/reward"
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
    """Measure, write the numbers, and print the tables of docs/serving.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=128, help="each with 8 answers")
    parser.add_argument("--prompt-words", type=int, default=120)
    parser.add_argument("--answer-words", type=int, default=80)
    parser.add_argument("--questions", type=int, choices=range(1, 9), default=4, help="to a state")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--only", choices=("rewards", "decisions"), help="Default: both")
    parser.add_argument("--quick", action="store_true", help="few and short rows: shows that it runs")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.prompt_words, options.answer_words = 8, 12, 8
    result = measure(options)
    with atomic_write(options.output) as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    tables = {"server": table, "decisions": lambda found: decision_table(found["decisions"])}
    print("\n\n".join(show(result) for part, show in tables.items() if part in result))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, and with what."""
    result = {"model": options.model, "workers": options.workers, "dtype": options.dtype}
    result["threads"] = os.environ.get("OMP_NUM_THREADS", "")
    if options.only != "decisions":
        result |= rewards(options)
    if options.only != "rewards":
        result["decisions"] = decisions(partial(text, words=options.prompt_words), options)
    return result


def rewards(options: argparse.Namespace) -> dict[str, Any]:
    """All settings of the server, the library before and after each."""
    rows = made_up(options.prompts, options.prompt_words, options.answer_words)
    settings = [(callers, None) for callers in CALLERS] + [(CALLERS[-1], 1)]
    with workers_with(partial(load, options.model, options.dtype), options.workers) as workers:
        by_library(workers, made_up(2, options.prompt_words, options.answer_words, seed=1))
        expected, seconds, tokens = by_library(workers, rows)
        times, served = [seconds], []
        for callers, most in settings:
            row = under_load(rows, expected, callers, most, options)
            times.append(by_library(workers, rows)[1])
            beside = len(rows) * 2 / sum(times[-2:])
            served.append({**row, "library_per_second": beside, "of_library": row["per_second"] / beside})
    library = {"rows": len(rows), "seconds": times, "per_second": len(rows) * len(times) / sum(times)}
    return {"library": library | {"tokens": tokens}, "server": served}


def made_up(prompts: int, prompt_words: int, answer_words: int, seed: int = 0) -> list[Pair]:
    """Rows of made-up text, the 8 of a prompt one after the other; lengths vary by half."""
    draw = random.Random(seed)
    rows = []
    for _ in range(prompts):
        prompt, reference = text(draw, prompt_words), text(draw, answer_words)
        rows += [Pair(prompt, text(draw, answer_words), reference) for _ in range(ANSWERS)]
    return rows


def text(draw: random.Random, words: int) -> str:
    """About so many words, half more or less."""
    count = draw.randint(words // 2, words + words // 2) // 4
    return " ".join(f"the {draw.choice(LIKE)} {draw.choice(NAMES)} ," for _ in range(max(1, count)))


def by_library(workers: Workers[RewardModel], rows: Sequence[Pair]) -> tuple[np.ndarray, float, int]:
    """Rewards of all rows, the seconds that took, and the tokens."""
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
    more = () if max_batch_tokens is None else ("--max-batch-tokens", max_batch_tokens)
    with gram_serve(options.model, options.dtype, "--workers", options.workers, *more) as address:
        warm = made_up(2, options.prompt_words, options.answer_words, seed=1)
        load_of(address, PATH, [asked(row) for row in warm], len(warm))
        before = metrics(address)
        load = load_of(address, PATH, [asked(row) for row in rows], callers)
        counters = {name: value - before[name] for name, value in metrics(address).items()}
    found = np.array([answer["data"][0]["reward"] for answer in load.answers])
    return {
        "callers": callers,
        "batching": max_batch_tokens is None,
        "rows": len(rows),
        **load.numbers(),
        "units_per_batch": counters["gram_batch_units_sum"] / counters["gram_batch_units_count"],
        "batch_fill": counters["gram_batch_fill_sum"] / counters["gram_batch_fill_count"],
        "tokens_shared": counters["gram_tokens_shared_total"] / counters["gram_tokens_total"],
        "largest_difference": float(np.abs(found - expected[: len(rows)]).max()),
    }


def asked(row: Pair) -> dict[str, Any]:
    """The request for the reward of one answer."""
    return {"items": [{"prompt": row.prompt[0].content, "response": row.a, "reference": row.b}]}


def table(result: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    library = result["library"]["per_second"]
    lines = [
        "| callers | answers/s | of the library's | p50, p95, p99 (s) | answers per batch | fill | off by |",
        "|---|---|---|---|---|---|---|",
        f"| library, one call | {library:.2f} | 1 | | | | |",
    ]
    for row in result["server"]:
        name = f"{row['callers']}" + ("" if row["batching"] else ", batching off")
        times = ", ".join(f"{row[key]:.3f}" for key in ("p50", "p95", "p99"))
        lines.append(
            f"| {name} | {row['per_second']:.2f} | {row['of_library']:.2f} | {times} | "
            f"{row['units_per_batch']:.1f} | {row['batch_fill']:.2f} | {row['largest_difference']:.1e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
