"""``gram plan``: whether a training fits on some GPUs, and how long it takes."""

from __future__ import annotations

from gram.modeling.quiet import quietly
from gram.training.planning import PlanOptions as Config
from gram.training.planning import plan

__all__ = ["Config", "run"]
run = quietly(plan)
