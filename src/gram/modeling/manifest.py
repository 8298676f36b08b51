"""``gram.json``: what a checkpoint is and how it must be asked, beside ordinary Hugging Face files.

Knows JSON only, so that a folder can be understood without loading torch.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from gram.asking import KINDS, Asking, Context, Kind, Layout
from gram.errors import CheckpointError
from gram.files import atomic_write
from gram.modeling.strict_json import SWITCH, TEXT, check, each, number, or_null, read_object, record, whole

FILE = "gram.json"
FORMAT = 1
FAN_FORMAT = 2
"""Of a fan judge: readers that know no layout refuse it, and would else ask it in the sequence."""

_OBJECTIVE = record(
    {
        "name": TEXT,
        "label_smoothing": number("a number in [0, 0.5)", lambda value: 0 <= value < 0.5),
        "form": TEXT,
        "reference": or_null(TEXT),
        "reference_files": each(TEXT, "an object", of=dict),
        "margin": SWITCH,
        "centring": number("a number that is not negative", lambda value: value >= 0),
        "text_regulariser": number(),
        "text_form": TEXT,
    }
)
_TEMPERATURE = number("a positive number", lambda value: 0 < value < 1e300)
_RULE = record(
    {
        "template": record(),
        "template_hash": TEXT,
        "max_length": whole(1),
        "label_ids": each(whole(0), "a list"),
        "neutralise": SWITCH,
        "looking": whole(0),
        "chat": record(),
        "beta": number(),
        "length_power": number(),
        "objective": _OBJECTIVE,
        "training": record(),
        "data": each(record(), "a list"),
        "versions": each(TEXT, "an object", of=dict),
        "evaluation": record(),
        "calibration": record({"temperature": _TEMPERATURE}),
        "decisions": record({"temperature": each(_TEMPERATURE, "an object", of=dict)}),
        "adaptation": record(),
        "files": each(TEXT, "an object", of=dict),
        "base": record({"name": TEXT, "revision": or_null(TEXT), "files": each(TEXT, "an object", of=dict)}),
    }
)


@dataclass(frozen=True)
class Manifest:
    """The content of ``gram.json``.

    Attributes:
        kind: what the model gives: a judge's verdict, an answer's likelihood, or a scalar score.
        template: ``{"name", "text", "labels"}`` of the judge prompt it was trained with.
        template_hash: fingerprint of that template; checked at load.
        label_ids: token ids of the two labels; empty where the model was not trained as a judge.
        max_length: most tokens per prompt in training.
        neutralise: whether control tokens inside prompts and answers were made harmless.
        chat: settings of the chat format (``gram.rendering.ChatSettings``); empty in models that were trained
            before there were any.
        context: where a likelihood is asked, ``chat`` or ``judge``.
        layout: how a judge prompt is read, ``sequence`` or ``fan``.
        looking: of the fan layout, how many of the last tokens look at both answers; 0 in the sequence.
        beta, length_power: slope and length normalisation of a likelihood's log-odds.
        objective: name and settings of the loss; of a likelihood with a reference, digests of its weights.
        training: steps, examples, seed, where it started from (``from_hub``: a name of the Hub, no folder),
            truncation counts.
        data: one entry per source: name, split, rows, sha256; ``hub``: a name of the Hub, no path.
        versions: of the libraries that wrote it.
        evaluation: results stored with the weights.
        calibration: the fitted temperature, and how it was fitted.
        decisions: how typed questions are answered: ``{"temperature": {"noul": ..., "choice": ..., "score":
            ...}}``, each 1 where it is not there.
        adaptation: what ``gram adapt`` decided last, and the numbers before and after.
        files: digests of the files that decide the scores, by name, as they were saved; empty before 0.2.
        base: of an adapter, what it was trained on: ``{"name", "revision", "files"}``, with digests of its
            weights where it is a folder.
        format: version of the file's format, 2 for the fan layout; a reader refuses those it does not know.
        unknown: fields that this version does not know, such as those of a later one; they are written again.

    Example:
        >>> manifest = Manifest("judge", template={}, template_hash="", max_length=512, label_ids=[32, 33])
        >>> manifest.write(Path())  # ./gram.json
        >>> read_manifest(Path()) == manifest
        True
    """

    kind: Kind
    template: dict[str, Any]
    template_hash: str
    max_length: int
    label_ids: list[int] = field(default_factory=list)
    neutralise: bool = True
    chat: Mapping[str, Any] = field(default_factory=dict)
    context: Context = "chat"
    layout: Layout = "sequence"
    looking: int = 0
    beta: float = 1.0
    length_power: float = 0.0
    objective: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    data: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    adaptation: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    unknown: dict[str, Any] = field(default_factory=dict)

    def taught(self, template_hash: str) -> bool:
        """Whether the model was trained as a judge with this template.

        Its loss looked at the two labels alone: their probability out of the whole vocabulary was free to
        fall, and a small one says nothing.
        """
        return self.objective.get("name") == "preference" and template_hash == self.template_hash

    def write(self, folder: Path) -> None:
        """Write ``gram.json`` into ``folder``, whole or not at all."""
        content = asdict(self)
        content |= content.pop("unknown")
        content["format"] = FAN_FORMAT if self.layout == "fan" else FORMAT
        with atomic_write(folder / FILE) as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in ``folder``; None when it has none (a raw model).

    Raises:
        CheckpointError: the file is not valid, or was written in another version of the format.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content = read_object(path, constants=True)  # which no rule lets through
    if type(content.get("format")) is not int or content["format"] not in (FORMAT, FAN_FORMAT):
        raise CheckpointError(
            f"{path}: format {content.get('format')!r}; this version of gram reads {FORMAT} and {FAN_FORMAT}"
        )
    if missing_fields := {"kind", "template", "template_hash", "max_length"} - set(content):
        raise CheckpointError(f"{path}: missing fields {sorted(missing_fields)}")
    field_names = {item.name for item in fields(Manifest)} - {"unknown"}
    if extra_names := sorted(set(content) - field_names):
        warnings.warn(
            f"{path}: fields unknown to this version of gram are kept and not used: {', '.join(extra_names)}",
            stacklevel=2,
        )
    if content["kind"] not in KINDS:
        raise CheckpointError(f"{path}: field 'kind' is {content['kind']!r}, must be one of {KINDS}")
    if content.get("context", "chat") not in get_args(Context):
        raise CheckpointError(f"{path}: field 'context' is {content['context']!r}, must be chat or judge")
    if content.get("layout", "sequence") not in get_args(Layout):
        raise CheckpointError(f"{path}: field 'layout' is {content['layout']!r}, must be sequence or fan")
    check(content, _RULE, "", path)
    if content.get("calibration") and "temperature" not in content["calibration"]:
        raise CheckpointError(f"{path}: field 'calibration.temperature' is missing")
    if len(content.get("label_ids", [])) not in (0, 2):
        raise CheckpointError(f"{path}: field 'label_ids' must hold two ids, or none")
    unknown = {name: content.pop(name) for name in extra_names}
    return Manifest(**content, unknown=unknown)


def completed(asking: Asking, manifest: Manifest | None) -> Asking:
    """``asking`` with its missing options filled in: from the manifest, or for a raw model from the defaults.

    The template stays as it is: which wording it names is decided in ``modeling.renderers``.

    Args:
        manifest: of the model; None for a raw model.

    Example:
        >>> asking = completed(Asking("likelihood"), None)
        >>> asking.context, asking.length_power, asking.neutralise
        ('chat', 0.0, True)
    """
    kind = asking.kind or (manifest.kind if manifest else "judge")
    neutralise = manifest.neutralise if manifest else True
    asking_with_kind = replace(
        asking,
        kind=kind,
        neutralise=neutralise if asking.neutralise is None else asking.neutralise,
        layout=asking.layout or (manifest.layout if manifest else "sequence"),
    )
    if kind != "likelihood":
        return asking_with_kind
    return replace(
        asking_with_kind,
        context=asking.context or (manifest.context if manifest else "chat"),
        length_power=(manifest.length_power if manifest else 0.0)
        if asking.length_power is None
        else asking.length_power,
        reference=asking.reference or (manifest.objective.get("reference") if manifest else None),
    )
