"""JSON objects read so that nothing in them is guessed, and rules for the types of their fields.

Python's reader takes a key twice, numbers that are none and any depth of nesting; a model folder must not
mean something else to us than to the next reader. Knows JSON; does not know what a field means.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from gram.errors import CheckpointError
from gram.files import unique_keys

_DEEPEST = 100  # levels of nesting: what copies and writes a value must reach its end too


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Attributes:
        says: in words, to go behind "must be".
        holds: whether a value is so.
        fields: rules for the fields of an object, by name; others may be there, and may be anything.
        items: the rule for the items of a list, or for all values of an object.
        optional: whether null will do too.
    """

    says: str
    holds: Callable[[Any], bool]
    fields: Mapping[str, Rule] = field(default_factory=dict)
    items: Rule | None = None
    optional: bool = False


def or_null(rule: Rule) -> Rule:
    """``rule``, or null."""
    return Rule(f"{rule.says} or null", rule.holds, rule.fields, rule.items, optional=True)


def whole(least: int, most: int = 2**53) -> Rule:
    """A whole number in a range."""
    return Rule(
        f"a whole number from {least} to {most}", lambda value: type(value) is int and least <= value <= most
    )


def number(says: str = "a finite number", holds: Callable[[float], bool] = lambda _: True) -> Rule:
    """A finite number that ``holds``."""
    return Rule(says, lambda value: _is_number(value) and holds(value))


def each(rule: Rule, says: str, *, of: type = list) -> Rule:
    """A list, or an object, whose values all follow ``rule``."""
    return Rule(says, lambda value: isinstance(value, of), items=rule)


def record(fields: Mapping[str, Rule] | None = None) -> Rule:
    """An object; ``fields`` that are there follow their rules."""
    return Rule("an object", lambda value: isinstance(value, dict), fields or {})


TEXT = Rule("a string", lambda value: isinstance(value, str))
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))


def check(value: Any, rule: Rule, place: str, source: object) -> None:
    """Refuse a value that does not follow ``rule``, at any depth that the rule describes.

    Raises:
        CheckpointError: naming ``source`` and the field, such as ``label_ids[1]``.

    Example:
        >>> check({"temperature": "hot"}, record({"temperature": number()}), "calibration", "gram.json")
        Traceback (most recent call last):
        gram.errors.CheckpointError: gram.json: field 'calibration.temperature' has the wrong type: it must \
be a finite number, got 'hot'
    """
    if value is None and rule.optional:
        return
    if not rule.holds(value):
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
        raise CheckpointError(
            f"{source}: field '{place}' has the wrong type: it must be {rule.says}, got {shown}"
        )
    assert value is not None
    for name, inner in rule.fields.items():
        if name in value:
            check(value[name], inner, f"{place}.{name}" if place else name, source)
    if rule.items is not None:
        named = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in named:
            check(
                item, rule.items, f"{place}.{key}" if isinstance(value, dict) else f"{place}[{key}]", source
            )


def read_object(path: Path, *, constants: bool = False) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        constants: take ``NaN`` and ``Infinity``, which are no JSON but stand in files of other libraries.

    Raises:
        CheckpointError: it cannot be read, is no JSON, no object, nested beyond all measure, or has a key
            twice.
    """
    try:
        content = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=unique_keys,
            parse_constant=float if constants else _no_constant,
        )
    except RecursionError:
        raise CheckpointError(f"{path}: not JSON that can be read: nested too deep") from None
    except ValueError as error:  # no JSON, no UTF-8, a key twice, a number of thousands of digits
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    if _deeper_than(content, _DEEPEST):
        raise CheckpointError(f"{path}: not JSON that can be read: nested more than {_DEEPEST} deep")
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _deeper_than(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
