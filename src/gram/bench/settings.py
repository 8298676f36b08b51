"""The options of a bench: one documented dataclass is the flags of ``gram bench`` and what the suite reads.

Knows no model, and loads nothing heavy, so that help appears at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gram.bounds import Count, Seed, check_bounds

Subject: TypeAlias = Literal["score", "train"]
ShapeName: TypeAlias = Literal["small", "wide"]
Precision: TypeAlias = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What to time, and how."""

    shape: Literal["small", "wide", "all"] = "all"
    """small: 6 layers of 384, vocabulary 32k; wide: 4 layers of 768, grouped queries, vocabulary 152k."""
    dtype: Literal["fp32", "bf16", "both"] = "both"
    """Precision of the products."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run; on cuda wall time is taken."""
    data: str | None = None
    """Prompts with several answers each: a file, or a folder of *.jsonl.gz. Default: made-up texts."""
    rounds: Count = 3
    """How often each path is timed; they take turns, and the median counts."""
    seed: Seed = 0
    """Of the choice of pairs and of the weights."""
    quick: bool = False
    """Tiny models and few pairs: shows that it runs, not the numbers."""
    token_budget: Count | None = None
    """score: most tokens in one forward pass of ours. Default: as in gram score."""
    peer_batch: Count | None = None
    """score: prompts in a batch of the last-position peer. Default: what is fastest for it here."""
    pairs: Count = 4
    """train: pairs in a step."""
    steps: Count = 2
    """train: different steps in a round."""

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            ConfigError: naming the option.
        """
        check_bounds(self)

    @property
    def shapes(self) -> tuple[ShapeName, ...]:
        """The models to time."""
        return ("small", "wide") if self.shape == "all" else (self.shape,)

    @property
    def dtypes(self) -> tuple[Precision, ...]:
        """The precisions to time each of them in."""
        return ("fp32", "bf16") if self.dtype == "both" else (self.dtype,)
