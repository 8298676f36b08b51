"""The script that times the evaluation runner runs; how fast it is is not tested."""

from __future__ import annotations

from benchmarks.evaluation import measure


def test_the_runner_keeps_no_more_than_the_records() -> None:
    """Far looser than what is measured (docs/performance.md): it must not grow by an order of magnitude."""
    result = measure(pairs=600, sample=4)
    assert result["overhead"] > 0
    assert result["megabytes_last_call"] - result["megabytes_first_call"] < 5
