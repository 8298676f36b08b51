"""Which kind of model a folder holds where no ``gram.json`` says it, by its settings and names of weights.

Reads no weights; what is wrong with them is said when they are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gram.asking import Kind
from gram.errors import CheckpointError
from gram.modeling.manifest import Manifest
from gram.modeling.shipped import ADAPTER_CONFIG
from gram.modeling.strict_json import TEXT, check, each, or_null, read_object, record

_RULE = record({"architectures": or_null(each(TEXT, "a list"))})


def kind_of_folder(folder: Path, manifest: Manifest | None) -> Kind:
    """What ``manifest`` says; without one scalar for a sequence classifier, and else judge.

    Args:
        manifest: of the model in ``folder``; None for a raw model.

    Raises:
        CheckpointError: ``config.json`` cannot be read.

    Example:
        >>> _ = Path("config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
        >>> kind_of_folder(Path(), None)
        'scalar'
    """
    if manifest is not None:
        return manifest.kind
    return "scalar" if holds_classifier(folder) else "judge"


def holds_classifier(folder: Path) -> bool:
    """Whether ``folder`` holds a sequence classifier, or an adapter with the score head of one.

    Raises:
        CheckpointError: ``config.json`` cannot be read.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        path = folder / "config.json"
        config = read_object(path, constants=True)
        check(config, _RULE, "", path)
        return is_classifier(config.get("architectures"))
    from gram.modeling.attaching import tensor_shapes

    try:
        return any(name.split(".")[0] == "score" for name in tensor_shapes(folder))
    except CheckpointError:
        return False


def is_classifier(architectures: Sequence[str] | None) -> bool:
    """Whether one of the ``architectures`` of a configuration is a sequence classifier.

    Example:
        >>> is_classifier(["LlamaForSequenceClassification"]), is_classifier(["LlamaForCausalLM"])
        (True, False)
    """
    return any(name.endswith("ForSequenceClassification") for name in architectures or ())
