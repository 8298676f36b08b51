"""Where a number makes sense: written beside its type in a configuration, and checked for all fields at once.

Knows dataclasses and numbers; does not know what they configure. Every number must be finite, and a whole
number must fit into 32 bits where it has no limit of its own: the libraries below fail beyond that, each in a
way of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

from gram.errors import ConfigError

LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Within:
    """The range of a number, as a note on the type of a field.

    Attributes:
        least: the smallest number; None: there is none.
        most: the largest.
        open: the sides where the limit itself is outside: "", "low", "high".

    Example:
        >>> Within(0, 0.5, open="high").words(float), Within(1).words(int), Within(0).words(float)
        ('in [0, 0.5)', 'at least 1', 'a finite number at least 0')
    """

    least: float | None = None
    most: float | None = None
    open: str = ""

    def holds(self, value: float) -> bool:
        """Whether ``value`` is a finite number in this range."""
        low = self.least is None or (value > self.least if self.open == "low" else value >= self.least)
        high = self.most is None or (value < self.most if self.open == "high" else value <= self.most)
        return abs(value) < math.inf and low and high

    def words(self, kind: type) -> str:
        """What a number of this kind (``int`` or ``float``) must be."""
        if self.most is not None and self.most <= 1:
            low, high = "(" if self.open == "low" else "[", ")" if self.open == "high" else "]"
            return f"in {low}{self.least}, {self.most}{high}"
        limits = []
        if self.least is not None:
            limits.append(f"{'above' if self.open == 'low' else 'at least'} {self.least}")
        if self.most is not None:
            limits.append(f"{'below' if self.open == 'high' else 'at most'} {self.most}")
        return " and ".join(limits) if kind is int else f"a finite number {' and '.join(limits)}".rstrip()


Count: TypeAlias = Annotated[int, Within(1)]
Folds: TypeAlias = Annotated[int, Within(2)]
SEEDS = Within(0, 2**32 - 1)  # of numpy's older generator, which training seeds too
Seed: TypeAlias = Annotated[int, SEEDS]
Rate: TypeAlias = Annotated[float, Within(0, 1, open="low")]
"""A learning rate of AdamW, which moves every weight by about that much in a step."""
Rank: TypeAlias = Annotated[int, Within(1, 65_536)]
Share: TypeAlias = Annotated[float, Within(0, 1, open="high")]
Smoothing: TypeAlias = Annotated[float, Within(0, 0.5, open="high")]
LengthPower: TypeAlias = Annotated[float, Within(-10, 10)]
"""8,192 tokens to the power of more than that are no finite number of 32 bits."""


def check_bounds(config: object) -> None:
    """Check every number in the fields of a dataclass, those of lists too, and every switch; None may stand.

    Raises:
        ConfigError: naming the option, its range and its value; a switch that is neither True nor False.

    Example:
        >>> @dataclass
        ... class Options:
        ...     rate: Annotated[float, Within(0, 1, open="low")] = 0.1
        >>> check_bounds(Options(rate=2.0))
        Traceback (most recent call last):
        gram.errors.ConfigError: rate must be in (0, 1], got 2.0
    """
    for name, kind, within in numbers_of(type(config)):
        value = getattr(config, name)
        for number in value if isinstance(value, list | tuple) else [value]:
            if number is not None:
                check_number(name, number, kind, within)
    for name in _switches_of(type(config)):
        if getattr(config, name) not in (True, False, None):  # "no" would count as yes
            raise ConfigError(f"{name} must be True or False, got {getattr(config, name)!r}")


@lru_cache
def numbers_of(kind: type[Any]) -> tuple[tuple[str, type, Within], ...]:
    """The fields of a dataclass that hold numbers: name, ``int`` or ``float``, and range."""
    hints = get_type_hints(kind, include_extras=True)
    found = ((item.name, _number_in(hints[item.name], Within())) for item in fields(kind) if item.init)
    return tuple((name, *number) for name, number in found if number is not None)


@lru_cache
def _switches_of(kind: type[Any]) -> tuple[str, ...]:
    hints = get_type_hints(kind)
    return tuple(item.name for item in fields(kind) if item.init and hints[item.name] in (bool, bool | None))


def _number_in(hint: Any, within: Within) -> tuple[type, Within] | None:
    """The number that a type holds, be it optional or in a list."""
    if hint in (int, float):
        return hint, within
    if get_origin(hint) is Annotated:
        within = next((note for note in hint.__metadata__ if isinstance(note, Within)), within)
        return _number_in(hint.__origin__, within)
    return next((found for inner in get_args(hint) if (found := _number_in(inner, within))), None)


def check_number(name: str, value: Any, kind: type, within: Within) -> None:
    """Check one number, an ``int`` or a ``float``.

    Raises:
        ConfigError: it is none, or out of its range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
        raise ConfigError(f"{name} must be a {'whole ' if kind is int else ''}number, got {value!r}")
    plain: Any = kind  # numpy's numbers become Python's
    try:
        number = plain(value)
        text = str(number)
    except (OverflowError, ValueError):  # a whole number without a float, or with thousands of digits
        number, text = math.inf, "a number beyond all measure"
    if not within.holds(number):
        raise ConfigError(f"{name} must be {within.words(kind)}, got {text}")
    if kind is int and within.most is None and abs(number) > LARGEST:
        raise ConfigError(f"{name} must be at most {LARGEST}, got {text}")
