"""The benchmark runs and compares paths that agree; how fast they are is not tested."""

from __future__ import annotations

from benchmarks.scoring import measure


def test_the_paths_that_are_timed_agree() -> None:
    result = measure(pairs=3, rounds=1, vocabulary=1000, seed=0)
    assert result["max_difference_p"] < 1e-5
    assert result["ratio"] > 0
    assert set(result["cpu_seconds"]) == {"plain", "reference"}
