"""The two recipes of the demonstration: the whole story, and a quick look at it."""

from __future__ import annotations

from dataclasses import replace

from gram.demo.lab import Recipe
from gram.training.fit import FitSettings

# Both stages are short: a quick second moment (beta2) lets them use their few steps from the start.
_STAGE_1 = FitSettings(steps=1400, learning_rate=3e-3, schedule="linear", adam_beta2=0.99, log_steps=100)
_STAGE_2 = FitSettings(steps=300, learning_rate=1e-3, adam_beta2=0.99, log_steps=50)

FULL = Recipe(
    unlabeled=44_800,  # each pair is read once
    labels=3000,
    few_labels=(300,),
    pretraining=_STAGE_1,
    finetuning=_STAGE_2,
    test_pairs=500,
    contests=100,
)

QUICK = Recipe(
    unlabeled=6400,
    labels=600,
    few_labels=(100,),
    pretraining=replace(_STAGE_1, steps=200, log_steps=50),
    finetuning=replace(_STAGE_2, steps=60, log_steps=20),
    test_pairs=200,
    contests=30,
)
