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


def to_go_on_from(folder: Path | None, divided: str | None, processes: int) -> str | None:
    """The checkpoint in ``folder`` that a run goes on from; None: it begins.

    Args:
        divided: by what the run divides its model among processes, ``FSDP`` or ``ZeRO-3``; None: it does not.
        processes: of the run.

    Raises:
        ConfigError: it was saved by a run that divided its model where this one does not, the other way
            round, or by something else; or by ZeRO-3 with another number of processes.
    """
    found = last_checkpoint(folder) if folder is not None else None
    if found is None:
        return None
    parts = len(list(found.glob("global_step*/zero_pp_rank_*_model_states.pt")))
    was_divided = "ZeRO-3" if parts else "FSDP" if any(found.glob("pytorch_model_fsdp*")) else None
    if was_divided is None and divided is not None:
        raise ConfigError(
            f"{found}: was saved by a run that did not divide the model: go on without {divided}, or use "
            "--overwrite"
        )
    if was_divided != divided:
        raise ConfigError(
            f"{found}: was saved by processes that divided the model among them ({was_divided}): go on with "
            "two processes or more and the same accelerate configuration, or use --overwrite"
        )
    if parts and parts != processes:
        raise ConfigError(
            f"{found}: was saved by {parts} processes, and ZeRO-3 cannot go on with {processes}: use as many "
            "again, or --overwrite"
        )
    return str(found)
