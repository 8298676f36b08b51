"""Soft labels from a judge: its verdicts on all pairs of the answers that rows give to a prompt.

A judge that reads two answers one behind the other can so teach one that reads each by itself. The labels of
the rows are not looked at. Knows models and rows; trains nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from gram.asking import Asking
from gram.data import ExampleSet
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.engine.segments import forked
from gram.errors import ConfigError
from gram.modeling.loading import load_model
from gram.modeling.manifest import Manifest, read_manifest
from gram.modeling.renderers import renderer_for
from gram.modeling.shipped import model_folder
from gram.rendering import Renderer
from gram.training.config import TrainConfig
from gram.types import Chat, FloatArray, Pair, Preference, sigmoid

_log = logging.getLogger("gram.training")


def with_verdicts(rows: ExampleSet[Any], config: TrainConfig, device: str) -> ExampleSet[Any]:
    """``rows`` with what ``distilled`` makes of them by the judge that ``config`` names.

    Raises:
        ConfigError, CheckpointError, TemplateError: as ``distilled``.
    """
    assert config.distil is not None
    trust, low = config.trust_remote_code, config.dtype == "bf16"
    found = distilled(rows.examples, config.distil, device=device, bf16=low, trust_remote_code=trust)
    return replace(rows, examples=found)


def distilled(
    rows: Sequence[Preference], teacher: str, *, device: str, bf16: bool, trust_remote_code: bool = False
) -> list[Preference]:
    """All pairs of different answers to one prompt, each with the probability that ``teacher`` gives.

    The probability is that of the mean log-odds of both orders, at the teacher's temperature, so that what
    the teacher thinks of places is not taught.

    Args:
        teacher: a judge, by its folder or name.
        bf16: compute its verdicts in bf16.

    Raises:
        ConfigError: the teacher is no judge.
        CheckpointError, TemplateError: it cannot be loaded, or asked.
    """
    folder = model_folder(teacher)
    manifest = read_manifest(folder) if folder else None
    if manifest is not None and manifest.kind != "judge":
        raise ConfigError(f"distil {teacher}: is no judge, but a {manifest.kind} model")
    loaded = load_model(teacher, "lm", device=device, trust_remote_code=trust_remote_code)
    renderer = renderer_for(loaded, Asking("judge"), source=teacher)
    runner = Runner(loaded.model, bf16=bf16, layout=renderer.layout)
    found = labeled_by(renderer, runner, rows, _temperature(loaded.manifest))
    prompts = len({row.pair.prompt for row in found})
    _log.info("%s labels %d pairs of answers to %d prompts", teacher, len(found), prompts)
    return found


def labeled_by(
    renderer: Renderer, runner: Runner, rows: Sequence[Preference], temperature: float = 1.0
) -> list[Preference]:
    """``distilled`` by a judge in memory: its renderer, and what runs it."""
    pairs, groups = _all_pairs(rows)
    prompts = renderer.judge([*pairs, *(pair.swapped() for pair in pairs)])
    asked = [forked(TokenRow(item.ids), item.branches, item.looking) for item in prompts]
    values = runner.next_logprobs(asked, renderer.label_ids)  # (2 * pairs, 2)
    log_odds = (values[:, 0] - values[:, 1]).reshape(2, -1) / temperature
    p_a: FloatArray = sigmoid((log_odds[0] - log_odds[1]) / 2)
    return [
        Preference(pair, float(p), group=group) for pair, p, group in zip(pairs, p_a, groups, strict=True)
    ]


def _all_pairs(rows: Sequence[Preference]) -> tuple[list[Pair], list[str]]:
    """Every two answers that stand in rows of one prompt, and the group of the first of these rows."""
    answers: dict[Chat, dict[str, None]] = {}
    group: dict[Chat, str] = {}
    for row in rows:
        answers.setdefault(row.pair.prompt, {}).update({row.pair.a: None, row.pair.b: None})
        group.setdefault(row.pair.prompt, row.group)
    pairs = [Pair(prompt, a, b) for prompt, texts in answers.items() for a, b in combinations(texts, 2)]
    return pairs, [group[pair.prompt] for pair in pairs]


def _temperature(manifest: Manifest | None) -> float:
    return float(manifest.calibration.get("temperature", 1.0)) if manifest else 1.0
