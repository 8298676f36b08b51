"""``decision.json`` and ``decision_template.jinja``: how a folder wants to be asked typed questions.

The two files are those of transformers' decision pipeline. Knows files; knows no model and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gram.errors import CheckpointError
from gram.modeling.on_hub import file_of
from gram.modeling.shipped import find_place
from gram.modeling.strict_json import SWITCH, TEXT, Rule, check, each, number, or_null, read_object, record
from gram.rendering.questions import QuestionKind

SETTINGS, TEMPLATE = "decision.json", "decision_template.jinja"
YES_FIRST = ("true", "false")

_KINDS = ("noul", "choice", "score")
_TEMPERATURE = number("a positive number", lambda value: 0 < value < 1e300)
_RULE = record(
    {
        "labels": record({kind: each(TEXT, "a list") for kind in _KINDS}),
        "temperature": record(dict.fromkeys(_KINDS, _TEMPERATURE)),
        "noul_options": Rule(
            'a list of "true" and "false"',
            lambda value: isinstance(value, list) and sorted(map(str, value)) == sorted(YES_FIRST),
        ),
        "sanitize_control_tokens": SWITCH,
        "adapter": or_null(TEXT),
    }
)


@dataclass(frozen=True)
class DecisionFiles:
    """The content of the two files; settings that are not there have transformers' defaults.

    Attributes:
        source: the folder or Hub name, for errors.
        labels: by type of question; empty: Yes and No, and A to Z.
        temperature: by type of question; 1 where it is not there.
        noul_options: in which order a template gets ``true`` and ``false``.
        sanitize_control_tokens: whether control tokens in a request are read as text.
        adapter: subfolder of an adapter that belongs to the model.
        template: None: transformers' own prompt.
    """

    source: str
    labels: Mapping[QuestionKind, list[str]] = field(default_factory=dict)
    temperature: Mapping[QuestionKind, float] = field(default_factory=dict)
    noul_options: tuple[str, ...] = YES_FIRST
    sanitize_control_tokens: bool = True
    adapter: str | None = None
    template: str | None = None


def read_decision_files(reference: str | Path, revision: str | None = None) -> DecisionFiles | None:
    """The decision files of a model; None where it has neither.

    Raises:
        CheckpointError: a file that cannot be read, or a setting of the wrong type.
    """
    place = find_place(reference, revision)
    settings, template = file_of(place, SETTINGS), file_of(place, TEMPLATE)
    if settings is None and template is None:
        return None
    content: dict[str, Any] = {}
    if settings is not None:
        content = read_object(settings)
        check(content, _RULE, "", settings)
    try:
        text = None if template is None else template.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{template}: cannot be read: {error}") from None
    known = {name: value for name, value in content.items() if name in _RULE.fields}
    return DecisionFiles(place.name, template=text, **known)
