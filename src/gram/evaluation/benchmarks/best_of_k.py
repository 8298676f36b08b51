"""Best of k, in the manner of PPE (Frick et al., 2024): how good is the answer that a model picks of k?

The expectation over all choices of k candidates is exact, not sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gram import statistics
from gram.data import Row
from gram.data.labels import is_finite
from gram.evaluation.benchmarks.benchmark import (
    Benchmark,
    Line,
    Scores,
    by_item,
    fault,
    field,
    label,
    placed,
    plain,
    prompt,
    strengths,
    text,
    texts,
)
from gram.evaluation.items import Item
from gram.evaluation.records import Record
from gram.evaluation.shares import accuracy
from gram.statistics import Estimate
from gram.types import FloatArray


@placed
def _item(row: Row) -> Item:
    """``responses`` and ``scores``, or PPE's ``response_1`` and so on with ``scores``."""
    if "responses" in row.values:
        responses = texts(row, "responses")
    else:
        names = []
        while f"response_{len(names) + 1}" in row.values:
            names.append(f"response_{len(names) + 1}")
        if not names:
            raise fault(row, "missing", "responses")
        responses = tuple(text(row, name) for name in names)
    if len(responses) < 2:
        raise fault(row, "expected two or more answers, got one", "responses")
    gold = field(row, "scores")
    numbers = isinstance(gold, list) and all(isinstance(x, int | float) and is_finite(x) for x in gold)
    if not numbers or len(gold) != len(responses):
        raise fault(row, f"expected {len(responses)} finite numbers, one per response", "scores")
    order = sorted(range(len(gold)), key=lambda place: -float(gold[place]))
    values = tuple(float(gold[place]) for place in order)
    return Item(
        id=label(row, "id", label(row, "question_id", "")),
        prompt=prompt(row),
        responses=tuple(responses[place] for place in order),
        correct=values.count(values[0]),
        ask="all",
        gold=values,
        subset=label(row, "subset", ""),
        group=label(row, "group", ""),
    )


def expected_best(strength: FloatArray, gold: FloatArray, k: int) -> float:
    """Expected gold of the strongest of k candidates drawn from n without replacement, for 1 <= k <= n.

    With the candidates sorted from the strongest, number r (from 0) is the pick if it is drawn and the r
    before it are not: C(n-1-r, k-1) of C(n, k) draws. Candidates of equal strength are equally likely picks.

    Example:
        >>> strength, gold = np.array([2.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])  # the favourite is wrong
        >>> round(expected_best(strength, gold, k=2), 3)  # right in one of three draws
        0.333
    """
    n = len(strength)
    order = np.argsort(-strength, kind="stable")
    sorted_gold = gold[order].astype(float)
    _, first, size = np.unique(-strength[order], return_index=True, return_counts=True)
    for start, length in zip(first, size, strict=True):
        sorted_gold[start : start + length] = sorted_gold[start : start + length].mean()
    chance = np.array([math.comb(n - 1 - r, k - 1) for r in range(n)], dtype=float) / math.comb(n, k)
    return float(chance @ sorted_gold)


def curve(records: Sequence[Record]) -> dict[int, dict[str, Estimate]]:
    """k -> chooser -> mean expected gold over the prompts: of the model, a perfect judge and chance.

    k doubles from 1 up to the largest number of candidates that at least half of the prompts have. For the
    intervals prompts are drawn, those of one group together.
    """
    prompts: list[tuple[FloatArray, FloatArray, tuple[str, str]]] = []
    for item in by_item(records).values():
        strength = strengths(item)
        gold = np.empty(len(strength))
        for record in item:
            gold[list(record.pair)] = record.gold
        prompts.append((strength, gold, item[0].cluster))
    if not prompts:
        return {}
    counts = sorted((len(gold) for _, gold, _ in prompts), reverse=True)
    largest = counts[(len(counts) - 1) // 2]  # as many as the first half of the prompts have
    points = {}
    for k in sorted({*(2**e for e in range(int(math.log2(largest)) + 1)), largest}):
        enough = [prompt for prompt in prompts if len(prompt[1]) >= k]
        clusters = [cluster for *_, cluster in enough]
        golds = {
            "model": [expected_best(strength, gold, k) for strength, gold, _ in enough],
            "perfect": [expected_best(gold, gold, k) for _, gold, _ in enough],
            "chance": [float(gold.mean()) for _, gold, _ in enough],
        }
        points[k] = {name: statistics.mean(np.array(values), clusters) for name, values in golds.items()}
    return points


def scores(records: Sequence[Record]) -> Scores:
    """Gold of the pick at the largest k, the curve, and the accuracy on pairs of unequal gold."""
    records = plain(records)
    points = curve(records)
    lines = [
        line
        for k, row in points.items()
        for line in (
            Line(f"best of {k}", row["model"]),
            Line(f"best of {k}, perfect judge", row["perfect"], 1),
            Line(f"best of {k}, chance", row["chance"], 1),
        )
    ]
    pairs = accuracy([record for record in records if record.judged])
    last = points[max(points)]["model"] if points else statistics.mean(np.empty(0))
    name = f"gold of the best of {max(points)}" if points else "gold of the best"
    return Scores(last, name, (*lines, Line("accuracy on pairs", pairs)))


BENCHMARK = Benchmark(
    "best-of-k",
    "Best of k",
    "Every two answers to a prompt meet; the score is the mean gold of the answer that the model prefers "
    "among k, in expectation over all choices of k candidates, beside a perfect judge and chance (in the "
    "manner of PPE).",
    tuple(
        (f"lmarena-ai/PPE-{name}-Best-of-K::train", name)
        for name in ("MMLU-Pro", "MATH", "GPQA", "IFEval", "MBPP-Plus")
    ),
    _item,
    scores,
)
