"""Writes the folder that is shipped: the likelihood in bfloat16, with its temperature and its card.

Command: python -m experiments.real_text.ship (`make gram-small` runs it last). To ship the folder that it
writes, copy it to src/gram/shipped/gram-small.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from experiments.real_text.arms import CONFIGS, LENGTH, MODELS, SHIPPED, folder
from experiments.real_text.mix import FOLDER

import gram
from gram.data import read_preferences
from gram.modeling.loading import load_model
from gram.modeling.quiet import quiet_libraries
from gram.modeling.saving import save_checkpoint
from gram.types import FloatArray, sigmoid

CARD = "MODEL_CARD.md"


def ship(model: Path, output: Path) -> dict[str, float]:
    """Write ``output``; returns its size, and what bfloat16 changed on the calibration rows."""
    before = _p_a(model)
    loaded = load_model(model, "lm")
    assert loaded.manifest is not None
    loaded.tokenizer.model_max_length = LENGTH  # what it was trained to read
    card = (CONFIGS / CARD).read_text(encoding="utf-8")
    half = loaded.model.bfloat16()
    save_checkpoint(output, half, loaded.tokenizer, loaded.manifest, {CARD: card})
    size = (output / "model.safetensors").stat().st_size
    after = _p_a(output)
    found = {
        "megabytes": round(size / 1e6, 2),
        "bfloat16_largest_change_of_p_a": round(float(np.abs(before - after).max()), 5),
        "bfloat16_accuracy_change": round(float(np.mean(after > 0.5) - np.mean(before > 0.5)), 5),
    }
    replace(loaded.manifest, evaluation=found).write(output)
    return found


def _p_a(folder: Path) -> FloatArray:
    rows = read_preferences([str(FOLDER / "calibration.jsonl")]).examples
    model = gram.load(folder, max_length=LENGTH, device="cpu")
    return np.mean(sigmoid(model.compare([row.pair for row in rows]).log_odds), axis=1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    quiet_libraries()
    output = MODELS / "shipped"
    print(output, ship(folder(SHIPPED), output))


if __name__ == "__main__":
    main()
