"""The two recipes of the demonstration: the whole story, and a quick look at it."""

from __future__ import annotations

from gram.demo.lab import Recipe
from gram.training.fit import FitSettings

FULL = Recipe(
    unlabeled=38_400,
    labels=3000,
    few_labels=(100, 600),
    pretraining=FitSettings(
        steps=1200, schedule="linear", learning_rate=3e-3, adam_beta2=0.99, log_steps=100
    ),
    finetuning=FitSettings(steps=300, learning_rate=1e-3, log_steps=50),
    test_pairs=500,
    contests=100,
)

QUICK = Recipe(
    unlabeled=6400,
    labels=600,
    few_labels=(100,),
    pretraining=FitSettings(steps=200, learning_rate=3e-3, log_steps=50),
    finetuning=FitSettings(steps=60, learning_rate=1e-3, log_steps=20),
    test_pairs=200,
    contests=30,
)
