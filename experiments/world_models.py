"""The models that the experiments in the world share: trained once per seed, kept as checkpoints.

Per seed: ``judge`` (stage 1 and stage 2), ``likelihood`` (stage 1 alone, asked in the judge's context),
``bradley_terry`` (a scalar head trained from scratch on the same labels), ``bradley_terry_pretrained`` (the
same on the stage-1 body) and ``policy`` (reads single answers, strong and weak alike). The recipe is that of
``gram demo``; labels are for half of the families.

Command: python experiments/world_models.py --seeds 21 22 23 [--folder runs/world]
Cost: about 5 minutes of one core a seed. What is on disk is not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from gram.asking import Kind
from gram.demo.lab import LABEL_SMOOTHING, Lab
from gram.demo.recipe import FULL
from gram.demo.world import World
from gram.modeling.manifest import FILE, Manifest
from gram.modeling.quiet import quiet_libraries
from gram.modeling.saving import library_versions, save_checkpoint
from gram.training.fit import FitSettings

FOLDER = Path("runs/world")
POLICY = FitSettings(steps=600, learning_rate=3e-3, schedule="linear", adam_beta2=0.99, log_steps=100)


def world_models(seed: int, folder: Path = FOLDER) -> dict[str, Path]:
    """Name -> checkpoint of the models of one world, trained where they are missing."""
    names = ("judge", "likelihood", "bradley_terry", "bradley_terry_pretrained", "policy")
    home = folder / f"seed-{seed}"
    paths = {name: home / name for name in names}
    if all((path / FILE).is_file() for path in paths.values()):
        return paths
    lab = Lab(World(seed), replace(FULL, few_labels=()), seed)
    body = lab.pretrained()
    labels = len(lab.labels)
    _save(paths["likelihood"], lab, body.model, "likelihood", "language", context="judge")
    judge = lab.finetuned(body, labels)
    _save(paths["judge"], lab, judge.model, "judge", "preference", label_smoothing=LABEL_SMOOTHING)
    for name, start in (("bradley_terry", lab.blank), ("bradley_terry_pretrained", body)):
        _save(paths[name], lab, lab.scalar_head(start, labels).model, "scalar", "scalar")
    _save(paths["policy"], lab, lab.policy(POLICY).model, "likelihood", "language")
    return paths


def _save(
    path: Path,
    lab: Lab,
    model: Any,
    kind: Kind,
    objective: str,
    context: Literal["chat", "judge"] = "chat",
    **settings: float,
) -> None:
    renderer = lab.renderer
    manifest = Manifest(
        kind=kind,
        template=renderer.template.to_json(),
        template_hash=renderer.template.hash,
        label_ids=list(renderer.label_ids) if kind == "judge" else [],
        max_length=renderer.max_length,
        context=context,
        objective={"name": objective, **settings},
        training={"from": "experiments/world_models.py", "seed": lab.seed, "labels": lab.recipe.labels},
        versions=library_versions(),
    )
    save_checkpoint(path, model, lab.blank.tokenizer, manifest)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    quiet_libraries()
    for seed in options.seeds:
        world_models(seed, options.folder)


if __name__ == "__main__":
    main()
