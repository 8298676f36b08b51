"""Checks of what the model says: on few pairs, alone and together, in both orders, in another precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gram.asking import Precision
from gram.doctor.facts import Facts
from gram.doctor.finding import Finding, error, ok, skipped, warning
from gram.scoring.judge import LOW_MASS
from gram.scoring.loading import load_with
from gram.types import sigmoid

_NO_MASS = 0.01
_ALONE = {"fp32": 1e-3}  # of one and the size of the log-odds; see engine.choose for rows of a few tokens
_ALONE_HALF = 0.3
_DRIFT = 0.05  # of a probability, on average
_LARGEST = 2e9  # weights of a model that is loaded a second time


def neighbours(facts: Facts) -> Iterator[Finding]:
    """Does a row say the same alone and beside another, whatever follows it?"""
    _ = facts.neighbours
    yield ok("a row is read the same alone and padded, from left to right")


def batches(facts: Facts) -> Iterator[Finding]:
    """Are verdicts on real prompts the same alone and in a batch?"""
    together = facts.verdicts.log_odds
    lengths = [len(pair.a) + len(pair.b) for pair in facts.pairs]
    places = sorted({int(np.argmin(lengths)), int(np.argmax(lengths))})
    alone = np.concatenate([facts.asked.compare([facts.pairs[place]]).log_odds for place in places])
    difference = float(np.abs(alone - together[places]).max())
    share = difference / (1 + float(np.abs(together).max()))
    if share > _ALONE.get(facts.precision, _ALONE_HALF):
        yield error(
            f"log-odds of a pair change by {difference:.2g} with what else is in the batch",
            "give --engine plain and compare; then report it",
        )
    else:
        yield ok(f"log-odds alone and in a batch differ by at most {difference:.1g}")


def label_mass(facts: Facts) -> Iterator[Finding]:
    """Does a judge want to say one of its labels?"""
    if facts.kind != "judge":
        return
    mass = float(np.nanmean(facts.verdicts.mass))
    labels = " and ".join(map(repr, facts.prompts.template.labels))
    says = f"{labels} have a probability of {mass:.3g} together, on {len(facts.pairs)} pairs"
    do = (
        "take another --template or model, train it as a judge (gram train), or ask it with --kind likelihood"
    )
    if facts.manifest and facts.manifest.taught(facts.prompts.template.hash):
        yield ok(f"{says}; the model was trained to choose between them, so this may be small")
    elif mass < _NO_MASS:
        yield error(f"{says}: the model would say something else, and its verdicts are noise", do)
    elif mass < LOW_MASS:
        yield warning(f"{says}: the model would rather say something else", do)
    else:
        yield ok(says)


def orders(facts: Facts) -> Iterator[Finding]:
    """Does a judge prefer an answer, and not a place?"""
    if facts.kind != "judge":
        return
    if facts.options.single_order:
        yield warning(
            "asked in one order only: a preference for a place counts as one for what stands there",
            "leave --single-order out",
        )
    log_odds, pairs = facts.verdicts.log_odds, len(facts.pairs)
    other = int(((log_odds[:, 0] > 0) != (log_odds[:, 1] > 0)).sum())
    gap = float(facts.verdicts.position_gap.mean())
    says = f"{other} of {pairs} pairs have another winner when they are shown the other way round"
    if other * 2 > pairs:
        place = "first" if gap > 0 else "second"
        yield warning(
            f"{says}: the {place} place wins (by {abs(gap):.2f} on average), whatever stands there",
            "train it as a judge, or ask it with --kind likelihood; always ask in both orders",
        )
    elif not facts.options.single_order:
        yield ok(f"{says}; the first place is worth {gap:+.2f}")


def dtype(facts: Facts) -> Iterator[Finding]:
    """Are verdicts the same in fp32 and bf16?"""
    count = sum(weight.numel() for weight in facts.weights.model.parameters())
    if count > _LARGEST:
        yield skipped(f"{count / 1e9:.0f} billion weights would have to be loaded a second time")
        return
    here = sigmoid(facts.verdicts.log_odds)  # (n, 2): the mean of both orders would hide what a place wins
    other: Precision = "fp32" if facts.precision == "bf16" else "bf16"
    there = load_with(facts.options.model, replace(facts.ask, dtype=other, both_orders=True))
    drift = float(np.abs(sigmoid(there.compare(facts.pairs).log_odds) - here).mean())
    says = f"P(a) in {facts.precision} and {other} differs by {drift:.2g} on average"
    if not drift <= _DRIFT:
        yield warning(
            f"{says}: numbers of two machines, or of --dtype auto, cannot be compared", "give --dtype fp32"
        )
    else:
        yield ok(says)
