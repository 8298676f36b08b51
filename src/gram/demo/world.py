"""A small made-up world whose gold reward is exactly computable: no download, no doubt about the truth.

Families of facts (color, home, food, ...) say one value for each of a few entities. A prompt asks one family
about some entities; an answer restates each entity and gives a value, in a style that says nothing about
quality. The gold reward is the fraction of right values. Half of the families get labels, half never do.

Unlabeled pairs hold one answer of a strong policy and one of a weak one, in random order and unmarked. What
comes next then depends on whether what came before was right, within an answer and from the first to the
second, so that predicting answers teaches to judge them, in families without labels too (docs/world.md).

Knows the project's types; knows no model, no tokenizer and no template.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np

from gram.errors import ConfigError
from gram.types import Chat, Contest, Message, Pair, Preference, ResponsePair

Split: TypeAlias = Literal["train", "test"]

FAMILIES = {
    "color": ("red", "blue", "green", "yellow", "black", "white"),
    "home": ("pond", "cave", "den", "nest", "barn", "hut"),
    "food": ("corn", "rice", "milk", "bread", "honey", "fish"),
    "sound": ("buzz", "hum", "roar", "click", "hiss", "bang"),
    "shape": ("round", "square", "flat", "long", "thin", "wide"),
    "season": ("spring", "summer", "autumn", "winter", "rain", "snow"),
    "metal": ("gold", "iron", "lead", "tin", "zinc", "copper"),
    "game": ("chess", "cards", "dice", "golf", "tennis", "darts"),
    "mood": ("happy", "sad", "angry", "calm", "proud", "shy"),
    "tool": ("hammer", "saw", "rope", "brush", "nail", "spoon"),
    "city": ("Rome", "Paris", "Oslo", "Lima", "Cairo", "Delhi"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
}
ENTITIES = ("frog", "stone", "apple", "river", "moon", "horse", "lamp", "cloud")
STYLES = (("Sure:", ",", "."), ("Well,", ";", "."), ("Maybe", " and", "!"), ("Look:", " then", "."))

_PROMPT = re.compile(r"What is the (\w+) of ([\w ]+)\?")
_TEST_SHARE = 5  # one set of entities in five is for testing, in whatever order they are asked


@dataclass(frozen=True)
class World:
    """The world of one seed.

    Attributes:
        seed: decides the facts, which families get labels, and everything drawn.
        entities_per_prompt: how many a prompt asks about.
        strong, weak: probability of a right value under the two policies.
    """

    seed: int
    entities_per_prompt: int = 4
    strong: float = 0.99
    weak: float = 0.25

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")
        count, most = self.entities_per_prompt, len(ENTITIES) - 2
        if not 2 <= count <= most:  # fewer or more leave too few sets of entities to split
            raise ConfigError(f"entities_per_prompt must be from 2 to {most}, got {count}")
        if not 0 <= self.weak < self.strong <= 1:
            raise ConfigError(f"need 0 <= weak < strong <= 1, got {self.weak} and {self.strong}")

    @cached_property
    def facts(self) -> dict[str, dict[str, str]]:
        """Family -> entity -> its one right value."""
        rng = self._rng("facts")
        return {
            family: {entity: str(rng.choice(values)) for entity in ENTITIES}
            for family, values in FAMILIES.items()
        }

    @cached_property
    def seen_families(self) -> tuple[str, ...]:
        """The half of the families that gets labels."""
        order = self._rng("halves").permutation(list(FAMILIES))
        return tuple(sorted(str(family) for family in order[: len(FAMILIES) // 2]))

    @cached_property
    def unseen_families(self) -> tuple[str, ...]:
        """The half that never does."""
        return tuple(family for family in FAMILIES if family not in self.seen_families)

    def gold(self, prompt: str | Chat, response: str) -> float:
        """Fraction of the asked entities to which ``response`` gives the right value.

        Read from the words alone: a value counts if it directly follows its entity. Any style is as good as
        any other, and text about something else gets 0.

        Raises:
            ValueError: the prompt is none of this world's.
        """
        text = prompt if isinstance(prompt, str) else "".join(turn.content for turn in prompt)
        match = _PROMPT.fullmatch(text)
        entities = match[2].split() if match else []
        if not match or match[1] not in FAMILIES or not entities or not set(entities) <= set(ENTITIES):
            raise ValueError(f"not a prompt of this world: {text!r}")
        words = re.findall(r"\w+", response)
        claims = dict(reversed(list(pairwise(words))))  # of several mentions the first counts
        facts = self.facts[match[1]]
        return sum(claims.get(entity) == facts[entity] for entity in entities) / len(entities)

    def unlabeled_pairs(
        self, count: int, families: Iterable[str] | None = None, *, correlated: bool = True
    ) -> list[ResponsePair]:
        """Pairs for stage 1: one strong and one weak answer in random order.

        ``correlated=False`` draws each answer's policy for itself; the second answer then says nothing about
        the first, and only the consistency within an answer is left.
        """
        rng, pairs = self._rng("unlabeled", correlated), []
        for number, (family, entities) in enumerate(self._questions(rng, count, families, "train")):
            skill = rng.permutation([self.strong, self.weak])
            if not correlated:
                skill = rng.choice(skill, 2)
            first, second = (self._answer(rng, family, entities, p) for p in skill)
            pairs.append(ResponsePair(_asking(family, entities), first, second, f"unlabeled-{number}"))
        return pairs

    def preferences(
        self, count: int, families: Iterable[str] | None = None, *, split: Split
    ) -> list[Preference]:
        """Labeled pairs of different gold, each answer of either policy; subset: ``seen/home`` and so on."""
        rng, preferences = self._rng("preferences", split), []
        questions = self._questions(rng, None, families, split)
        while len(preferences) < count:
            family, entities = next(questions)
            prompt = _asking(family, entities)
            a, b = (self._answer(rng, family, entities, self._skill(rng)) for _ in range(2))
            gain = self.gold(prompt, a) - self.gold(prompt, b)
            if gain != 0:
                subset = f"{'seen' if family in self.seen_families else 'unseen'}/{family}"
                name = f"{split}-{subset}-{len(preferences)}"
                group = " ".join([family, *sorted(entities)])
                preferences.append(Preference(Pair(prompt, a, b), float(gain > 0), name, subset, group))
        return preferences

    def contests(
        self, count: int, families: Iterable[str] | None = None, *, candidates: int, split: Split = "test"
    ) -> list[Contest]:
        """Prompts with ``candidates`` answers each, of either policy."""
        rng = self._rng("contests", split, candidates)
        return [
            Contest(
                _asking(family, entities),
                tuple(self._answer(rng, family, entities, self._skill(rng)) for _ in range(candidates)),
                f"{split}-contest-{number}",
            )
            for number, (family, entities) in enumerate(self._questions(rng, count, families, split))
        ]

    def _questions(
        self, rng: np.random.Generator, count: int | None, families: Iterable[str] | None, split: Split
    ) -> Iterator[tuple[str, list[str]]]:
        """``count`` questions (None: without end); a set of entities belongs to one split for ever."""
        names = sorted(FAMILIES if families is None else families)
        if unknown := set(names) - set(FAMILIES):
            raise ConfigError(f"no such families: {', '.join(sorted(unknown))}")
        if not names:
            raise ConfigError("give at least one family")
        number = 0
        while count is None or number < count:
            family = names[rng.integers(len(names))]
            order = rng.permutation(len(ENTITIES))
            entities = [ENTITIES[place] for place in order[: self.entities_per_prompt]]
            testing = zlib.crc32(_question(family, sorted(entities)).encode()) % _TEST_SHARE == 0
            if testing == (split == "test"):
                number += 1
                yield family, entities

    def _answer(self, rng: np.random.Generator, family: str, entities: Sequence[str], right: float) -> str:
        """An answer in a random style whose values are right with probability ``right`` each."""
        opening, between, end = STYLES[rng.integers(len(STYLES))]
        parts = []
        for entity in entities:
            truth = self.facts[family][entity]
            wrong = [value for value in FAMILIES[family] if value != truth]
            value = truth if rng.random() < right else wrong[rng.integers(len(wrong))]
            parts.append(f" {entity} {value}")
        return opening + between.join(parts) + end

    def _skill(self, rng: np.random.Generator) -> float:
        return self.strong if rng.random() < 0.5 else self.weak

    def _rng(self, *stream: object) -> np.random.Generator:
        """A stream of its own for everything drawn: more of one thing never changes another."""
        return np.random.default_rng([self.seed, zlib.crc32(repr(stream).encode())])


def _question(family: str, entities: Sequence[str]) -> str:
    return f"What is the {family} of {' '.join(entities)}?"


def _asking(family: str, entities: Sequence[str]) -> Chat:
    return (Message("user", _question(family, entities)),)
