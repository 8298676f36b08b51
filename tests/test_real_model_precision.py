"""bf16 against fp32 on a real language model: how much a verdict may change.

Needs the folder of one, in ``GRAM_REAL_MODEL``; measured on SmolLM2-135M-Instruct (docs/performance.md). The
law on models made in the process is in ``test_precision.py``.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import gram
from conftest import make_preferences

FOLDER = os.environ.get("GRAM_REAL_MODEL", "")
MOST, MEAN = 0.2, 0.05  # of the log-odds, in nats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="GRAM_REAL_MODEL names no folder of a real language model"),
]


def test_bf16_says_what_fp32_says_alone_in_a_crowd_and_swapped() -> None:
    pairs = [preference.pair for preference in make_preferences(40)]
    exact = gram.load(FOLDER, dtype="fp32").compare(pairs).log_odds  # (40, 2)
    model = gram.load(FOLDER, dtype="bf16")
    low = model.compare(pairs).log_odds
    alone = np.concatenate([model.compare([pair]).log_odds for pair in pairs[:8]])
    swapped = -model.compare([pair.swapped() for pair in pairs]).log_odds[:, ::-1]
    off, crowd = np.abs(low - exact), np.abs(alone - low[:8]).max()
    print(f"\nmean {off.mean():.3f}, most {off.max():.3f}, alone {crowd:.3f}; spread {exact.std():.2f}")
    for one, other in ((low, exact), (alone, low[:8]), (swapped, low)):
        difference = np.abs(one - other)
        assert difference.max() <= MOST
        assert difference.mean() <= MEAN
