"""In which order candidates meet: generators that ask for comparisons and end with a ranking.

Knows numbers of candidates and probabilities; knows neither models nor texts, so a schedule can be tested
with any matrix of probabilities, and many of them can run in lockstep. A schedule draws the order of its
first meetings from the random generator it is given, so that no place in the list of candidates is favoured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from gram.types import FloatArray

Meeting: TypeAlias = tuple[int, int]
Schedule: TypeAlias = Generator[list[Meeting], FloatArray, list[int]]
"""Yields comparisons (i, j), i != j, receives the (k,) probabilities that i beats j, returns best first."""

_Game: TypeAlias = tuple[int, int, float]  # i, j and the probability that i beats j
_CERTAIN = 1e-12  # closest to 0 or 1 that a probability is taken for: log-odds of at most 27.6


def round_robin(n: int, rng: np.random.Generator) -> Schedule:
    """Everyone meets everyone: n(n-1)/2 comparisons in one round, ordered by mean win probability.

    This is also the order of the Bradley-Terry strengths: when all meet all, the likelihood depends on the
    number of wins alone and the strength grows with it (Ford, 1957). Ties go to the first index. The
    comparisons stand in the order of a tournament in which nobody rests twice in a row (circle method), so
    that the first k of them are spread evenly over the candidates.

    Example:
        >>> sorted(tuple(sorted(meeting)) for meeting in next(round_robin(3, np.random.default_rng(0))))
        [(0, 1), (0, 2), (1, 2)]
    """
    wins = np.zeros(n)
    if n > 1:
        meetings = _tournament(list(rng.permutation(n)))
        p = yield meetings
        first, second = np.array(meetings).T
        np.add.at(wins, first, p)
        np.add.at(wins, second, 1.0 - p)
    return best_first(wins)


def linear(n: int, rng: np.random.Generator) -> Schedule:
    """The paper's scan: the best so far meets the next one; n-1 comparisons in n-1 rounds.

    Made to find the best. The others are ordered by the comparisons they took part in, see ``_by_log_odds``.

    Example:
        >>> len(next(linear(4, np.random.default_rng(0))))  # one comparison in the first round
        1
    """
    best, *others = (int(i) for i in rng.permutation(n))
    games: list[_Game] = []
    for other in others:
        p = yield [(best, other)]
        games.append((best, other, float(p[0])))
        best = _winner(*games[-1])
    return _by_log_odds(n, games)


def knockout(n: int, rng: np.random.Generator) -> Schedule:
    """Divide and conquer: losers leave; n-1 comparisons in ceil(log2 n) rounds.

    All pairs of a round are asked at once; of an odd number the last one goes on to the next round unasked.
    Made to find the best; the others are ordered as in ``linear``.

    Example:
        >>> len(next(knockout(4, np.random.default_rng(0))))  # two comparisons in the first round
        2
    """
    alive = [int(i) for i in rng.permutation(n)]
    games: list[_Game] = []
    while len(alive) > 1:
        meetings = list(zip(alive[::2], alive[1::2], strict=False))
        p = yield meetings
        round_games = [(i, j, float(p_ij)) for (i, j), p_ij in zip(meetings, p, strict=True)]
        games += round_games
        alive = ([alive[-1]] if len(alive) % 2 else []) + [_winner(*game) for game in round_games]
    return _by_log_odds(n, games)


def swiss(n: int, rng: np.random.Generator) -> Schedule:
    """ceil(log2 n) + 1 rounds between neighbours in the standings who have not met; about n/2 each.

    Standings are sums of win probabilities; the final order is fitted as in ``linear``, and so takes account
    of how strong the opponents were.

    Example:
        >>> len(next(swiss(5, np.random.default_rng(0))))  # one of five rests in the first round
        2
    """
    seeds = [int(i) for i in rng.permutation(n)]
    games: list[_Game] = []
    points = np.zeros(n)
    met = np.eye(n, dtype=bool)
    rested: set[int] = set()
    for _ in range(int(np.ceil(np.log2(n))) + 1 if n > 1 else 0):
        standings = sorted(seeds, key=lambda i: -round(float(points[i]), 9))
        if n % 2:
            resting = next((i for i in reversed(standings) if i not in rested), standings[-1])
            points[resting] += 1.0  # a bye is a win, as in chess
            rested.add(resting)
            standings.remove(resting)
        pairs = _neighbours(standings, met)
        if not pairs:
            break
        p = yield pairs
        for (i, j), p_ij in zip(pairs, p, strict=True):
            games.append((i, j, float(p_ij)))
            points[i], points[j] = points[i] + p_ij, points[j] + 1.0 - p_ij
            met[i, j] = met[j, i] = True
    return _by_log_odds(n, games)


def merge(n: int, rng: np.random.Generator) -> Schedule:
    """Merge sort: the full order, right if the answers are transitive.

    At most n ceil(log2 n) - 2^ceil(log2 n) + 1 comparisons, as for every balanced merge sort. All merges of
    a level advance together, one comparison each per round.

    Example:
        >>> schedule = merge(2, np.random.default_rng(0))
        >>> [(i, j)] = next(schedule)
        >>> try:
        ...     schedule.send(np.array([0.9]))
        ... except StopIteration as end:
        ...     print(end.value == [i, j])
        True
    """
    runs = [[int(i)] for i in rng.permutation(n)]
    while len(runs) > 1:
        pairs = list(zip(runs[::2], runs[1::2], strict=False))
        longer_runs: list[list[int]] = [[] for _ in pairs]
        while live := [k for k, (left, right) in enumerate(pairs) if left and right]:
            meetings = [(pairs[k][0][0], pairs[k][1][0]) for k in live]
            p = yield meetings
            for k, (i, j), p_ij in zip(live, meetings, p, strict=True):
                longer_runs[k].append(pairs[k][0 if _winner(i, j, p_ij) == i else 1].pop(0))
        for run, (left, right) in zip(longer_runs, pairs, strict=True):
            run += left + right
        # A run that had no partner goes first, so that the runs stay of similar length.
        runs = ([runs[-1]] if len(runs) % 2 else []) + longer_runs
    return runs[0]


def best_first(values: FloatArray) -> list[int]:
    """Indices by falling value; equal values keep their order, also when they differ by rounding only.

    Example:
        >>> best_first(np.array([0.1, 2.0, 0.1]))
        [1, 0, 2]
    """
    return [int(i) for i in np.argsort(-np.round(values, 9), kind="stable")]


SCHEDULES: Mapping[str, Callable[[int, np.random.Generator], Schedule]] = {
    "round_robin": round_robin,
    "linear": linear,
    "knockout": knockout,
    "swiss": swiss,
    "merge": merge,
}


def _winner(i: int, j: int, p: float) -> int:
    """Who wins with probability ``p`` that ``i`` beats ``j``; a tie goes to the first index."""
    if round(p, 9) == 0.5:
        return min(i, j)
    return i if p > 0.5 else j


def _by_log_odds(n: int, games: Sequence[_Game]) -> list[int]:
    """The order of the strengths whose differences are closest to the log-odds of ``games``.

    Least squares (Massey, 1997). A verdict is no random sample: asked again, a model gives the same one, so
    the error lies in its log-odds. Log-odds without error are fitted exactly, however few the games are, if
    the games connect all candidates. The best of the candidates that nobody beat stands first, even where
    others won by more.
    """
    if not games:
        return list(range(n))
    rows = np.arange(len(games))
    first, second, p = (np.array(column) for column in zip(*games, strict=True))
    differences = np.zeros((len(games), n))
    differences[rows, first], differences[rows, second] = 1.0, -1.0
    p = np.clip(p, _CERTAIN, 1.0 - _CERTAIN)
    strengths = np.linalg.lstsq(differences, np.log(p / (1.0 - p)), rcond=None)[0]
    order = best_first(np.asarray(strengths, dtype=np.float64))
    beaten = {j if _winner(i, j, p_ij) == i else i for i, j, p_ij in games}
    first_place = next((i for i in order if i not in beaten), order[0])
    return [first_place, *(i for i in order if i != first_place)]


def _tournament(candidates: Sequence[int]) -> list[Meeting]:
    """All pairs, round by round: one place stays, the others go round it (the circle method).

    Each candidate is named first about as often as second, which matters where only one order is asked.
    """
    circle: list[int | None] = [int(i) for i in candidates]
    if len(circle) % 2:
        circle.append(None)
    half = len(circle) // 2
    meetings = []
    firsts = dict.fromkeys(circle, 0)
    for _ in range(len(circle) - 1):
        for i, j in zip(circle[:half], reversed(circle[half:]), strict=True):
            if i is not None and j is not None:
                meeting = (i, j) if firsts[i] <= firsts[j] else (j, i)
                firsts[meeting[0]] += 1
                meetings.append(meeting)
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return meetings


def _neighbours(standings: Sequence[int], met: np.ndarray) -> list[Meeting]:
    """From the top, each with the next below that it has not met; a candidate without such a one rests."""
    free, pairs = list(standings), []
    while free:
        i = free.pop(0)
        j = next((k for k in free if not met[i, k]), None)
        if j is not None:
            free.remove(j)
            pairs.append((i, j))
    return pairs
