"""Does the training data hold what the model will be tested on?

Knows labeled pairs, compared by text and by group; it knows no embeddings and finds no paraphrases. Texts are
compared after folding case and white space. Time and memory grow with the number of pairs, not its square.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from gram.types import Preference

CONSTANT_SHARE = 0.1
CONSTANT_MINIMUM = 10


@dataclass(frozen=True, slots=True)
class Leak:
    """A held-out pair that training has seen: the same two answers ("pair"), or its question ("group")."""

    kind: Literal["pair", "group"]
    train: Preference
    held_out: Preference


def find_leaks(train: Iterable[Preference], held_out: Iterable[Preference]) -> list[Leak]:
    """The held-out pairs that training has seen, in their order, one leak each.

    A pair is seen if a training pair has the same prompt and the same two answers in either order, or else
    belongs to the same group. A shared prompt alone is no leak: some data sets have one prompt
    for all rows. See ``shared_prompts``. Group ids are compared as they are; the readers put the row's
    ``source`` before them.

    Example:
        >>> from gram.types import Pair
        >>> seen = Preference(Pair("What is 2 + 2?", "4", "5"), p_a=1.0)
        >>> [leak.kind for leak in find_leaks([seen], [seen.swapped()])]
        ['pair']
    """
    by_content: dict[bytes, Preference] = {}
    by_group: dict[str, Preference] = {}
    for preference in train:
        by_content.setdefault(_content(preference), preference)
        if preference.group:
            by_group.setdefault(preference.group, preference)
    leaks: list[Leak] = []
    for preference in held_out:
        if twin := by_content.get(_content(preference)):
            leaks.append(Leak("pair", twin, preference))
        elif relative := by_group.get(preference.group):
            leaks.append(Leak("group", relative, preference))
    return leaks


def shared_prompts(train: Iterable[Preference], held_out: Iterable[Preference]) -> int:
    """How many different held-out prompts training has seen too, whatever the answers.

    Prompts of one word are not counted, nor are constant ones, which state a task rather than ask a
    question: those that serve more than ``CONSTANT_SHARE`` of the held-out questions, and more than
    ``CONSTANT_MINIMUM`` of them. A question is a group or, without groups, a set of answers.

    Example:
        >>> from gram.types import Pair
        >>> train = [Preference(Pair("What is 2 + 2?", "4", "5"), p_a=1.0)]
        >>> shared_prompts(train, [Preference(Pair("what is  2 + 2?", "Four.", "Six."), p_a=1.0)])
        1
    """
    questions: dict[bytes, set[str | bytes]] = {}
    for preference in held_out:
        if len(_prompt(preference).split()) > 1:
            answers = questions.setdefault(_digest(_prompt(preference)), set())
            answers.add(preference.group or _content(preference))
    everything = len(set().union(*questions.values()))
    constant = max(CONSTANT_MINIMUM, CONSTANT_SHARE * everything)
    train_prompts = {_digest(_prompt(preference)) for preference in train}
    return sum(prompt in train_prompts and len(answers) <= constant for prompt, answers in questions.items())


def _content(preference: Preference) -> bytes:
    answers = sorted(_fold(text) for text in (preference.pair.a, preference.pair.b))
    return _digest(_prompt(preference), *answers)


def _prompt(preference: Preference) -> str:
    return "\n".join(_fold(turn.content) for turn in preference.pair.prompt)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _digest(*texts: str) -> bytes:
    return blake2b("\0".join(texts).encode(errors="surrogatepass"), digest_size=16).digest()
