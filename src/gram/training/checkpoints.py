"""Checkpoints of an unfinished run, as the trainer writes them: which is complete, and who can go on from it.

Knows folders; knows no model.
"""

from __future__ import annotations

import json
from pathlib import Path

from gram.errors import ConfigError


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in ``folder``: one whose trainer state, written last, can be read."""
    checkpoints = []
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            checkpoints.append((int(state["global_step"]), path))
        except (OSError, ValueError, KeyError):
            continue  # a run was killed while it wrote this one
    return max(checkpoints)[1] if checkpoints else None


def to_go_on_from(folder: Path | None, *, divided: bool) -> str | None:
    """The checkpoint in ``folder`` that a run goes on from; None: it begins.

    Args:
        divided: whether the run divides its model among processes.

    Raises:
        ConfigError: it was saved by a run that divided its model where this one does not, or the other way
            round.
    """
    found = last_checkpoint(folder) if folder is not None else None
    if found is None:
        return None
    was_divided = any(found.glob("pytorch_model_fsdp*"))
    if was_divided and not divided:
        raise ConfigError(
            f"{found}: was saved by processes that divided the model among them (FSDP): go on with two "
            "processes or more and the same accelerate configuration, or use --overwrite"
        )
    if divided and not was_divided:
        raise ConfigError(
            f"{found}: was saved by a run that did not divide the model: go on without FSDP, or use "
            "--overwrite"
        )
    return str(found)
