"""How much is timed of each model, so that a run stays bearable where a model is large for its machine.

Numbers that the caller names are taken as they are. Knows the settings; times nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from gram.bench.settings import BenchSettings, Precision, ShapeName
from gram.bench.workloads import Sizes

LARGE: frozenset[ShapeName] = frozenset({"real", "0.6b"})
"""Models for which a CPU takes a minute where it takes seconds for the others."""

_QUICK = Sizes(independent=4, best_of={4: 1}, groups={3: 1}, ring=3)
_FEWER = Sizes(independent=4, best_of={8: 1}, groups={8: 1})
_MORE = Sizes(independent=64, best_of={8: 4, 16: 2}, groups={8: 8, 16: 4})


@dataclass(frozen=True)
class Effort:
    """Of one model in one precision.

    Attributes:
        rounds: how often each path is timed.
        sizes: of the workloads of scoring.
        pairs: in a step of training.
        steps: in a round.
        unfused: whether ours is timed over transformers' own layers too.
    """

    rounds: int
    sizes: Sizes
    pairs: int
    steps: int
    unfused: bool


def effort(settings: BenchSettings, shape: ShapeName, dtype: Precision) -> Effort:
    """What to time of a model."""
    slow = shape in LARGE and settings.device == "cpu" and not settings.quick
    sizes = _QUICK if settings.quick else _MORE if settings.device == "cuda" else _FEWER if slow else Sizes()
    return Effort(
        settings.rounds or (1 if slow and dtype == "fp32" else 3),
        sizes,
        settings.pairs or (2 if slow else 4),
        settings.steps or (1 if slow else 2),
        dtype == "bf16" and (settings.device == "cuda" or settings.quick),
    )
