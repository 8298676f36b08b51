"""Which two of several answers make an unlabeled pair, and in which order they stand.

Knows no scores and no labels. All choices depend only on the seed and on the texts themselves, not on the
order of the answers in the file, which may say which answer is better.
"""

from __future__ import annotations

import hashlib
from itertools import combinations
from random import Random

from gram.types import Contest, ResponsePair


def pairs_of(contest: Contest, count: int = 1, seed: int = 0) -> list[ResponsePair]:
    """Up to ``count`` different unordered pairs of different answers, each in random order.

    All pairs if there are no more than ``count``; none if no two answers differ by more than the white
    space around them.

    Example:
        >>> [pair] = pairs_of(Contest((), ("Yes.", "No.", "No.")))
        >>> sorted([pair.first, pair.second])
        ['No.', 'Yes.']
    """
    distinct = {text.strip(): text for text in sorted(contest.responses)}
    texts = sorted(distinct.values())
    key = repr((seed, contest.prompt, texts)).encode()
    rng = Random(int.from_bytes(hashlib.sha256(key).digest()))
    pairs = list(combinations(texts, 2))
    sample = rng.sample(pairs, min(count, len(pairs)))
    return [
        ResponsePair(contest.prompt, *(rng.sample(pair, 2)), id=_pair_id(contest.id, number, len(sample)))
        for number, pair in enumerate(sample)
    ]


def _pair_id(contest_id: str, number: int, total: int) -> str:
    return f"{contest_id}#{number}" if contest_id and total > 1 else contest_id
