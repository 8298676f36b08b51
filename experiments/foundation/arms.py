"""The arms of gram-135m in experiments/real_text.md: where each starts, how it is trained, how it is asked.

Command: python -m experiments.foundation.arms [NAME ...] (after `make foundation`, or at least its stage 1;
10 minutes to 2 hours of one core each). A finished arm is kept, an unfinished one is continued. --seed trains
stage 2 with another order of rows and other new weights. Knows nothing of test rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from experiments.foundation import lessons
from experiments.foundation.data import COUNT

import gram
from gram.asking import Kind
from gram.modeling.manifest import FILE
from gram.modeling.quiet import quiet_libraries
from gram.training.config import load_config
from gram.training.pipeline import train
from gram.types import PreferenceModel

MODELS = Path("runs/gram-135m")
CONFIGS = Path("configs/gram-135m")
BASE = "smollm2-135m"
LENGTH = 1024
"""Most tokens of a prompt, in training and when asked."""
TEMPLATE = "compact"

SAME_LABELS = "bradley_terry_short"
"""The arm that is gram-135m's rival where it is used: the same labels, in as many steps."""

Start = Literal["base", "stage_1", "easy"]


@dataclass(frozen=True)
class Arm:
    """A model of the comparison.

    Attributes:
        title: in tables.
        start: where its stage 2 begins; an arm without ``stage_2`` is that model itself.
        stage_2: options of ``gram train`` that differ from 3-finetune.yaml; None: it is not run.
        kind: how it is asked.
        labels: the first so many; None: those of 3-finetune.yaml.
        length_power: of a likelihood without stage 2.
        without_prompt: the same question without a prompt is subtracted (PMI).
    """

    title: str
    start: Start
    stage_2: Mapping[str, Any] | None = field(default_factory=dict)
    kind: Kind = "likelihood"
    labels: int | None = 4_000
    length_power: float = 1.0
    without_prompt: bool = False


FIRST = {"batch_size": 64, "learning_rate": 8e-4}
"""Of the first try, which ran on a GPU: fewer and larger steps, to fit into the lease."""
_JUDGE = FIRST
_LIKELIHOOD = FIRST | {"objective": "likelihood", "template": None, "beta": 5.0, "length_power": 1.0}
_BRADLEY_TERRY = {"objective": "scalar", "template": None, "label_smoothing": 0.0, "adapter": "merged"}
_SCALAR = FIRST | _BRADLEY_TERRY

ARMS = {
    "likelihood": Arm("likelihood", "stage_1", _LIKELIHOOD),
    "judge": Arm("judge", "stage_1", _JUDGE, "judge"),
    "likelihood_no_stage_1": Arm("likelihood, no stage 1", "base", _LIKELIHOOD),
    "judge_no_stage_1": Arm("judge, no stage 1", "base", _JUDGE, "judge"),
    "likelihood_no_smoothing": Arm(
        "likelihood, no smoothing", "stage_1", _LIKELIHOOD | {"label_smoothing": 0.0}
    ),
    "judge_no_smoothing": Arm("judge, no smoothing", "stage_1", _JUDGE | {"label_smoothing": 0.0}, "judge"),
    "bradley_terry": Arm("Bradley-Terry", "base", _SCALAR, "scalar"),
    "bradley_terry_stage_1": Arm("Bradley-Terry on stage 1", "stage_1", _SCALAR, "scalar"),
    "bradley_terry_text": Arm(
        "Bradley-Terry, text regulariser", "base", _SCALAR | {"text_regulariser": 0.2}, "scalar"
    ),
    "frozen": Arm(
        "head on the frozen base",
        "base",
        _SCALAR | {"lora": False, "freeze": True, "learning_rate": 1e-3},
        "scalar",
    ),
    SAME_LABELS: Arm("Bradley-Terry, the labels of gram-135m", "base", _BRADLEY_TERRY, "scalar", labels=None),
    "easy": Arm("judge, easy labels only", "easy", None, "judge"),
    "judge_easy": Arm("gram-135m (judge, easy labels first)", "easy", {}, "judge", labels=None),
    "zero_shot_judge": Arm("zero-shot judge", "base", None, "judge"),
    "zero_shot_sum": Arm("zero-shot likelihood, sum", "base", None, length_power=0.0),
    "zero_shot_mean": Arm("zero-shot likelihood, mean", "base", None),
    "zero_shot_pmi": Arm("zero-shot likelihood, PMI", "base", None, length_power=0.0, without_prompt=True),
}
BY_LABELS = {
    name: {1_000: f"{name}-1000", 4_000: name, COUNT: f"{name}-{COUNT}"}
    for name in ("likelihood", "judge", "bradley_terry")
}
"""The arms that are trained with three numbers of labels."""
PLAIN = {name: ARMS[name].title for name in BY_LABELS}
"""Their titles without the number."""
for _name, _by_count in BY_LABELS.items():
    for _count, _arm in _by_count.items():
        ARMS[_arm] = replace(ARMS[_name], title=f"{PLAIN[_name]}, {_count:,} labels", labels=_count)


def home(seed: int = 0) -> Path:
    """Where the models of a seed of stage 2 lie, and what they said."""
    return MODELS / f"seed-{seed}" if seed else MODELS


def folder(name: str, seed: int = 0) -> str:
    """The model of an arm, as commands name it."""
    arm = ARMS[name]
    if arm.stage_2 is None:
        return BASE if arm.start == "base" else str(MODELS / arm.start)
    full = f"{name}-{COUNT}" in ARMS
    return str(home(seed) / (f"{name}-{arm.labels}" if full else name))


def make(name: str, seed: int = 0) -> str:
    """The model of an arm, which is trained unless it is there."""
    path, arm = folder(name, seed), ARMS[name]
    if arm.stage_2 is None or (Path(path) / FILE).is_file():
        return path
    config = load_config(CONFIGS / "3-finetune.yaml")
    adapter, begin = ("kept", BASE) if arm.start == "base" else ("continued", str(MODELS / arm.start))
    begun = {"adapter": adapter, "model": begin}
    options = {"seed": seed, "max_per_source": None, **begun, **arm.stage_2}
    data = config.data if arm.labels is None else [str(lessons.first(arm.labels))]
    train(replace(config, output=Path(path), data=data, **options))
    return path


def load(name: str, seed: int = 0, token_budget: int | None = None) -> PreferenceModel:
    """An arm, ready to be asked; its log-odds are as they were trained, without a temperature."""
    arm = ARMS[name]
    options: dict[str, Any] = {}
    if arm.stage_2 is None:
        options = {"length_power": arm.length_power} if arm.kind == "likelihood" else {"template": TEMPLATE}
    options |= {"max_length": LENGTH, "token_budget": token_budget}
    model: Any = gram.load(folder(name, seed), arm.kind, **options)
    model.temperature = 1.0  # the shipped one has another; the report fits every arm its own
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
