"""Runs contests: schedules on one side, a model on the other, all contests in lockstep.

Knows a model only as ``PreferenceModel``. Equal answers are one candidate: the schedule and the strengths
know each text once, and all its copies get what is found out about it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TypeAlias

import numpy as np

from gram.bounds import SEEDS, Within, check_number
from gram.errors import ConfigError, DataError, ScoringError, WrongTypeError
from gram.messages import as_instances
from gram.ranking.schedules import SCHEDULES, Schedule
from gram.ranking.table import Ranking, Table, with_copies
from gram.types import Contest, Pair, PreferenceModel, PromptLike, Verdicts


def rank(
    model: PreferenceModel,
    prompt: PromptLike,
    responses: Sequence[str],
    schedule: str = "round_robin",
    *,
    seed: int = 0,
    budget: int | None = None,
) -> Ranking:
    """Ranks candidate answers to one prompt (a plain string or messages). See ``rank_many``.

    Example:
        >>> class Longest:
        ...     def compare(self, pairs):
        ...         log_odds = np.array([[float(len(x.a) - len(x.b))] * 2 for x in pairs])
        ...         return Verdicts(log_odds, np.ones_like(log_odds))
        >>> rank(Longest(), "Why?", ["Because.", "No.", "It is so."]).order
        [2, 0, 1]
    """
    contest = Contest(prompt, responses)
    return rank_many(model, [contest], schedule, seed=seed, budget=budget)[0]


def best_of_n(
    model: PreferenceModel,
    prompt: PromptLike,
    responses: Sequence[str],
    schedule: str = "round_robin",
    *,
    seed: int = 0,
    budget: int | None = None,
) -> int:
    """The index of the best of the candidate answers; the first one if several tie. See ``rank_many``.

    Example:
        >>> class Longest:
        ...     def compare(self, pairs):
        ...         log_odds = np.array([[float(len(x.a) - len(x.b))] * 2 for x in pairs])
        ...         return Verdicts(log_odds, np.ones_like(log_odds))
        >>> best_of_n(Longest(), "Why?", ["Because.", "No.", "It is so."])
        2
    """
    return rank(model, prompt, responses, schedule, seed=seed, budget=budget).order[0]


def rank_many(
    model: PreferenceModel,
    contests: Sequence[Contest],
    schedule: str = "round_robin",
    *,
    seed: int = 0,
    budget: int | None = None,
) -> list[Ranking]:
    """Ranks the candidates of every contest.

    All contests move together: what they ask in one round goes to the model in one call, so a model that
    batches well is kept busy. The outcome is that of ranking them one by one. Equal answers are one
    candidate, and each copy gets what is found out about it.

    Args:
        schedule: which candidates are compared, a name in ``SCHEDULES``.
        seed: of the order in which the candidates of each contest enter the schedule.
        budget: most comparisons per contest. A schedule that wants more is stopped there, and the order is
            then that of the Bradley-Terry strengths; a candidate that met nobody stands in the middle.

    Raises:
        ConfigError: there is no such schedule, or the budget is not positive.
        DataError: a contest has no candidates.
        WrongTypeError: the model cannot compare, or something else than contests.
        ScoringError: the model gave no verdict on a pair, or not one verdict per pair.

    Example:
        >>> class Longest:
        ...     def compare(self, pairs):
        ...         log_odds = np.array([[float(len(x.a) - len(x.b))] * 2 for x in pairs])
        ...         return Verdicts(log_odds, np.ones_like(log_odds))
        >>> contests = [Contest((), ("a", "bb")), Contest((), ("ccc", "d", "ee"))]
        >>> [ranking.order for ranking in rank_many(Longest(), contests)]
        [[1, 0], [0, 2, 1]]
    """
    if not isinstance(model, PreferenceModel):
        raise WrongTypeError("expected a model that compares, as gram.load gives", field="model")
    contests = as_instances(contests, Contest, "contests")
    enter = _entrance(schedule, seed, budget)
    games = [_play(contest, number, enter, budget) for number, contest in enumerate(contests, start=1)]
    states = [_advance(game, None) for game in games]
    while questions := [(k, pairs) for k, pairs in enumerate(states) if not isinstance(pairs, Ranking)]:
        verdicts = _ask(model, [pair for _, pairs in questions for pair in pairs])
        start = 0
        for k, pairs in questions:
            stop = start + len(pairs)
            states[k] = _advance(games[k], _part(verdicts, start, stop))
            start = stop
    return [state for state in states if isinstance(state, Ranking)]


async def rank_asking(
    ask: Callable[[list[Pair]], Awaitable[Verdicts]],
    contest: Contest,
    schedule: str = "round_robin",
    *,
    seed: int = 0,
    budget: int | None = None,
) -> Ranking:
    """``rank`` for a model that answers later: each round's pairs go to ``ask``, which gives their verdicts.

    Raises:
        ConfigError, DataError, ScoringError: as ``rank_many``.
    """
    game = _play(contest, 1, _entrance(schedule, seed, budget), budget)
    state = _advance(game, None)
    while not isinstance(state, Ranking):
        state = _advance(game, await ask(state))
    return state


def check_schedule(schedule: str, seed: int, budget: int | None) -> None:
    """Check the options of ``rank_many`` before any work is done.

    Raises:
        ConfigError: there is no such schedule, or a number is out of its range.
    """
    if not isinstance(schedule, str) or schedule not in SCHEDULES:
        raise ConfigError(f"there is no schedule '{schedule}'; there is: {', '.join(SCHEDULES)}")
    check_number("seed", seed, int, SEEDS)
    if budget is not None:
        check_number("budget", budget, int, Within(1))


def _entrance(schedule: str, seed: int, budget: int | None) -> Callable[[int], Schedule]:
    """What begins the named schedule for n candidates, if it and its options make sense."""
    check_schedule(schedule, seed, budget)
    return lambda n: SCHEDULES[schedule](n, np.random.default_rng(seed))


def _ask(model: PreferenceModel, pairs: Sequence[Pair]) -> Verdicts:
    verdicts = model.compare(pairs)
    if len(verdicts) != len(pairs):
        raise ScoringError(f"the model gave {len(verdicts)} verdicts on {len(pairs)} pairs")
    return verdicts


def _part(verdicts: Verdicts, start: int, stop: int) -> Verdicts:
    bounded = None if verdicts.bounded is None else verdicts.bounded[start:stop]
    return Verdicts(verdicts.log_odds[start:stop], verdicts.mass[start:stop], bounded=bounded)


_Game: TypeAlias = Generator[list[Pair], Verdicts, Ranking]


def _advance(game: _Game, verdicts: Verdicts | None) -> list[Pair] | Ranking:
    """Gives a game the verdicts it asked for (None starts it); returns its next questions, or its outcome."""
    try:
        return next(game) if verdicts is None else game.send(verdicts)
    except StopIteration as end:
        return end.value


def _play(contest: Contest, number: int, enter: Callable[[int], Schedule], budget: int | None) -> _Game:
    """One contest: yields the pairs that a model must judge, receives its verdicts on them."""
    responses, name = contest.responses, contest.id or f"number {number}"
    if not responses:
        raise DataError(f"contest {name} has no candidates", field="responses")
    texts = list(dict.fromkeys(responses))
    table = Table([responses.index(text) for text in texts], name)
    schedule = enter(len(texts))
    order: list[int] | None = None
    try:
        request = next(schedule)
        while True:
            new = table.unknown(request)
            rest = len(new) if budget is None else budget - table.comparisons
            if affordable := new[:rest]:
                verdicts = yield [Pair(contest.prompt, texts[i], texts[j]) for i, j in affordable]
                table.enter(affordable, verdicts)
            if len(new) > rest:
                break
            request = schedule.send(np.array([table.p[meeting] for meeting in request]))
    except StopIteration as end:
        order = end.value
    return with_copies(table.ranking(order), [texts.index(text) for text in responses])
