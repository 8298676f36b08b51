"""Results on file of what gram-135m is used for: one JSON line each, and how tables show a number.

Knows no model and no data.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from gram.errors import ConfigError
from gram.files import atomic_write
from gram.statistics import Estimate

MODEL = "gram-135m"
"""The model that ships; studies take a folder in its place."""
FOLDER = Path("experiments/results")
NOT_RUN = "*Not run yet.*"
"""Stands on the page where there is no result."""

Result = dict[str, Any]


def command(about: str | None, rival: str | None = None) -> ArgumentParser:
    """The options of every study: the model in place of the one that ships, a device, and only the table.

    Args:
        about: the docstring of the study.
        rival: the Bradley-Terry model that it is held against; None: it needs none.
    """
    parser = ArgumentParser(description=about, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="a folder in place of the model that ships")
    if rival:
        parser.add_argument("--rival", default=rival, help="the Bradley-Terry model")
    parser.add_argument("--device", help="cuda or cpu; default: what there is")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table")
    return parser


def read(path: Path) -> list[Result]:
    """The lines of a file; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def add(path: Path, result: Mapping[str, Any]) -> None:
    """Append a line, in one write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


def refuse_others(path: Path, model: str) -> None:
    """Refuse to add results of one model to those of another.

    Raises:
        ConfigError: the file has some.
    """
    if others := {row["model"] for row in read(path)} - {model}:
        raise ConfigError(f"{path}: has results of {min(others)}; move it away to run {model}")


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line for each row, whole or not at all."""
    with atomic_write(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def numbers(found: Estimate, digits: int = 4) -> list[float]:
    """Value, ends of the 95% interval, and how many there were."""
    return [round(found.value, digits), round(found.low, digits), round(found.high, digits), found.n]


def shown(found: Sequence[float], sign: str = "", digits: int = 3) -> str:
    """A value with its interval; of a single seed, which has none, the value.

    Example:
        >>> shown([0.5, 0.4, 0.6, 10]), shown([0.5, 0.4, 0.6, 10], "+", 1)
        ('0.500 [0.400, 0.600]', '+0.5 [+0.4, +0.6]')
        >>> shown([0.5, float("nan"), float("nan"), 1])
        '0.500'
    """
    value, low, high = found[:3]
    if isnan(low):
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
