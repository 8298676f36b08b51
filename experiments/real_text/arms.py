"""The arms of experiments/real_text.md: what each starts from, how its stage 2 differs, and how it is asked.

Command: python -m experiments.real_text.arms [NAME ...] (after `make gram-small`; 15 to 40 minutes of one
core each). A finished arm is kept, an unfinished one is continued. --seed trains stage 2 with another order
of rows, and a random body with other weights. Knows nothing of test rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

import gram
from gram.asking import Kind
from gram.modeling.loading import load_model
from gram.modeling.manifest import FILE
from gram.modeling.quiet import quiet_libraries
from gram.modeling.saving import save_checkpoint
from gram.training.config import load_config
from gram.training.pipeline import train
from gram.types import PreferenceModel

MODELS = Path("runs/gram-small")
CONFIGS = Path("configs/gram-small")
LENGTH = 512
"""Most tokens of a prompt, in training and when asked."""

Body = Literal["pretrained", "text", "pretrained_without_text", "random"]


@dataclass(frozen=True)
class Arm:
    """A model of the comparison.

    Attributes:
        title: in tables.
        body: where its stage 2 starts; an arm without ``stage_2`` is the body itself.
        stage_2: options of ``gram train`` that differ from 3-compare.yaml and 4-finetune.yaml; None: neither
            is run.
        kind: how it is asked.
    """

    title: str
    body: Body
    stage_2: Mapping[str, Any] | None = field(default_factory=dict)
    kind: Kind = "judge"


_JUDGE = {"objective": "preference"}
_BRADLEY_TERRY = {"objective": "scalar", "label_smoothing": 0.0}

ARMS = {
    "judge": Arm("GRAM, judge", "pretrained", _JUDGE),
    "likelihood": Arm("GRAM, likelihood", "pretrained", {}, "likelihood"),
    "likelihood_no_smoothing": Arm(
        "likelihood, no smoothing", "pretrained", {"label_smoothing": 0.0}, "likelihood"
    ),
    "likelihood_no_stage_1": Arm("likelihood, no stage 1", "text", {}, "likelihood"),
    "no_stage_1": Arm("judge, no stage 1", "text", _JUDGE),
    "no_language": Arm("judge, no language modelling", "pretrained_without_text", _JUDGE),
    "bradley_terry": Arm("Bradley-Terry on the body", "pretrained", _BRADLEY_TERRY, "scalar"),
    "bradley_terry_scratch": Arm("Bradley-Terry from scratch", "random", _BRADLEY_TERRY, "scalar"),
    "zero_shot": Arm("likelihood, no labels", "pretrained", None, "likelihood"),
}
SHIPPED = "likelihood"
"""The arm that becomes gram-small."""


def home(seed: int = 0) -> Path:
    """Where the models of a seed of stage 2 lie, and what they said."""
    return MODELS / f"seed-{seed}" if seed else MODELS


def folder(name: str, seed: int = 0) -> Path:
    """Where the model of an arm lies."""
    arm = ARMS[name]
    return home(seed) / name if arm.stage_2 is not None else MODELS / arm.body


def make(name: str, seed: int = 0) -> Path:
    """The folder of an arm's model, which is trained unless it is there."""
    path, arm = folder(name, seed), ARMS[name]
    if not (path / FILE).is_file():
        compared, options = home(seed) / f"{name}_compared", {"seed": seed, **(arm.stage_2 or {})}
        if not (compared / FILE).is_file():
            body = make_body(arm.body, seed)
            config = load_config(CONFIGS / "3-compare.yaml")
            train(replace(config, model=str(body), output=compared, **options))
        config = load_config(CONFIGS / "4-finetune.yaml")
        train(replace(config, model=str(compared), output=path, **options))
    return path


def make_body(name: Body, seed: int = 0) -> Path:
    """The folder of a body; those that `make gram-small` makes have to be there."""
    path = home(seed if name == "random" else 0) / name
    if name in ("text", "pretrained") or (path / FILE).is_file():
        return path
    if name == "random":
        text = load_model(MODELS / "text", "lm")
        assert text.manifest is not None
        torch.manual_seed(seed)
        save_checkpoint(path, type(text.model)(text.model.config), text.tokenizer, text.manifest)
    else:
        config = load_config(CONFIGS / "2-pretrain.yaml")
        train(replace(config, model=str(make_body("random")), output=path))
    return path


def load(name: str, seed: int = 0) -> PreferenceModel:
    """An arm, ready to be asked; its log-odds are as they were trained, without a temperature."""
    arm = ARMS[name]
    power = 1.0 if arm.stage_2 is None else None
    model: Any = gram.load(folder(name, seed), arm.kind, max_length=LENGTH, device="cpu", length_power=power)
    model.temperature = 1.0  # gram-small has one; the report fits every arm its own
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ARMS)}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of stage 2")
    options = parser.parse_args(arguments)
    names = options.names or list(ARMS)
    if unknown := set(names) - set(ARMS):
        parser.error(f"no arm {min(unknown)}; there are {', '.join(ARMS)}")
    quiet_libraries()
    for name in names:
        print(make(name, options.seed))


if __name__ == "__main__":
    main()
