"""Answers as texts: how repetitive they are, and changes that do not touch their meaning.

Knows strings and items; knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from gram.errors import ConfigError
from gram.evaluation.items import Item

SPAN = 4

FILLER = (
    " I hope this is helpful. If anything is unclear, or if you would like more detail on any part of it,"
    " please let me know and I will be happy to go on."
)


@lru_cache(maxsize=4096)
def repetition(text: str) -> float:
    """Share of the runs of four words that repeat an earlier run: 0 without repetition, near 1 for a loop.

    Example:
        >>> round(repetition("one two three four one two three four"), 2)  # one run of five
        0.2
    """
    words = text.split()
    runs = len(words) - SPAN + 1
    if runs < 2:
        return 0.0
    return 1.0 - len({tuple(words[k : k + SPAN]) for k in range(runs)}) / runs


def whitespace(text: str) -> str:
    """Every line break doubled, and blanks at both ends.

    Example:
        >>> whitespace("Yes.")
        '\\n\\n  Yes.  \\n\\n'
    """
    return "\n\n  " + text.replace("\n", "\n\n") + "  \n\n"


def markdown(text: str) -> str:
    """The same words under a heading, every paragraph a bullet with its first words in bold.

    Example:
        >>> print(markdown("Two plus two is four."))
        ## Answer
        <BLANKLINE>
        - **Two plus two** is four.
    """
    paragraphs = [line.strip() for line in text.splitlines() if line.strip()]
    return "## Answer\n\n" + "\n".join(f"- {_bold(paragraph)}" for paragraph in paragraphs)


def filler(text: str) -> str:
    """Two polite sentences after the answer that say nothing.

    Example:
        >>> filler("It is 4.")[:31]
        'It is 4. I hope this is helpful'
    """
    return text.rstrip() + FILLER


def _bold(paragraph: str) -> str:
    match = re.match(r"(\S+(?:\s+\S+){0,2})(.*)", paragraph, re.DOTALL)
    return f"**{match[1]}**{match[2]}" if match else paragraph


PERTURBATIONS: Mapping[str, Callable[[str], str]] = {
    "whitespace": whitespace,
    "markdown": markdown,
    "filler": filler,
}


def perturbed(items: Sequence[Item], names: Sequence[str]) -> list[Item]:
    """For each name the items again, every answer that is not correct changed by it.

    Only the worse answers are changed: a model that looks at meaning keeps its verdicts, and a model that is
    impressed by the form of an answer loses accuracy.

    Raises:
        ConfigError: there is no such perturbation, or no item of a kind that can be perturbed.

    Example:
        >>> [item] = perturbed([Item("q1", prompt=(), responses=("4", "5"))], ["whitespace"])
        >>> item.responses, item.variant
        (('4', '\\n\\n  5  \\n\\n'), 'whitespace')
    """
    for name in names:
        if name not in PERTURBATIONS:
            raise ConfigError(f"no perturbation '{name}'; there are: {', '.join(PERTURBATIONS)}")
    crossed = [item for item in items if item.ask == "cross"]
    if names and not crossed:
        raise ConfigError("perturbations need items with better and worse answers; there are none here")
    return [
        replace(
            item,
            variant=name,
            responses=tuple(
                answer if place < item.correct else PERTURBATIONS[name](answer)
                for place, answer in enumerate(item.responses)
            ),
        )
        for name in dict.fromkeys(names)
        for item in crossed
    ]
