"""What is timed: the pairs of each workload, of answers from files or of made-up ones.

Only lengths and shared text matter to speed, so an answer may stand under another prompt. Every workload
has its own random stream: one more of it changes no other. Knows texts, not tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from random import Random

from gram.data import read_contests
from gram.errors import DataError
from gram.types import Chat, Contest, Pair

_LONGEST = 6000  # characters of a prompt and its two longest answers: fits every model that is timed
_VOCABULARY = """
time people year way day thing man world life hand part child eye woman place work week case point
company number group problem fact first because however answer therefore would could between should
without through another different important question example following result system information
value under method process several general possible according within including against language
increase condition
"""
_WORDS = _VOCABULARY.split()


@dataclass(frozen=True)
class Workload:
    """Pairs that are asked in one go, each in both orders.

    Attributes:
        decision: transformers' ``pipeline("decision")`` is asked too; the pairs must share their prompt.
    """

    name: str
    pairs: tuple[Pair, ...]
    decision: bool = False


@dataclass(frozen=True)
class Sizes:
    """How much of each workload.

    Attributes:
        independent: pairs of W1, each of another prompt.
        best_of: per number of candidates n, the prompts of W2: n (n - 1) / 2 pairs each.
        groups: per number of answers G, the prompts of W3: G pairs each, all with one reference answer.
        ring: pairs of W4, all of one prompt: each answer against the next, the last against the first.
    """

    independent: int = 12
    best_of: dict[int, int] = field(default_factory=lambda: {4: 3, 8: 1, 16: 1})
    groups: dict[int, int] = field(default_factory=lambda: {8: 2, 16: 1})
    ring: int = 8


def pool(source: str | None, seed: int) -> tuple[list[Contest], str]:
    """Prompts with their answers, and where they come from.

    Args:
        source: a file of rows with ``prompt`` and ``responses``, or a folder of such; None: they are made up.

    Raises:
        DataError: the source cannot be used, or holds no prompt with two answers of bearable length.
    """
    if source is None:
        return made_up(200, seed), "made up"
    place = Path(source)
    files: list[str | Path] = sorted(place.glob("*.jsonl.gz")) if place.is_dir() else [str(place)]
    if not files:
        raise DataError("holds no *.jsonl.gz", file=str(place))
    contests = [Contest(c.prompt, tuple(dict.fromkeys(c.responses))) for c in read_contests(files).examples]
    usable = [contest for contest in contests if len(contest.responses) > 1 and _longest(contest) <= _LONGEST]
    if not usable:
        raise DataError("has no prompt with two different answers of bearable length", file=str(place))
    return usable, ", ".join(Path(file).name for file in files)


def made_up(count: int, seed: int, candidates: int = 12, scale: float = 1.0) -> list[Contest]:
    """Prompts and answers of random words; their lengths are log-normal, as those of real answers are.

    Args:
        scale: of all lengths.
    """
    draw = Random(seed)

    def text(median_words: float, most: int) -> str:
        length = min(max(round(scale * median_words * draw.lognormvariate(0, 0.5)), 3), round(scale * most))
        return " ".join(draw.choices(_WORDS, k=length))

    def answers() -> tuple[str, ...]:
        return tuple(dict.fromkeys(text(110, 350) for _ in range(candidates)))

    return [Contest(text(60, 200), answers()) for _ in range(count)]


def scoring(contests: Sequence[Contest], sizes: Sizes, seed: int) -> list[Workload]:
    """W1, then W2 and W3 in each size, then W4.

    Raises:
        DataError: a workload needs more different answers than there are.
    """
    workloads = [Workload("W1", independent_pairs(contests, sizes.independent, seed))]
    for n, prompts in sizes.best_of.items():
        samples = _sample(contests, prompts, n, f"{seed} best of {n}")
        pairs = [Pair(prompt, a, b) for prompt, answers in samples for a, b in combinations(answers, 2)]
        workloads.append(Workload(f"W2 n={n}", tuple(pairs)))
    for size, prompts in sizes.groups.items():
        samples = _sample(contests, prompts, size + 1, f"{seed} group of {size}")
        pairs = [Pair(prompt, answer, answers[0]) for prompt, answers in samples for answer in answers[1:]]
        workloads.append(Workload(f"W3 G={size}", tuple(pairs)))
    [(prompt, answers)] = _sample(contests, 1, sizes.ring, f"{seed} ring of {sizes.ring}")
    pairs = [Pair(prompt, a, b) for a, b in zip(answers, answers[1:] + answers[:1], strict=True)]
    workloads.append(Workload(f"W4 n={sizes.ring}", tuple(pairs), decision=True))
    return workloads


def independent_pairs(contests: Sequence[Contest], count: int, seed: int) -> tuple[Pair, ...]:
    """Two answers each to different prompts (again the same ones when there are not enough)."""
    samples = _sample(contests, count, 2, f"{seed} pairs")
    return tuple(Pair(prompt, answers[0], answers[1]) for prompt, answers in samples)


def _sample(
    contests: Sequence[Contest], prompts: int, answers: int, seed: str
) -> list[tuple[Chat, list[str]]]:
    """Prompts with that many answers; what a prompt lacks is filled up with answers to others."""
    draw = Random(seed)
    order = draw.sample(contests, len(contests))
    rich = [contest for contest in order if len(contest.responses) >= answers] or order
    samples = []
    for number in range(prompts):
        contest = rich[number % len(rich)]
        own = draw.sample(contest.responses, min(answers, len(contest.responses)))
        start = order.index(contest) + 1
        others = dict.fromkeys(
            text for c in [*order[start:], *order[:start]] for text in c.responses if text not in own
        )
        own += islice(others, answers - len(own))
        if len(own) < answers:
            raise DataError(f"fewer than {answers} different answers in all: a workload cannot be made")
        samples.append((contest.prompt, own))
    return samples


def _longest(contest: Contest) -> int:
    one, two = sorted(map(len, contest.responses))[-2:]
    return sum(len(turn.content) for turn in contest.prompt) + one + two
