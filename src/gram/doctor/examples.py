"""Pairs to ask about: easy ones of our own, and those that rows hold. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gram.types import Answer, Contest, Pair

EASY: Sequence[Pair] = (
    Pair("What is the capital of France?", a="The capital of France is Paris.", b="I like trains."),
    Pair("What is 2 + 2?", a="2 + 2 is 22, since one writes it twice.", b="2 + 2 is 4."),
    Pair("Name a colour of the rainbow.", a="Blue.", b="Tuesday."),
    Pair("How many days has a week?", a="Nobody knows.", b="A week has seven days."),
    Pair("Translate 'good morning' into French.", a="Bonjour.", b="Guten Morgen."),
    Pair("What do bees make?", a="Bees make cement.", b="Bees make honey."),
)
"""The better answer stands first and second in turn."""

Item = Pair | Contest | Answer


def pairs_in(items: Iterable[Item]) -> list[Pair]:
    """The pairs among ``items``, and of candidates the first that differ.

    Example:
        >>> pairs_in([Answer("Why?", "So."), Contest("Why?", ["So.", "So.", "Thus."])])[0].b
        'Thus.'
    """
    found = []
    for item in items:
        if isinstance(item, Pair):
            found.append(item)
        elif isinstance(item, Contest):
            first = item.responses[0]
            other = next((answer for answer in item.responses if answer != first), None)
            found += [Pair(item.prompt, first, other)] if other is not None else []
    return found
