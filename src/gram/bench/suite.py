"""A whole run: texts, tokenizer, every shape and precision in turn, then the numbers and the picture on file.

Knows no table and no terminal.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
import transformers

from gram.bench import workloads
from gram.bench.effort import effort
from gram.bench.measure import Machine
from gram.bench.plot import speed_bars
from gram.bench.score import Scoring
from gram.bench.settings import BenchSettings, Precision, ShapeName, Subject
from gram.bench.shapes import DTYPES, QUICK, SHAPES, build, renderer_for, tokenizer_for
from gram.bench.tables import bars, beside_fp32, rounded
from gram.bench.train import Steps
from gram.claims import Reads, claimed_files
from gram.errors import ConfigError
from gram.extras import need
from gram.files import atomic_write
from gram.modeling.loading import choose_device
from gram.modeling.quiet import quiet_libraries
from gram.plots import save
from gram.rendering import Renderer
from gram.types import Contest, Pair

TITLES: dict[Subject, str] = {"score": "Scoring", "train": "Training steps"}

_TEXTS = 1200  # prompts and answers that the tokenizer learns from
_FEWEST_WORDS = 30  # of a prompt and two answers
_SAMPLE = {"cpu": 8, "cuda": 64}  # pairs to warm up on

Tell: TypeAlias = Callable[[str], None]
"""Called with a few words before each measurement."""


def run(
    subject: Subject,
    settings: BenchSettings,
    *,
    output: Path | None = None,
    plot: Path | None = None,
    tell: Tell = lambda _: None,
) -> dict[str, Any]:
    """Measure; keep the numbers as JSON in ``output`` and a picture of the ratios in ``plot``.

    Returns what is kept: facts of the run and its rows, with four significant digits.

    Raises:
        ConfigError: no such device, a place where no file can be, or no matplotlib for the ``plot``;
            before anything is measured.
    """
    if plot is not None:
        need("matplotlib")
    places = [place for place in (output, plot) if place is not None]
    with claimed_files(places, reads=Reads(data=[settings.data])):
        quiet_libraries()
        choose_device(settings.device)
        measure = score if subject == "score" else train
        result = {"benchmark": subject} | rounded(measure(settings, tell))
        if plot is not None:
            save(speed_bars(bars(result["rows"]), TITLES[subject]), plot)
        if output is not None:
            with atomic_write(output) as file:
                json.dump(result, file, indent=1)
                file.write("\n")
    return result


def score(settings: BenchSettings, tell: Tell) -> dict[str, Any]:
    """Facts of the run and one row per workload, shape and precision."""
    contests, source, renderer, machine = prepare(settings)
    rows = []
    for name, dtype in _models(settings):
        plan = effort(settings, name, dtype)
        todo = workloads.scoring(contests, plan.sizes, settings.seed)
        shape = (QUICK if settings.quick else SHAPES)[name]
        model = build(shape, dtype=DTYPES[dtype], device=settings.device, seed=settings.seed)
        scoring = Scoring(
            model,
            renderer,
            machine,
            sample=todo[0].pairs[: _SAMPLE[settings.device]],
            token_budget=settings.token_budget,
            peer_batch=settings.peer_batch,
            unfused=plan.unfused,
        )
        for workload in todo:
            tell(f"{name} {dtype}: {workload.name}")
            label = {"shape": name, "dtype": dtype, "vocabulary": shape.vocabulary} | scoring.facts
            rows.append(label | scoring.measure(workload, plan.rounds))
    return _facts(settings, source, machine) | {"rows": beside_fp32(rows)}


def train(settings: BenchSettings, tell: Tell) -> dict[str, Any]:
    """Facts of the run and one row per stage, shape and precision."""
    contests, source, renderer, machine = prepare(settings)
    rows = []
    for name, dtype in _models(settings):
        plan = effort(settings, name, dtype)
        pairs = workloads.independent_pairs(contests, plan.pairs * plan.steps, settings.seed)
        batches = [pairs[start : start + plan.pairs] for start in range(0, len(pairs), plan.pairs)]
        shape = (QUICK if settings.quick else SHAPES)[name]
        model = build(shape, dtype=torch.float32, device=settings.device, seed=settings.seed)
        steps = Steps(model, renderer, machine, bf16=dtype == "bf16", unfused=plan.unfused)
        for stage in (steps.preference, steps.adapters, steps.language):
            tell(f"{name} {dtype}: {stage.__name__} step")
            label = {"shape": name, "dtype": dtype, "vocabulary": shape.vocabulary}
            rows.append(label | stage(batches, plan.rounds))
    return _facts(settings, source, machine) | {"rows": beside_fp32(rows)}


def prepare(settings: BenchSettings) -> tuple[list[Contest], str, Renderer, Machine]:
    """Prompts with answers and where they come from, the judge prompts' renderer, and the machine."""
    machine = Machine(settings.device)
    contests, source = workloads.pool(settings.data, settings.seed)
    texts: list[str] = []
    for contest in contests:
        texts += [contest.prompt[-1].content, *contest.responses[:2]]
    stride = max(1, len(texts) // _TEXTS)
    renderer = renderer_for(tokenizer_for(texts[::stride]))
    if settings.prompt_tokens:
        scale = _scale(contests, renderer, settings.prompt_tokens)
        contests = workloads.made_up(len(contests), settings.seed, scale=scale)
    return contests, source, renderer, machine


def _scale(contests: Sequence[Contest], renderer: Renderer, prompt_tokens: int) -> float:
    """By how much texts must be longer for judge prompts of that length: made-up words are tokens."""
    bare = len(renderer.judge([Pair("time", a="time", b="time")])[0].ids)
    prompts = renderer.judge(workloads.independent_pairs(contests, len(contests), 0))
    mean = sum(len(prompt.ids) for prompt in prompts) / len(prompts)
    if prompt_tokens < bare + _FEWEST_WORDS:
        raise ConfigError(
            f"prompt_tokens must be at least {bare + _FEWEST_WORDS}: the template alone has {bare}"
        )
    return (prompt_tokens - bare) / (mean - bare)


def _models(settings: BenchSettings) -> Iterator[tuple[ShapeName, Precision]]:
    for name in settings.shapes:
        for dtype in settings.dtypes:
            yield name, dtype


def _facts(settings: BenchSettings, source: str, machine: Machine) -> dict[str, Any]:
    return {
        "data": source,
        "seed": settings.seed,
        "quick": settings.quick,
        "device": torch.cuda.get_device_name() if settings.device == "cuda" else f"{platform.machine()} CPU",
        "unit": machine.unit,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
