"""The speed of the evaluation runner beside a model's: time and memory over 5,000 pairs with an oracle.

The oracle answers at once, so all time is the runner's: cutting items into calls, records, repetition counts
and the journal, which is flushed to the disk after each call. The forward time beside it is that of
``preset:mini``, smaller than any model worth measuring, both orders, on a sample of the same pairs, scaled
up; beside a real model the share is smaller still.

Command: python -m benchmarks.evaluation [--pairs 5000] [--sample 64]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gram.evaluation import evaluate, item_of
from gram.journal import Journal
from gram.types import Pair, Preference, PreferenceModel, Verdicts

WORDS = ("time", "people", "year", "way", "day", "thing", "man", "world", "life", "hand", "part", "child")


def made_up_pairs(count: int, seed: int) -> list[Pair]:
    """Pairs whose lengths spread like those of chat answers: log-normal, median about 60 words."""
    rng = np.random.default_rng(seed)

    def text(median_words: float) -> str:
        length = int(np.clip(rng.lognormal(np.log(median_words), 0.6), 3, 250))
        return " ".join(rng.choice(WORDS, length))

    return [Pair(text(20), a=text(60), b=text(60)) for _ in range(count)]


class Oracle:
    """Says at once that the first answer is better; notes the memory in use at each call."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        if tracemalloc.is_tracing():
            self.megabytes.append(tracemalloc.get_traced_memory()[0] / 2**20)
        return Verdicts(np.ones((len(pairs), 2)), np.ones((len(pairs), 2)))


def measure(pairs: int, sample: int, seed: int = 0) -> dict[str, Any]:
    """The runner's CPU seconds and memory, and the CPU seconds of a small model's forward passes."""
    examples = made_up_pairs(pairs, seed)
    items = [item_of(Preference(pair, 1.0, str(number))) for number, pair in enumerate(examples)]
    began = time.process_time(), time.perf_counter()
    _run(Oracle(), items)
    runner, wall = time.process_time() - began[0], time.perf_counter() - began[1]
    tracemalloc.start()
    watched = Oracle()
    _run(watched, items)
    tracemalloc.stop()
    model = _small_judge(examples[:sample])
    began = time.process_time(), time.perf_counter()
    model.compare(examples[:sample])
    forward = (time.process_time() - began[0]) * pairs / sample
    return {
        "pairs": pairs,
        "runner_cpu_seconds": round(runner, 3),
        "runner_wall_seconds": round(wall, 3),
        "forward_cpu_seconds": round(forward, 1),
        "overhead": round(runner / forward, 4),
        "megabytes_first_call": round(watched.megabytes[0], 2),
        "megabytes_last_call": round(watched.megabytes[-1], 2),
    }


def _run(model: PreferenceModel, items: Sequence[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "records.jsonl", {})
        assert len(evaluate(model, items, journal=journal)) == len(items)
        journal.finish()


def _small_judge(pairs: Sequence[Pair]) -> PreferenceModel:
    from gram.engine.runner import Runner
    from gram.modeling.loading import build_preset
    from gram.rendering import Renderer, load_template
    from gram.scoring.judge import JudgeModel
    from gram.scoring.local import LocalBackend

    texts = [text for pair in pairs for text in (pair.prompt[0].content, pair.a, pair.b)]
    loaded = build_preset("preset:mini", texts, seed=0)
    renderer = Renderer(loaded.tokenizer, load_template("default"), loaded.context)
    judge = JudgeModel(LocalBackend(renderer, Runner(loaded.model)), renderer.template)
    judge.compare(pairs[:2])
    return judge


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5_000)
    parser.add_argument("--sample", type=int, default=64)
    options = parser.parse_args()
    print(json.dumps(measure(options.pairs, options.sample)))


if __name__ == "__main__":
    main()
