"""Scripts that measure speed, for what ``gram bench`` does not cover. Knows nothing of how good a model is.

The benchmarks that a model is judged by are in ``gram.evaluation.benchmarks``.
"""
