"""What the parts have in common: the models and texts of ``gram bench``, a step of training, paths in turn.

Knows what can be timed; knows no choice, and neither files nor the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.profiler import record_function

from gram.bench import suite, workloads
from gram.bench.measure import Machine, Timing, spread
from gram.bench.settings import BenchSettings, ShapeName
from gram.bench.shapes import QUICK, SHAPES, Shape, build
from gram.bench.workloads import Sizes, Workload
from gram.demo.lab import LABEL_SMOOTHING, Lab
from gram.demo.recipe import FULL
from gram.demo.world import World
from gram.engine.base import Engine, TokenRow
from gram.engine.runner import Runner
from gram.objectives.language import Language
from gram.objectives.objective import Objective, Sample
from gram.objectives.preference import Judge
from gram.rendering import Encoded
from gram.types import Preference, ResponsePair

PAIRS = 4  # in a training step of ``gram bench``
DEMO_BATCH = 32
DEMO_BATCHES = 3
UPDATE = "clipping and optimizer"  # the name of that stretch of a step in a profile


class Setting:
    """What the parts have in common.

    Args:
        data: where prompts with answers are read, as ``gram bench --data`` takes it; None: they are made up.
    """

    def __init__(self, rounds: int, seed: int, smoke: bool, data: str | None = None) -> None:
        self.rounds, self.seed, self.smoke = rounds, seed, smoke
        self.machine = Machine("cpu")
        models = QUICK if smoke else SHAPES
        self.shapes: Mapping[ShapeName, Shape] = {name: models[name] for name in ("small", "wide")}
        self.demo_batch = 6 if smoke else DEMO_BATCH
        settings = BenchSettings(seed=seed, data=data)
        self.contests, self.data, self.renderer, _ = suite.prepare(settings)

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        sizes = Sizes(2, {3: 1}, {3: 1}) if self.smoke else Sizes(best_of={8: 1}, groups={8: 2})
        return {workload.name: workload for workload in workloads.scoring(self.contests, sizes, self.seed)}

    def prompts_of(self, kind: str) -> list[Encoded]:
        """The prompts of W1, W2 or W3."""
        return next(
            self.prompts(workload) for name, workload in self.workloads.items() if name.startswith(kind)
        )

    def prompts(self, workload: Workload) -> list[Encoded]:
        pairs = workload.pairs
        return self.renderer.judge([*pairs, *(pair.swapped() for pair in pairs)])

    def model(self, name: ShapeName) -> Any:
        return build(self.shapes[name], dtype=torch.float32, device="cpu", seed=self.seed)

    def stages(self, engine: Engine) -> dict[str, tuple[Objective[Any], list[Sample]]]:
        """The training steps of ``gram bench``: objective and one batch."""
        pairs = workloads.independent_pairs(self.contests, 1 if self.smoke else PAIRS, self.seed)
        judge = Judge(self.renderer, label_smoothing=LABEL_SMOOTHING, engine=engine)
        language = Language(self.renderer, engine=engine)
        unlabeled = [ResponsePair(pair.prompt, pair.a, pair.b) for pair in pairs]
        return {
            "stage 2": (judge, judge.encode([Preference(pair, 1.0) for pair in pairs])),
            "stage 1": (language, language.encode(unlabeled)),
        }

    @cached_property
    def lab(self) -> Lab:
        count = DEMO_BATCHES * self.demo_batch
        unlabeled = count if self.smoke else FULL.unlabeled  # the tokenizer learns from these
        return Lab(World(self.seed), replace(FULL, unlabeled=unlabeled, labels=count), self.seed)

    def in_turn(
        self, paths: Mapping[str, Callable[[], Any]], base: str
    ) -> tuple[dict[str, Any], dict[str, Timing]]:
        """Median seconds per path and its ratios to ``base``, as plain values; and the timings."""
        timings = self.machine.in_turn(paths, self.rounds)
        first = timings[base].seconds
        ratios = {name: spread(timing.seconds, first) for name, timing in timings.items() if name != base}
        return {
            "seconds": {name: timing.median for name, timing in timings.items()},
            f"ratio_to_{base}": ratios,
        }, timings


def off_by(timings: Mapping[str, Timing], base: str) -> dict[str, float]:
    """How far any number that a path has returned is from that of ``base``, at most."""
    right = timings[base].result
    return {name: float(abs(timing.result - right).max()) for name, timing in timings.items() if name != base}


def switched(owner: Any, name: str, value: Any, path: Callable[[], Any]) -> Callable[[], Any]:
    """``path`` with another value under a name of a module, which is put back after every call."""

    def changed() -> Any:
        before = getattr(owner, name)  # fails where nothing has that name, which setting it would not
        setattr(owner, name, value)
        try:
            return path()
        finally:
            setattr(owner, name, before)

    return changed


def token_rows(prompts: Sequence[Encoded]) -> list[TokenRow]:
    """Prompts as the engine reads them."""
    return [TokenRow(prompt.ids) for prompt in prompts]


def asked(runner: Runner, prompts: Sequence[Encoded], labels: Sequence[int]) -> Callable[[], Any]:
    """Scoring of the prompts: the log-probabilities of the labels."""
    rows = token_rows(prompts)
    return lambda: runner.next_logprobs(rows, labels)


def backward(model: Any, objective: Objective[Any], samples: Sequence[Sample]) -> None:
    """The gradient of the mean loss of one batch."""
    batch = objective.collate(samples)
    (objective.loss_sum(model, batch).loss / objective.count(batch)).backward()


def step(
    model: Any, objective: Objective[Any], samples: Sequence[Sample], optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """A whole step of training on one batch."""

    def once() -> None:
        backward(model, objective, samples)
        with record_function(UPDATE):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return once
