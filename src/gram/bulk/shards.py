"""Rows into shards: the same shards for the same rows, every time, and the rows of one prompt together.

A model reads what rows share once, if they are asked together. Knows prompts as keys; knows no rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def shards_of(prompts: Sequence[Hashable], size: int) -> list[list[int]]:
    """The places, from 0, of the rows of each shard; ``prompts[i]`` is what row i is about.

    Prompts keep the order in which they first stand. A shard ends where the rows of the next prompt would not
    fit; only a prompt with more than ``size`` rows is cut.

    Example:
        >>> shards_of(["a", "b", "a", "c", "b"], size=3)
        [[0, 2], [1, 4, 3]]
        >>> shards_of("aaaab", size=3)
        [[0, 1, 2], [3, 4]]
    """
    groups: dict[Hashable, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(place)
    shards: list[list[int]] = [[]]
    for places in groups.values():
        for start in range(0, len(places), size):
            part = places[start : start + size]
            if shards[-1] and len(shards[-1]) + len(part) > size:
                shards.append([])
            shards[-1] += part
    return [shard for shard in shards if shard]
