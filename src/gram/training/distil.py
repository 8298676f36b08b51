"""Soft labels from a judge: its verdicts on pairs of the answers that rows give to a prompt.

A judge that reads two answers one behind the other can so teach one that reads each by itself. The labels of
the rows are not looked at. Knows models and rows; trains nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from math import comb
from typing import Any

from gram.asking import Asking
from gram.data import ExampleSet
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.engine.segments import forked
from gram.errors import ConfigError
from gram.modeling.loading import load_model
from gram.modeling.manifest import Manifest
from gram.modeling.on_hub import manifest_of
from gram.modeling.renderers import renderer_for
from gram.rendering import Renderer
from gram.training.config import TrainConfig
from gram.types import Chat, FloatArray, Pair, Preference, sigmoid

MOST_PAIRS = 120
"""To a prompt, but for those of its rows: all pairs of 16 answers."""

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
    """Pairs of different answers to one prompt, each with the probability that ``teacher`` gives.

    All pairs, where these are at most ``MOST_PAIRS``: the pairs of 16 answers. A prompt with more answers, as
    one that says nothing of its own, keeps the pairs of its rows; if these are fewer, others are drawn.

    The probability is that of the mean log-odds of both orders, at the teacher's temperature, so that what
    the teacher thinks of places is not taught.

    Args:
        teacher: a judge, by its folder or name.
        bf16: compute its verdicts in bf16.

    Raises:
        ConfigError: the teacher is no judge.
        CheckpointError, TemplateError: it cannot be loaded, or asked.
    """
    manifest = manifest_of(teacher)
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
    pairs, groups = pairs_of(rows)
    prompts = renderer.judge([*pairs, *(pair.swapped() for pair in pairs)])
    asked = [forked(TokenRow(item.ids), item.branches, item.looking) for item in prompts]
    values = runner.next_logprobs(asked, renderer.label_ids)  # (2 * pairs, 2)
    log_odds = (values[:, 0] - values[:, 1]).reshape(2, -1) / temperature
    p_a: FloatArray = sigmoid((log_odds[0] - log_odds[1]) / 2)
    return [
        Preference(pair, float(p), group=group) for pair, p, group in zip(pairs, p_a, groups, strict=True)
    ]


def pairs_of(rows: Sequence[Preference]) -> tuple[list[Pair], list[str]]:
    """The pairs to ask about, prompt by prompt, and the group of the first row of each one's prompt."""
    of: dict[Chat, list[Preference]] = {}
    for row in rows:
        of.setdefault(row.pair.prompt, []).append(row)
    drawn, pairs, groups = random.Random(0), list[Pair](), list[str]()
    for prompt, own in of.items():
        found = [Pair(prompt, a, b) for a, b in _of_answers(own, drawn)]
        pairs += found
        groups += [own[0].group] * len(found)
    return pairs, groups


def _of_answers(rows: Sequence[Preference], drawn: random.Random) -> Iterable[tuple[str, str]]:
    """Pairs of two different answers that rows give to one prompt; no two twice, in either order."""
    answers = list(dict.fromkeys(text for row in rows for text in (row.pair.a, row.pair.b)))
    if comb(len(answers), 2) <= MOST_PAIRS:
        return combinations(answers, 2)
    place = {text: number for number, text in enumerate(answers)}
    found = dict.fromkeys(tuple(sorted((place[row.pair.a], place[row.pair.b]))) for row in rows)
    while len(found) < MOST_PAIRS:
        found[tuple(sorted(drawn.sample(range(len(answers)), 2)))] = None
    return [(answers[one], answers[two]) for one, two in found if one != two]


def _temperature(manifest: Manifest | None) -> float:
    return float(manifest.calibration.get("temperature", 1.0)) if manifest else 1.0
