"""``gram bench``: speed beside what others do, in one run."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from gram.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Time scoring or training steps beside their peers: random weights, real lengths, one run.

    Prints a Markdown table. On a CPU: one thread, process CPU seconds.
    """

    what: tyro.conf.Positional[Literal["score", "train"]] = "score"
    """score: pairs, best-of-n and RL groups in both orders; train: stage 1 and stage 2 steps."""
    shape: Literal["small", "wide", "all"] = "all"
    """small: 6 layers of 384, vocabulary 32k; wide: 4 layers of 768, grouped queries, vocabulary 152k."""
    dtype: Literal["fp32", "bf16", "both"] = "both"
    """Precision of the products."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run; on cuda wall time is taken."""
    data: str | None = None
    """Prompts with several answers each: a file, or a folder of *.jsonl.gz. Default: made-up texts."""
    rounds: int = 3
    """How often each path is timed; they take turns, and the median counts."""
    seed: int = 0
    """Of the choice of pairs and of the weights."""
    quick: bool = False
    """Tiny models and few pairs: shows that it runs, not the numbers."""
    token_budget: int | None = None
    """score: most tokens in one forward pass of ours. Default: as in gram score."""
    peer_batch: int | None = None
    """score: prompts in a batch of the last-position peer. Default: what is fastest for it here."""
    pairs: int = 4
    """train: pairs in a step."""
    steps: int = 2
    """train: different steps in a round."""
    output: Path | None = None
    """JSON file to keep the numbers in."""
    plot: Path | None = None
    """Picture of the ratios, .png or .svg."""
    json: bool = False
    """Print the JSON line only."""


def run(config: Config) -> dict[str, Any]:
    """Measure, print, keep."""
    from gram.bench import suite, tables
    from gram.files import atomic_write, make_folder
    from gram.modeling.loading import choose_device
    from gram.modeling.quiet import quiet_libraries

    for name in ("rounds", "pairs", "steps"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}")
    for place in (config.output, config.plot):
        if place is None:
            continue
        if place.is_dir():
            raise ConfigError(f"{place}: is a folder; name a file")
        make_folder(place.parent)
    quiet_libraries()
    settings = suite.BenchSettings(
        shapes=("small", "wide") if config.shape == "all" else (config.shape,),
        dtypes=("fp32", "bf16") if config.dtype == "both" else (config.dtype,),
        device=choose_device(config.device),
        data=config.data,
        rounds=config.rounds,
        seed=config.seed,
        quick=config.quick,
        token_budget=config.token_budget,
        peer_batch=config.peer_batch,
        pairs=config.pairs,
        steps=config.steps,
        tell=_tell if sys.stderr.isatty() else lambda _: None,
    )
    scores = config.what == "score"
    measured = suite.score(settings) if scores else suite.train(settings)
    result = {"benchmark": config.what} | tables.rounded(measured)
    if config.plot is not None:
        from gram.bench.plot import speed_bars
        from gram.plots import save

        title = "Scoring" if scores else "Training steps"
        save(speed_bars(tables.bars(result["rows"]), title), config.plot)
    if config.output is not None:
        with atomic_write(config.output) as file:
            json.dump(result, file, indent=1)
            file.write("\n")
    if not config.json:
        table = tables.score_table if scores else tables.train_table
        print(table(result["rows"]))
        print(f"\n{tables.SCORE_LEGEND if scores else tables.TRAIN_LEGEND}\n")
    return result


def _tell(what: str) -> None:
    print(f"gram bench: {what}", file=sys.stderr, flush=True)
