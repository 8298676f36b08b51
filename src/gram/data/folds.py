"""Cutting labeled rows into folds, so that no question is both learned from and tested on.

Knows groups and prompts; knows no labels and no model, so that nothing of a label can get into a fold.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gram.types import Preference

IntArray = npt.NDArray[np.int64]


def questions(preferences: Sequence[Preference]) -> IntArray:
    """(n,) number of the question that each row asks, from 0 in order of appearance.

    Rows of one group ask the same question, and rows without a group the one of their prompt. A row without
    a group whose prompt stands in a group belongs to the first such group. One prompt under several groups is
    several questions: some data sets put a constant task into the prompt of every row.

    Example:
        >>> from gram.types import Pair
        >>> [first, second] = [Preference(Pair(prompt, "Yes.", "No."), 1.0) for prompt in ("One?", "Two?")]
        >>> questions([first, second, first]).tolist()
        [0, 1, 0]
    """
    names = _names(preferences)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def folds(preferences: Sequence[Preference], count: int) -> IntArray:
    """(n,) fold of every row, at most ``count`` of them, numbered from 0; questions stay whole.

    The largest question goes first, each to the fold that is smallest so far; which of two equally large
    ones goes first depends on their text alone.

    Example:
        >>> from gram.types import Pair
        >>> [first, second] = [Preference(Pair(prompt, "Yes.", "No."), 1.0) for prompt in ("One?", "Two?")]
        >>> folds([first, second, first], count=2).tolist()
        [0, 1, 0]
    """
    names = _names(preferences)
    sizes = Counter(names)
    totals = [0] * min(count, len(sizes))  # more folds than questions would stay empty
    fold_of: dict[tuple[str, str], int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], _crc(name[1]), name)):
        fold_of[name] = totals.index(min(totals))
        totals[fold_of[name]] += sizes[name]
    return np.array([fold_of[name] for name in names], dtype=np.int64)


def _names(preferences: Sequence[Preference]) -> list[tuple[str, str]]:
    """What the question of each row is called, and whether that is a group or a prompt."""
    prompts = [repr(row.pair.prompt) for row in preferences]
    group_of: dict[str, str] = {}
    for prompt, row in zip(prompts, preferences, strict=True):
        if row.group:
            group_of.setdefault(prompt, row.group)
    groups = [row.group or group_of.get(prompt, "") for prompt, row in zip(prompts, preferences, strict=True)]
    return [
        ("group", group) if group else ("prompt", prompt)
        for prompt, group in zip(prompts, groups, strict=True)
    ]


def _crc(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
