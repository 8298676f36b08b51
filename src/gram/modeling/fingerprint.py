"""All of a model and of how it is asked that its scores depend on, as plain values that can be compared.

Local models and templates are identified by their content and not by their path, so that the parts of a run
can use copies. Knows models' files and options; knows no input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from gram.asking import Calling, LoadOptions
from gram.modeling.digests import content_of
from gram.modeling.precision import precision_of

_OF_SPEED = ("device", "engine", "token_budget")  # they change time and memory, and no score


def fingerprint_of(models: Sequence[str], options: LoadOptions) -> dict[str, Any]:
    """What the scores of ``models`` depend on when they are asked together as ``options`` say.

    The precision is the one that ``dtype`` means for the first model, here: two machines may differ.

    Raises:
        CheckpointError: a file of a model cannot be read.

    Example:
        >>> found = fingerprint_of(["gram-135m"], LoadOptions(device="cpu", token_budget=100))
        >>> found["dtype"], "token_budget" in found, found["ensemble_with"]
        ('fp32', False, [])
    """
    settings = asdict(options)
    of_model = {name: settings[name] for name in ("revision", "base", "trust_remote_code")}
    settings["dtype"] = precision_of(models[0], options.dtype, options.device, **of_model)
    for name in (*_OF_SPEED, "base", *(item.name for item in fields(Calling))):
        del settings[name]
    for name in ("reference", "template"):
        settings[name] = settings[name] and content_of(str(settings[name]))
    first = content_of(models[0], options.base, options.revision)
    others = [content_of(name, options.base) for name in models[1:]]
    return settings | {"model": first, "ensemble_with": others}
