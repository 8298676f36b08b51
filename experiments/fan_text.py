"""The fan judge on real text: gram-135m, converted to reading each answer by itself.

Claim (ours): on a pre-trained model little training is left to do when a sequence judge becomes a fan judge,
and what is lost is within a point of accuracy.

Arms:
  sequence         gram-135m's judge, as it is
  sequence_longer  trained on, for as many steps as a conversion takes: its control
  fan_zero_shot    the same model, asked in the fan layout
  fan_converted    trained on in the fan layout
  fan_one_token    ... so that one token looks at both answers, not two
  fan_distilled    converted on the verdicts of the sequence judge on the same pairs
  scalar           a scalar head (Bradley-Terry) on the judge's body, trained on in as many steps
  sequence_start   the base, taught to compare from nothing by as many easy labels, in the sequence layout
  fan_start        ... in the fan layout

A conversion is 200 steps of 16 of the labels that gram-135m has learned from; so are all other trainings,
with the first easy labels for the last two arms. Test rows: 400 drawn from superni's `eval` categories, which
never had a label, and 400 of its `test` rows (experiments/real_text.md).

Cost: 20 to 40 minutes of one core for an arm that is trained, minutes for the others. Command: python -m
experiments.fan_text [ARM ...]. Reads ../shared/data (see experiments/public_files.py). A training that was
stopped goes on, an arm whose result is on file is not run again. The table is written into
docs/results-fan.md by experiments/fan_page.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from experiments.fan import said
from experiments.foundation import lessons
from experiments.foundation.arms import BASE, CONFIGS, LENGTH, MODELS
from experiments.foundation.results import add, read
from experiments.foundation.rows import test_rows

import gram
from gram.files import atomic_write
from gram.modeling.manifest import FILE
from gram.modeling.quiet import quiet_libraries
from gram.rendering import FanRenderer
from gram.rendering.fan import LOOKING
from gram.training.config import load_config
from gram.training.pipeline import train
from gram.types import Preference, PreferenceModel

RESULTS = Path("experiments/results/fan_text.jsonl")
PLACES = {"unseen": "tasks never labeled", "seen": "in distribution"}
SOURCE, MOST = "superni", 400
STEPS, BATCH = 200, 16
JUDGE = "gram-135m"

_SCALAR = {"objective": "scalar", "template": None, "label_smoothing": 0.0, "adapter": "merged"}
CONVERSIONS: dict[str, Mapping[str, Any]] = {
    "sequence_longer": {},
    "fan_converted": {"layout": "fan"},
    "fan_one_token": {"layout": "fan"},
    "fan_distilled": {"layout": "fan", "distil": JUDGE},
    "scalar": _SCALAR,
}
"""Options of a conversion; all else is that of the last step of `make foundation`."""
STARTS: dict[str, Mapping[str, Any]] = {"sequence_start": {}, "fan_start": {"layout": "fan"}}
"""Options of a training from the base; all else is that of the easy labels of `make foundation`."""
ARMS = ("sequence", "sequence_longer", "fan_zero_shot", "fan_converted", "fan_one_token", "fan_distilled")
ARMS += ("scalar", "sequence_start", "fan_start")

CONTROLS = dict.fromkeys(("fan_converted", "fan_one_token", "fan_distilled", "scalar"), "sequence_longer")
CONTROLS |= {"fan_start": "sequence_start"}
"""An arm, and the one that had as many steps in the sequence layout."""


def model_of(arm: str) -> str:
    """The folder of an arm, which is trained unless it is there."""
    if arm in ("sequence", "fan_zero_shot"):
        return JUDGE
    output = MODELS / "fan" / arm
    if not (output / FILE).is_file():
        if arm in STARTS:
            config = replace(load_config(CONFIGS / "2-easy.yaml"), model=BASE, adapter="kept")
            config = replace(config, data=[str(_first_of(lessons.EASY))], **STARTS[arm])
        else:
            config = replace(load_config(CONFIGS / "3-finetune.yaml"), model=JUDGE)
            config = replace(config, data=[str(_first_of(lessons.SHORT))], **CONVERSIONS[arm])
        with _looking(1 if arm == "fan_one_token" else LOOKING):
            train(replace(config, output=output))
    return str(output)


@contextmanager
def _looking(tokens: int) -> Iterator[None]:
    """Models that become fans have so many looking tokens; no option says so, as no user needs to choose."""
    defaults = FanRenderer.__init__.__kwdefaults__
    assert defaults is not None
    defaults["looking"] = tokens
    try:
        yield
    finally:
        defaults["looking"] = LOOKING


def _first_of(labels: Path) -> Path:
    """As many of the labels of a step of `make foundation` as a conversion takes, in their order."""
    path = labels.with_stem(f"{labels.stem}-{STEPS * BATCH}")
    if not path.exists():
        lessons.write()
        with labels.open(encoding="utf-8") as file, atomic_write(path) as output:
            output.writelines(islice(file, STEPS * BATCH))
    return path


def tests() -> dict[str, list[Preference]]:
    """The rows that every arm is asked about."""
    rings = {(ring, source): rows for ring, source, rows in test_rows()}
    drawn = np.random.default_rng(0)
    return {half: _some(rings[ring, SOURCE], drawn) for half, ring in PLACES.items()}


def _some(rows: Sequence[Preference], drawn: np.random.Generator) -> list[Preference]:
    return [rows[place] for place in sorted(drawn.permutation(len(rows))[:MOST])]


def run(arm: str, rows: Mapping[str, Sequence[Preference]]) -> dict[str, Any]:
    """What an arm says: right or wrong one by one, and what the order changes."""
    began = time.monotonic()
    path = model_of(arm)
    trained = time.monotonic()
    result: dict[str, Any] = {"arm": arm}
    layout: dict[str, Any] = {"layout": "fan"} if arm == "fan_zero_shot" else {}
    model: PreferenceModel = gram.load(path, max_length=LENGTH, **layout)
    for half, part in rows.items():
        result[half] = said(model, part) | {"groups": [str(row.group or row.id) for row in part]}
    seconds = {"train": round(trained - began, 1), "ask": round(time.monotonic() - trained, 1)}
    return result | {"seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"of {', '.join(ARMS)}; default: all")
    options = parser.parse_args(arguments)
    arms = options.arms or list(ARMS)
    if unknown := set(arms) - set(ARMS):
        parser.error(f"no arm {min(unknown)}; there are {', '.join(ARMS)}")
    quiet_libraries()
    rows = tests()
    for arm in arms:
        if arm not in {row["arm"] for row in read(RESULTS)}:
            result = run(arm, rows)
            add(RESULTS, result)
            print(json.dumps({key: value for key, value in result.items() if key not in PLACES}), flush=True)


if __name__ == "__main__":
    main()
