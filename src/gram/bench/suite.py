"""A whole run: texts, tokenizer, then every shape and precision in turn. Knows no table and no file."""

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
class BenchSettings:
    """What is to be measured, and how; most fields are options of ``gram bench``.

    Attributes:
        tell: called with a few words before each measurement.
    """

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
    tell: Callable[[str], None] = field(default=lambda _: None)


def score(settings: BenchSettings) -> dict[str, Any]:
    """Facts of the run and one row per workload, shape and precision."""
    contests, source, renderer, machine = prepare(settings)
    sizes = _QUICK_SIZES if settings.quick else Sizes()
    todo = workloads.scoring(contests, sizes, settings.seed)
    rows = []
    for name, dtype in _models(settings):
        shape = (QUICK if settings.quick else SHAPES)[name]
        model = build(shape, dtype=DTYPES[dtype], device=settings.device, seed=settings.seed)
        scoring = Scoring(
            model,
            renderer,
            machine,
            sample=todo[0].pairs[:8],
            token_budget=settings.token_budget,
            peer_batch=settings.peer_batch,
        )
        for workload in todo:
            settings.tell(f"{name} {dtype}: {workload.name}")
            label = {"shape": name, "dtype": dtype, "vocabulary": shape.vocabulary} | scoring.facts
            rows.append(label | scoring.measure(workload, settings.rounds))
    return _facts(settings, source, machine) | {"rows": rows}


def train(settings: BenchSettings) -> dict[str, Any]:
    """Facts of the run and one row per stage, shape and precision."""
    contests, source, renderer, machine = prepare(settings)
    pairs = workloads.independent_pairs(contests, settings.pairs * settings.steps, settings.seed)
    batches = [pairs[start : start + settings.pairs] for start in range(0, len(pairs), settings.pairs)]
    rows = []
    for name, dtype in _models(settings):
        shape = (QUICK if settings.quick else SHAPES)[name]
        model = build(shape, dtype=torch.float32, device=settings.device, seed=settings.seed)
        steps = Steps(model, renderer, machine, bf16=dtype == "bf16")
        for stage in (steps.preference, steps.language):
            settings.tell(f"{name} {dtype}: {stage.__name__} step")
            label = {"shape": name, "dtype": dtype, "vocabulary": shape.vocabulary}
            rows.append(label | stage(batches, settings.rounds))
    return _facts(settings, source, machine) | {"rows": rows}


def prepare(settings: BenchSettings) -> tuple[list[Contest], str, Renderer, Machine]:
    """Prompts with answers and where they come from, the judge prompts' renderer, and the machine."""
    machine = Machine(settings.device)
    contests, source = workloads.pool(settings.data, settings.seed)
    texts: list[str] = []
    for contest in contests:
        texts += [contest.prompt[-1].content, *contest.responses[:2]]
    stride = max(1, len(texts) // _TEXTS)
    return contests, source, renderer_for(tokenizer_for(texts[::stride])), machine


def _models(settings: BenchSettings) -> Iterator[tuple[ShapeName, str]]:
    for name in settings.shapes:
        for dtype in settings.dtypes:
            yield name, dtype


def _facts(settings: BenchSettings, source: str, machine: Machine) -> dict[str, Any]:
    return {
        "data": source,
        "seed": settings.seed,
        "rounds": settings.rounds,
        "quick": settings.quick,
        "device": torch.cuda.get_device_name() if settings.device == "cuda" else f"{platform.machine()} CPU",
        "unit": machine.unit,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
