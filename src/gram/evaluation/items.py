"""What a model is asked: items with several answers, the correct ones first, and which pairs are compared.

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
        styles: style of each answer; empty where the data have no styles.
        source: where the item comes from, for reports of several sources.
        subset: part of the source it belongs to.
        group: the underlying question; the bag of words never learns from a group that it judges.
        unit: items of one unit are scored together by a benchmark's rule; empty: the item alone.
        variant: what was done to the answers before asking; empty: nothing.

    Example:
        >>> item = Item("q1", prompt=(), responses=("4", "5", "6"), correct=1)
        >>> item.comparisons, item.label_of(0, 2)
        ([(0, 1), (0, 2)], 1.0)
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
        """Style of the answer at ``place``; empty where the data have no styles."""
        return self.styles[place] if self.styles else ""

    def pair(self, i: int, j: int) -> Pair:
        """Answer i as ``a`` and answer j as ``b``."""
        return Pair(self.prompt, self.responses[i], self.responses[j])

    @property
    def block(self) -> str:
        """The unit it is scored in: its own id if it has none."""
        return self.unit or self.id


def item_of(preference: Preference) -> Item:
    """A labeled pair as an item: the better answer first (of a tie, ``a``).

    Example:
        >>> item_of(Preference(Pair("2 + 2?", a="5", b="4"), p_a=0.0)).responses
        ('4', '5')
    """
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
    """Every comparison with a better answer (or labeled a tie) as a labeled pair, for the floors.

    Example:
        >>> [row] = preferences_of([Item("q1", prompt=(), responses=("4", "5"))])
        >>> row.pair.a, row.pair.b, row.p_a
        ('4', '5', 1.0)
    """
    return [
        Preference(item.pair(i, j), item.label_of(i, j), item.id, item.subset, item.group)
        for item in items
        for i, j in item.comparisons
        if item.gold_of(i) != item.gold_of(j)
    ]


def named(items: Sequence[Item]) -> list[Item]:
    """The items with an id each, unique within source and variant: a missing id is the item's number.

    Example:
        >>> [item.id for item in named([Item("q1", (), ("4", "5")), Item("q1", (), ("4", "6"))])]
        ['q1', 'q1#2']
    """
    times: dict[tuple[str, str, str], int] = {}  # every name in use, and how many items asked for it
    unique = []
    for number, item in enumerate(items, start=1):
        base = name = item.id or f"number {number}"
        first = (item.source, item.variant, base)
        while (item.source, item.variant, name) in times:  # the file may hold a row with the id x#2
            times[first] += 1
            name = f"{base}#{times[first]}"
        times[item.source, item.variant, name] = 1
        unique.append(item if name == item.id else replace(item, id=name))
    return unique


def sample(items: Sequence[Item], most: int | None, seed: int) -> list[Item]:
    """A seeded sample of at most ``most`` whole units, in their order; a smaller sample is part of a larger.

    Raises:
        ConfigError: ``most`` is below 1.
    """
    if most is None:
        return list(items)
    if most < 1:
        raise ConfigError(f"max_per_source must be at least 1, got {most}")
    units = sorted({item.block for item in items}, key=lambda unit: (_digest(f"{seed}:{unit}"), unit))
    selection = set(units[:most])
    return [item for item in items if item.block in selection]


def shown_first(item: Item, i: int, j: int) -> int:
    """Which of two answers stands first when only one order is asked: decided by the id, not by the label."""
    return i if _digest(f"{item.id}:{i}:{j}")[0] % 2 == 0 else j


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
