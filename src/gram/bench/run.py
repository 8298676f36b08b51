"""A whole benchmark: data, tokenizer, then every shape and precision in turn."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from gram.bench import workloads
from gram.bench.measure import Machine
from gram.bench.score import Scoring
from gram.bench.shapes import DTYPES, QUICK, SHAPES, ShapeName, build, renderer_for, tokenizer_for
from gram.bench.train import Steps
from gram.bench.workloads import Sizes
from gram.rendering import Renderer
from gram.types import Contest

_TEXTS = 1200  # prompts and answers that the tokenizer learns from
_QUICK_SIZES = Sizes(independent=4, best_of={4: 1}, groups={3: 1})


@dataclass(frozen=True)
class Plan:
    """What is to be measured; the fields are the options of ``gram bench``."""

    shapes: Sequence[ShapeName] = ("small", "wide")
    dtypes: Sequence[str] = ("fp32", "bf16")
    device: str = "cpu"
    data: str | None = None
    rounds: int = 3
    seed: int = 0
    quick: bool = False
    token_budget: int | None = None
    peer_batch: int | None = None
    pairs: int = 4
    steps: int = 2
    told: Callable[[str], None] = field(default=lambda _: None)


def score(plan: Plan) -> dict[str, Any]:
    """Facts of the run and one row per workload, shape and precision."""
    contests, source, renderer, machine = prepared(plan)
    sizes = _QUICK_SIZES if plan.quick else Sizes()
    todo = workloads.scoring(contests, sizes, plan.seed)
    rows = []
    for name, dtype in _models(plan):
        shape = (QUICK if plan.quick else SHAPES)[name]
        model = build(shape, dtype=DTYPES[dtype], device=plan.device, seed=plan.seed)
        scoring = Scoring(
            model,
            renderer,
            machine,
            sample=todo[0].pairs[:8],
            token_budget=plan.token_budget,
            peer_batch=plan.peer_batch,
        )
        for workload in todo:
            plan.told(f"{name} {dtype}: {workload.name}")
            label = {"shape": name, "dtype": dtype, "vocabulary": shape.vocabulary} | scoring.facts
            rows.append(label | scoring.measure(workload, plan.rounds))
    return _facts(plan, source, machine) | {"rows": rows}


def train(plan: Plan) -> dict[str, Any]:
    """Facts of the run and one row per stage, shape and precision."""
    contests, source, renderer, machine = prepared(plan)
    pairs = workloads.independent_pairs(contests, plan.pairs * plan.steps, plan.seed)
    batches = [pairs[start : start + plan.pairs] for start in range(0, len(pairs), plan.pairs)]
    rows = []
    for name, dtype in _models(plan):
        shape = (QUICK if plan.quick else SHAPES)[name]
        model = build(shape, dtype=torch.float32, device=plan.device, seed=plan.seed)
        steps = Steps(model, renderer, machine, bf16=dtype == "bf16")
        for stage in (steps.preference, steps.language):
            plan.told(f"{name} {dtype}: {stage.__name__} step")
            label = {"shape": name, "dtype": dtype, "vocabulary": shape.vocabulary}
            rows.append(label | stage(batches, plan.rounds))
    return _facts(plan, source, machine) | {"rows": rows}


def prepared(plan: Plan) -> tuple[list[Contest], str, Renderer, Machine]:
    """Prompts with answers and where they come from, the judge prompts' renderer, and the machine."""
    machine = Machine(plan.device)
    contests, source = workloads.pool(plan.data, plan.seed)
    texts: list[str] = []
    for contest in contests:
        texts += [contest.prompt[-1].content, *contest.responses[:2]]
    stride = max(1, len(texts) // _TEXTS)
    return contests, source, renderer_for(tokenizer_for(texts[::stride])), machine


def _models(plan: Plan) -> Iterator[tuple[ShapeName, str]]:
    for name in plan.shapes:
        for dtype in plan.dtypes:
            yield name, dtype


def _facts(plan: Plan, source: str, machine: Machine) -> dict[str, Any]:
    return {
        "data": source,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "quick": plan.quick,
        "device": torch.cuda.get_device_name() if plan.device == "cuda" else f"{platform.machine()} CPU",
        "unit": machine.unit,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
