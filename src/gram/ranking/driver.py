"""Runs contests: schedules on one side, a model on the other, all contests in lockstep.

Knows a model only as ``PreferenceModel``. Equal answers are one candidate to the model: a comparison is
asked once per pair of different texts, and equal texts tie at 0.5 unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gram.errors import ConfigError, DataError, ScoringError
from gram.ranking import bradley_terry
from gram.ranking.schedules import SCHEDULES, Schedule
from gram.types import Contest, FloatArray, Pair, PreferenceModel, PromptLike, as_chat


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The outcome of one contest between n candidates.

    Attributes:
        order: n indices, best first; ties go to the first index.
        strengths: (n,) Bradley-Terry strengths in natural-log odds, of mean 0.
        stderr: (n,) their standard errors.
        wins: (n,) mean probability of beating the opponents that were met; 0.5 without any.
        p: (n, n) probability that i beats j, both orders averaged; NaN: did not meet; diagonal 0.5.
        comparisons: pairs the model was asked about (it may look at each in both orders).
    """

    order: list[int]
    strengths: FloatArray
    stderr: FloatArray
    wins: FloatArray
    p: FloatArray
    comparisons: int


def rank(
    model: PreferenceModel, prompt: PromptLike, responses: Sequence[str], schedule: str = "round_robin"
) -> Ranking:
    """Ranks candidate answers to one prompt (a plain string or messages). See ``rank_many``."""
    return rank_many(model, [Contest(as_chat(prompt), tuple(responses))], schedule)[0]


def best_of_n(model: PreferenceModel, prompt: PromptLike, responses: Sequence[str]) -> int:
    """The index of the best of the candidate answers, by round robin; the first one if several tie."""
    return rank(model, prompt, responses).order[0]


def rank_many(
    model: PreferenceModel, contests: Sequence[Contest], schedule: str = "round_robin"
) -> list[Ranking]:
    """Ranks the candidates of every contest.

    All contests move together: what they ask in one round goes to the model in one call, so a model that
    batches well is kept busy. The outcome is that of ranking them one by one.

    Raises:
        ConfigError: there is no such schedule.
        DataError: a contest has no candidates.
        ScoringError: the model gave no verdict on a pair, or not one verdict per pair.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f"there is no schedule '{schedule}'; there is: {', '.join(SCHEDULES)}")
    games = [_play(contest, number, SCHEDULES[schedule]) for number, contest in enumerate(contests, start=1)]
    states = [_advance(game, None) for game in games]
    while live := [(k, pairs) for k, pairs in enumerate(states) if not isinstance(pairs, Ranking)]:
        answers = _ask(model, [pair for _, pairs in live for pair in pairs])
        ends = np.cumsum([len(pairs) for _, pairs in live])
        for (k, _), p_a in zip(live, np.split(answers, ends[:-1]), strict=True):
            states[k] = _advance(games[k], p_a)
    return [state for state in states if isinstance(state, Ranking)]


def _ask(model: PreferenceModel, pairs: Sequence[Pair]) -> FloatArray:
    verdicts = model.compare(pairs)
    if len(verdicts) != len(pairs):
        raise ScoringError(f"the model gave {len(verdicts)} verdicts on {len(pairs)} pairs")
    return verdicts.p_a


_Game: TypeAlias = Generator[list[Pair], FloatArray, Ranking]


def _advance(game: _Game, p_a: FloatArray | None) -> list[Pair] | Ranking:
    """Hands a game what it asked for (nothing, to start it): its next questions, or its outcome."""
    try:
        return next(game) if p_a is None else game.send(p_a)
    except StopIteration as end:
        return end.value


def _play(contest: Contest, number: int, make: Callable[[int], Schedule]) -> _Game:
    """One contest: yields the pairs that a model must judge, receives their (k,) probabilities."""
    responses, name = contest.responses, contest.id or f"number {number}"
    if not responses:
        raise DataError(f"contest {name} has no candidates", field="responses")
    first_of: dict[str, int] = {}
    same = [first_of.setdefault(text, i) for i, text in enumerate(responses)]
    p = np.full((len(responses), len(responses)), np.nan)
    np.fill_diagonal(p, 0.5)
    comparisons = 0
    schedule = make(len(responses))
    try:
        wanted = next(schedule)
        while True:
            meetings = [(same[i], same[j]) for i, j in wanted]
            new = list({(min(m), max(m)): m for m in meetings if np.isnan(p[m])}.values())
            if new:
                p_a = yield [Pair(contest.prompt, responses[i], responses[j]) for i, j in new]
                for (i, j), p_ij in zip(new, p_a, strict=True):
                    if np.isnan(p_ij):
                        raise ScoringError(f"no verdict on candidates {i} and {j} of contest {name}")
                    p[i, j], p[j, i] = p_ij, 1.0 - p_ij
                comparisons += len(new)
            wanted = schedule.send(np.array([p[m] for m in meetings]))
    except StopIteration as end:
        return _ranking(end.value, p[np.ix_(same, same)], comparisons)


def _ranking(order: list[int], p: FloatArray, comparisons: int) -> Ranking:
    met = ~np.isnan(p)
    np.fill_diagonal(met, False)
    opponents = met.sum(axis=1)
    total = np.where(met, p, 0.0).sum(axis=1)
    wins = np.divide(total, opponents, out=np.full(len(p), 0.5), where=opponents > 0)
    strengths = bradley_terry.fit(p)
    return Ranking(order, strengths.value, strengths.stderr, wins, p, comparisons)
