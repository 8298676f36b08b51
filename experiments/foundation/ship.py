"""Writes the folder that is shipped: the adapter in bfloat16, with its temperature and its card.

Command: python -m experiments.foundation.ship (`make foundation` runs it last). To ship the folder that it
writes, copy it to src/gram/shipped/gram-135m.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from experiments.foundation.arms import CONFIGS, LENGTH, MODELS, folder
from experiments.foundation.data import HELD_BACK

import gram
from gram.data import read_preferences
from gram.modeling.digests import deciding_files
from gram.modeling.loading import load_model
from gram.modeling.quiet import quiet_libraries
from gram.modeling.saving import save_checkpoint
from gram.types import FloatArray, sigmoid

CARD = "MODEL_CARD.md"
SHIPPED = "judge_easy"
"""The arm that becomes gram-135m: the better kind on rows held back."""


def ship(model: Path, output: Path) -> dict[str, float]:
    """Write ``output``; returns its size, and what bfloat16 changed on the rows held back."""
    before = _p_a(model)
    loaded = load_model(model, "lm", go_on=True)
    assert loaded.manifest is not None
    loaded.tokenizer.model_max_length = LENGTH  # what it was trained to read
    for weight in loaded.model.parameters():
        weight.data = weight.data.bfloat16()
    card = (CONFIGS / CARD).read_text(encoding="utf-8")
    save_checkpoint(output, loaded.model, loaded.tokenizer, loaded.manifest, {CARD: card}, merge=False)
    after = _p_a(output)
    found = {
        "megabytes": round((output / "adapter_model.safetensors").stat().st_size / 1e6, 2),
        "bfloat16_largest_change_of_p_a": round(float(np.abs(before - after).max()), 5),
        "bfloat16_accuracy_change": round(float(np.mean(after > 0.5) - np.mean(before > 0.5)), 5),
    }
    replace(loaded.manifest, evaluation=found, files=deciding_files(output)).write(output)
    return found


def _p_a(model: Path) -> FloatArray:
    rows = read_preferences([str(HELD_BACK)]).examples
    scored = gram.load(model, max_length=LENGTH, device="cpu").compare([row.pair for row in rows])
    return np.mean(sigmoid(scored.log_odds), axis=1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    quiet_libraries()
    output = MODELS / "shipped"
    print(output, ship(Path(folder(SHIPPED)), output))


if __name__ == "__main__":
    main()
