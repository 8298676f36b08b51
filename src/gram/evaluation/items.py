"""What a model is asked: items with several answers, the correct ones first, and which of them meet.

Knows no model, no benchmark and no file. The order of the answers in an item is never what a model sees:
every comparison is asked in both orders, or in the one that a hash of its id picks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import combinations
from typing import Literal, TypeAlias

from gram.errors import ConfigError, DataError
from gram.types import Chat, Pair, Preference

Ask: TypeAlias = Literal["cross", "all"]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt with two or more answers.

    Attributes:
        id: unique within its source and variant.
        prompt: the question.
        responses: the answers, the ``correct`` ones first.
        correct: how many of them are correct, at least 1.
        ask: ``cross``: every correct answer meets every other one; ``all``: every two answers meet.
        label: probability that a correct answer is the better one: 1, a soft label, or 0.5 for a tie.
        gold: quality of each answer, in descending order; empty: 1 for the correct ones and 0 for the rest.
        styles: style of each answer, where the data say so; else empty.
        source: where the item comes from, for reports of several sources.
        subset: part of the source it belongs to.
        group: the underlying question; the bag of words never learns from a group that it judges.
        unit: items of one unit are scored together by a benchmark's rule; empty: the item alone.
        variant: what was done to the answers before asking; empty: nothing.
    """

    id: str
    prompt: Chat
    responses: tuple[str, ...]
    correct: int = 1
    ask: Ask = "cross"
    label: float = 1.0
    gold: tuple[float, ...] = ()
    styles: tuple[str, ...] = ()
    source: str = ""
    subset: str = ""
    group: str = ""
    unit: str = ""
    variant: str = ""

    def __post_init__(self) -> None:
        if len(self.responses) < 2:
            raise DataError(f"item {self.id}: needs at least two answers, has {len(self.responses)}")
        if not 1 <= self.correct <= len(self.responses):
            raise DataError(f"item {self.id}: {self.correct} correct of {len(self.responses)} answers")
        if self.ask == "cross" and self.correct == len(self.responses):
            raise DataError(f"item {self.id}: no wrong answer to compare with")
        for name, values in (("gold", self.gold), ("styles", self.styles)):
            if values and len(values) != len(self.responses):
                raise DataError(f"item {self.id}: {len(values)} {name} for {len(self.responses)} answers")
        if any(x < y for x, y in zip(self.gold, self.gold[1:], strict=False)):
            raise DataError(f"item {self.id}: the answers are not in descending order of gold")

    @property
    def comparisons(self) -> list[tuple[int, int]]:
        """The pairs of answers (i, j) that meet, i < j: i is never the worse one."""
        n = len(self.responses)
        if self.ask == "all":
            return list(combinations(range(n), 2))
        return [(i, j) for i in range(self.correct) for j in range(self.correct, n)]

    def gold_of(self, place: int) -> float:
        """Quality of the answer at ``place``."""
        return self.gold[place] if self.gold else float(place < self.correct)

    def label_of(self, i: int, j: int) -> float:
        """Probability, by the label, that answer i is better than answer j; 0.5 where both are equal."""
        return self.label if self.gold_of(i) > self.gold_of(j) else 0.5

    def style_of(self, place: int) -> str:
        """Style of the answer at ``place``; empty where the data do not say."""
        return self.styles[place] if self.styles else ""

    def pair(self, i: int, j: int) -> Pair:
        """Answer i as ``a`` and answer j as ``b``."""
        return Pair(self.prompt, self.responses[i], self.responses[j])

    @property
    def block(self) -> str:
        """The unit it is scored in: its own id if it has none."""
        return self.unit or self.id


def item_of(preference: Preference) -> Item:
    """A labeled pair as an item: the better answer first (of a tie, ``a``)."""
    pair, label = preference.pair, preference.p_a
    first, second, label = (pair.a, pair.b, label) if label >= 0.5 else (pair.b, pair.a, 1.0 - label)
    return Item(
        id=preference.id,
        prompt=pair.prompt,
        responses=(first, second),
        label=label,
        subset=preference.subset,
        group=preference.group,
    )


def preferences_of(items: Iterable[Item]) -> list[Preference]:
    """Every comparison with a better answer (or labeled a tie) as a labeled pair, for the floors."""
    return [
        Preference(item.pair(i, j), item.label_of(i, j), item.id, item.subset, item.group)
        for item in items
        for i, j in item.comparisons
        if item.gold_of(i) != item.gold_of(j)
    ]


def named(items: Sequence[Item]) -> list[Item]:
    """The items with an id each, unique within source and variant: a missing id is the item's number."""
    times: dict[tuple[str, str, str], int] = {}  # every name in use, and how often it was wanted
    found = []
    for number, item in enumerate(items, start=1):
        wanted = name = item.id or f"number {number}"
        first = (item.source, item.variant, wanted)
        while (item.source, item.variant, name) in times:  # a row may be called x#2 by itself
            times[first] += 1
            name = f"{wanted}#{times[first]}"
        times[item.source, item.variant, name] = 1
        found.append(item if name == item.id else replace(item, id=name))
    return found


def sample(items: Sequence[Item], most: int | None, seed: int) -> list[Item]:
    """A seeded sample of at most ``most`` units, whole, in their order; a smaller number takes a part of it.

    Raises:
        ConfigError: ``most`` is below 1.
    """
    if most is None:
        return list(items)
    if most < 1:
        raise ConfigError(f"max_per_source must be at least 1, got {most}")
    units = sorted({item.block for item in items}, key=lambda unit: (_digest(f"{seed}:{unit}"), unit))
    kept = set(units[:most])
    return [item for item in items if item.block in kept]


def shown_first(item: Item, i: int, j: int) -> int:
    """Which of two answers stands first when only one order is asked: decided by the id, not by the label."""
    return i if _digest(f"{item.id}:{i}:{j}")[0] % 2 == 0 else j


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
