"""The model that a command asks: one, or several as one; in a worker, on its share of the machine.

Knows models, rows and torch; knows no command and no other process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gram.asking import LoadOptions
from gram.data import read_scorables
from gram.engine.memory import MOST
from gram.errors import ConfigError
from gram.modeling.loading import choose_device
from gram.modeling.quiet import quiet_libraries
from gram.scoring.ensemble import JudgeEnsemble, Rule, ensemble_with
from gram.scoring.judge import JudgeModel
from gram.scoring.loading import load_with
from gram.scoring.rows import centre
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel
from gram.types import RewardModel
from gram.workers import WHOLE, Share


def asked_model(
    paths: Sequence[str | Path],
    options: LoadOptions,
    rule: Rule,
    penalty: float,
    centre_on: str | None,
    share: Share = WHOLE,
) -> RewardModel:
    """The model, or the ensemble, ready to be asked.

    Args:
        centre_on: rows for ``centre``.
        share: of the machine, for this process.

    Raises:
        GramError: it cannot be loaded, or ``centre_on`` cannot be read or serves nothing.
    """
    quiet_libraries()
    options = take_share(share, options)
    if len(paths) == 1:
        if centre_on or rule != "mean":
            raise ConfigError("--ensemble and --centre-on go with --ensemble-with")
        return load_with(paths[0], options)
    model = ensemble_with(paths, rule, penalty, options)
    if centre_on:
        centre(model, read_scorables(centre_on).examples)
    return model


def kind_of(model: RewardModel) -> str:
    """``judge``, ``likelihood``, ``scalar``, or ``ensemble``: several that score."""
    match model:
        case JudgeModel() | JudgeEnsemble():
            return "judge"
        case LikelihoodModel():
            return "likelihood"
        case ScalarHeadModel():
            return "scalar"
    return "ensemble"


def take_share(share: Share, options: LoadOptions) -> LoadOptions:
    """Take a share of the cores, or a GPU; returns options with which all processes give the same numbers.

    The token budget of a CPU is that of enough free memory: what each process finds free depends on how far
    the others are.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    if share.of == 1:
        return options
    if choose_device(options.device) == "cpu":
        if not share.apart:
            torch.set_num_threads(max(1, torch.get_num_threads() // share.of))
        return replace(options, token_budget=options.token_budget or MOST["cpu"])
    if share.apart:
        return options
    gpus = torch.cuda.device_count()
    if gpus < share.of:
        raise ConfigError(
            f"--workers {share.of}: each takes a GPU, as one process keeps it busy, and torch finds {gpus}; "
            "leave it out, or give --device cpu"
        )
    torch.cuda.set_device(share.number)
    return options
