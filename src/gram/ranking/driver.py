"""Runs contests: schedules on one side, a model on the other, all contests in lockstep.

Knows a model only as ``PreferenceModel``. Equal answers are one candidate to the model: a comparison is
asked once per pair of different texts, and equal texts tie at 0.5 unasked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gram.bounds import Within, check_number
from gram.errors import ConfigError, DataError, ScoringError, WrongTypeError
from gram.messages import as_instances
from gram.ranking import bradley_terry
from gram.ranking.schedules import SCHEDULES, Meeting, Schedule, best_first
from gram.types import Contest, FloatArray, Pair, PreferenceModel, PromptLike, Verdicts


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The outcome of one contest between n candidates.

    Attributes:
        order: n indices, best first; ties go to the first index.
        strengths: (n,) Bradley-Terry strengths in natural-log odds, of mean 0.
        stderr: (n,) their standard errors.
        p_best: (n,) probability of being the best, given these errors.
        wins: (n,) mean probability of beating the opponents that were met; 0.5 without any.
        p: (n, n) probability that i beats j, both orders averaged; NaN: did not meet; diagonal 0.5.
        comparisons: pairs the model was asked about (it may look at each in both orders).
        ties: how many of these the model did not decide: its two orders named different winners, or the
            probability is exactly 0.5.
        cyclic: share of cyclic triples (i beats j beats k beats i) among the triples that met in full and
            without a tie; NaN where there are none.
        position_gap: mean of P(shown first wins) between the two orders, see ``Verdicts``; NaN: not known.
    """

    order: list[int]
    strengths: FloatArray
    stderr: FloatArray
    p_best: FloatArray
    wins: FloatArray
    p: FloatArray
    comparisons: int
    ties: int
    cyclic: float
    position_gap: float


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
    batches well is kept busy. The outcome is that of ranking them one by one.

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
            states[k] = _advance(games[k], Verdicts(verdicts.log_odds[start:stop], verdicts.mass[start:stop]))
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


def _entrance(schedule: str, seed: int, budget: int | None) -> Callable[[int], Schedule]:
    """What begins the named schedule for n candidates, if it and its options make sense."""
    if not isinstance(schedule, str) or schedule not in SCHEDULES:
        raise ConfigError(f"there is no schedule '{schedule}'; there is: {', '.join(SCHEDULES)}")
    check_number("seed", seed, int, Within(0))
    if budget is not None:
        check_number("budget", budget, int, Within(1))
    return lambda n: SCHEDULES[schedule](n, np.random.default_rng(seed))


def _ask(model: PreferenceModel, pairs: Sequence[Pair]) -> Verdicts:
    verdicts = model.compare(pairs)
    if len(verdicts) != len(pairs):
        raise ScoringError(f"the model gave {len(verdicts)} verdicts on {len(pairs)} pairs")
    return verdicts


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
    first_of: dict[str, int] = {}
    same = [first_of.setdefault(text, i) for i, text in enumerate(responses)]
    table = _Table(len(responses), name)
    schedule = enter(len(responses))
    order: list[int] | None = None
    try:
        request = next(schedule)
        while True:
            meetings = [(same[i], same[j]) for i, j in request]
            new = table.unknown(meetings)
            rest = len(new) if budget is None else budget - table.comparisons
            if affordable := new[:rest]:
                verdicts = yield [Pair(contest.prompt, responses[i], responses[j]) for i, j in affordable]
                table.enter(affordable, verdicts)
            if len(new) > rest:
                break
            request = schedule.send(np.array([table.p[m] for m in meetings]))
    except StopIteration as end:
        order = end.value
    return table.ranking(order, same)


class _Table:
    """What is known of one contest's candidates, by the index of the first of equal texts."""

    def __init__(self, n: int, name: str) -> None:
        self.p = np.full((n, n), np.nan)
        np.fill_diagonal(self.p, 0.5)
        self.comparisons = self.ties = 0
        self._name = name
        self._gaps: list[float] = []

    def unknown(self, meetings: Sequence[Meeting]) -> list[Meeting]:
        """The meetings without a probability so far, each once, whichever candidate is named first."""
        return list({(min(m), max(m)): m for m in meetings if np.isnan(self.p[m])}.values())

    def enter(self, meetings: Sequence[Meeting], verdicts: Verdicts) -> None:
        p_a = verdicts.p_a
        for (i, j), p_ij in zip(meetings, p_a, strict=True):
            if np.isnan(p_ij):
                raise ScoringError(f"no verdict on candidates {i} and {j} of contest {self._name}")
            self.p[i, j], self.p[j, i] = p_ij, 1.0 - p_ij
        orders_differ = verdicts.log_odds[:, 0] * verdicts.log_odds[:, 1] < 0  # False where one is NaN
        self.ties += int(np.sum(orders_differ | (p_a == 0.5)))
        self.comparisons += len(meetings)
        self._gaps += [float(gap) for gap in verdicts.position_gap if not np.isnan(gap)]

    def ranking(self, order: list[int] | None, same: Sequence[int]) -> Ranking:
        """The outcome for all candidates, equal ones included; without ``order``, that of the strengths."""
        p = self.p[np.ix_(same, same)]
        met = ~np.isnan(p)
        np.fill_diagonal(met, False)
        opponents = met.sum(axis=1)
        total = np.where(met, p, 0.0).sum(axis=1)
        wins = np.divide(total, opponents, out=np.full(len(p), 0.5), where=opponents > 0)
        strengths = bradley_terry.fit_strengths(p)
        return Ranking(
            order=best_first(strengths.value) if order is None else order,
            strengths=strengths.value,
            stderr=strengths.stderr,
            p_best=bradley_terry.probability_best(strengths),
            wins=wins,
            p=p,
            comparisons=self.comparisons,
            ties=self.ties,
            cyclic=cyclic_share(p),
            position_gap=float(np.mean(self._gaps)) if self._gaps else float("nan"),
        )


def cyclic_share(p: FloatArray) -> float:
    """Share of cyclic triples in an (n, n) matrix of win probabilities; NaN where no triple met in full.

    A triple counts if all three pairs met and none tied. Of three decided pairs, two results in eight make a
    cycle: verdicts by coin give 0.25.

    Example:
        >>> cyclic_share(np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]]))
        1.0
    """
    beats = np.where(np.isnan(p), False, np.round(p, 9) > 0.5).astype(np.float64)
    decided = beats + beats.T
    triples = np.trace(decided @ decided @ decided) / 6
    cycles = np.trace(beats @ beats @ beats) / 3
    return float(cycles / triples) if triples else float("nan")
