"""Time the scoring path beside how the published code works, in one interleaved run.

Workload: independent pairs, both orders, random weights (speed does not depend on what was learned).
  plain      ours: length-sorted batches under a token budget, logits of the last position only
  reference  one pair at a time, both orders as a batch, logits of the whole vocabulary at every position
The ratio grows with the vocabulary and shrinks with the size of the body, so both are printed beside it.
Times are process CPU seconds, medians of the rounds; compare ratios, not seconds.

Command: make bench, or python -m benchmarks.scoring [--pairs 64] [--rounds 3] [--vocabulary 4096] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from gram.modeling.loading import Loaded, build_preset
from gram.modeling.presets import find_preset
from gram.rendering import Renderer, load_template
from gram.scoring.backend import TransformersBackend
from gram.scoring.judge import JudgeModel, LocalBackend
from gram.tree.padded import left_pad
from gram.types import FloatArray, Pair

WORDS = ("time", "people", "year", "way", "day", "thing", "man", "world", "life", "hand", "part", "child")


def made_up_pairs(count: int, seed: int) -> list[Pair]:
    """Pairs whose lengths spread like those of chat answers: log-normal, median about 60 words."""
    rng = np.random.default_rng(seed)

    def text(median_words: float) -> str:
        length = int(np.clip(rng.lognormal(np.log(median_words), 0.6), 3, 250))
        return " ".join(rng.choice(WORDS, length))

    return [Pair(text(20), a=text(60), b=text(60)) for _ in range(count)]


def reference(loaded: Loaded, renderer: Renderer, pairs: Sequence[Pair]) -> FloatArray:
    """(n,) P(a), one pair at a time, all logits."""
    found = []
    labels = list(renderer.label_ids)
    with torch.inference_mode():
        for pair in pairs:
            batch = left_pad([item.ids for item in renderer.judge([pair, pair.swapped()])])
            logits = loaded.model(**batch, use_cache=False).logits[:, -1, labels]
            p = logits.float().softmax(dim=-1)
            found.append(float((p[0, 0] + p[1, 1]) / 2))
    return np.array(found)


def measure(pairs: int, rounds: int, vocabulary: int, seed: int) -> dict[str, Any]:
    """Time both paths, alternating."""
    sample = made_up_pairs(pairs, seed)
    texts = [text for pair in sample for text in (pair.prompt[0].content, pair.a, pair.b)]
    loaded = build_preset("preset:mini", texts, seed=seed)
    loaded.model.resize_token_embeddings(
        vocabulary, mean_resizing=False
    )  # the words need few, a real model has many
    renderer = Renderer(loaded.tokenizer, load_template("default"), loaded.context)
    judge = JudgeModel(LocalBackend(renderer, TransformersBackend(loaded.model)), renderer.template)
    paths: dict[str, Callable[[], FloatArray]] = {
        "plain": lambda: judge.compare(sample).p_a,
        "reference": lambda: reference(loaded, renderer, sample),
    }
    answers = {name: path() for name, path in paths.items()}  # a warm-up that also checks agreement
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            began = time.process_time()
            path()
            seconds[name].append(time.process_time() - began)
    preset = find_preset("preset:mini")
    return {
        "pairs": pairs,
        "layers": preset.layers,
        "hidden": preset.hidden,
        "parameters": loaded.model.num_parameters(),
        "vocabulary": vocabulary,
        "threads": torch.get_num_threads(),
        "cpu_seconds": {name: round(median(values), 3) for name, values in seconds.items()},
        "ratio": round(median(np.array(seconds["reference"]) / np.array(seconds["plain"])), 2),
        "max_difference_p": float(np.abs(answers["plain"] - answers["reference"]).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args()
    result = measure(options.pairs, options.rounds, options.vocabulary, options.seed)
    if not options.json:
        print("| path | CPU seconds | times the plain path |\n|---|---|---|")
        for name, value in result["cpu_seconds"].items():
            print(f"| {name} | {value} | {value / result['cpu_seconds']['plain']:.2f} |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
