"""The options of a bench: one documented dataclass is the flags of ``gram bench`` and what the suite reads.

Knows no model, and loads nothing heavy, so that help appears at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gram.bounds import Count, Seed, check_bounds
from gram.errors import ConfigError

Subject: TypeAlias = Literal["score", "train"]
ShapeName: TypeAlias = Literal["small", "wide", "real", "0.6b"]
Precision: TypeAlias = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What to time, and how."""

    shape: Literal["small", "wide", "real", "0.6b", "all"] = "all"
    """small: 6 layers of 384, vocabulary 32k; wide: 4 layers of 768, grouped queries, vocabulary 152k; real:
    30 layers of 576, grouped queries, vocabulary 49k, as SmolLM2-135M; 0.6b: 28 layers of 1024, as
    Qwen3-0.6B, meant for a GPU and no part of all."""
    dtype: Literal["fp32", "bf16", "both"] = "both"
    """Precision of the products."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run; on cuda wall time is taken."""
    data: str | None = None
    """Prompts with several answers each: a file, or a folder of *.jsonl.gz. Default: made-up texts."""
    prompt_tokens: Count | None = None
    """Made-up texts of such lengths that a judge prompt has about so many tokens on average. Default: as real
    answers have."""
    rounds: Count | None = None
    """How often each path is timed; they take turns, and the median counts. Default: 3; real and 0.6b in fp32
    on a CPU once."""
    seed: Seed = 0
    """Of the choice of pairs and of the weights."""
    quick: bool = False
    """Tiny models and few pairs: shows that it runs, not the numbers."""
    token_budget: Count | None = None
    """score: most tokens in one forward pass of ours. Default: as in gram score."""
    peer_batch: Count | None = None
    """score: prompts in a batch of the last-position peer. Default: what is fastest for it here."""
    pairs: Count | None = None
    """train: pairs in a step. Default: 4; real and 0.6b on a CPU 2."""
    steps: Count | None = None
    """train: different steps in a round. Default: 2; real and 0.6b on a CPU 1."""

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            ConfigError: naming the option.
        """
        check_bounds(self)
        if self.prompt_tokens and self.data:
            raise ConfigError(
                "prompt_tokens: texts of --data have the lengths they have; leave one of them out"
            )

    @property
    def shapes(self) -> tuple[ShapeName, ...]:
        """The models to time."""
        return ("small", "wide", "real") if self.shape == "all" else (self.shape,)

    @property
    def dtypes(self) -> tuple[Precision, ...]:
        """The precisions to time each of them in."""
        return ("bf16", "fp32") if self.dtype == "both" else (self.dtype,)
