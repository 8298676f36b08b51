"""``gram doctor``: what is wrong with a model, or with rows for it, before a long run."""

from __future__ import annotations

from typing import Any

from gram.doctor.options import DoctorOptions as Config
from gram.progress import on_stderr

__all__ = ["Config", "run"]


def run(config: Config) -> dict[str, Any]:
    """Examine the model; says each finding on stderr."""
    from gram.doctor.examine import diagnose

    return diagnose(config, on_stderr)
