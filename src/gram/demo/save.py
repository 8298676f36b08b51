"""Keeps the demonstration's reward model as an ordinary checkpoint."""

from __future__ import annotations

from pathlib import Path

from gram.demo.lab import LABEL_SMOOTHING, Lab
from gram.demo.story import Story
from gram.modeling.manifest import Manifest
from gram.modeling.saving import library_versions, save_checkpoint


def save_judge(folder: Path, lab: Lab, story: Story) -> None:
    """Write the judge of ``story`` with its manifest."""
    assert story.model is not None
    renderer = lab.renderer
    manifest = Manifest(
        kind="judge",
        **renderer.settings,
        label_ids=list(renderer.label_ids),
        context="judge",
        objective={"name": "preference", "label_smoothing": LABEL_SMOOTHING},
        training={"stage": "finetune", "from": "gram demo", "seed": lab.seed, "labels": lab.recipe.labels},
        versions=library_versions(),
        evaluation={half: estimate.value for half, estimate in story.accuracy["gram"].items()},
    )
    save_checkpoint(folder, story.model.model, story.model.tokenizer, manifest)
