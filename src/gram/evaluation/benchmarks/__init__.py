"""Benchmarks by their own rules: a row becomes an item, and records become the published numbers.

Each module knows one benchmark and no model. ``BENCHMARKS`` is the list of them; ``sources``
parses the names that a user gives, and knows the files behind them.
"""

from __future__ import annotations

from gram.evaluation.benchmarks import best_of_k, judgebench, pairs, rewardbench, rewardbench2, rm_bench
from gram.evaluation.benchmarks.benchmark import Benchmark, Line, Scores

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        rewardbench.CORE,
        rewardbench.WITH_PRIOR,
        rewardbench2.BENCHMARK,
        rm_bench.BENCHMARK,
        judgebench.BENCHMARK,
        best_of_k.BENCHMARK,
        pairs.HHH,
        pairs.LLMBAR,
    )
}
PREFERENCES = pairs.PREFERENCES

__all__ = ["BENCHMARKS", "PREFERENCES", "Benchmark", "Line", "Scores"]
