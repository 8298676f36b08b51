"""What endpoints ask: comparisons, scores and rankings, made of units, whatever kind of model answers.

A model that scores is asked for scores, each answer once, and its log-odds are their differences. Knows units
and the batcher; knows no HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gram.decisions import Decisions, Request
from gram.errors import ConfigError, DataError, ScoringError
from gram.ranking import Ranking
from gram.ranking.driver import rank_asking
from gram.serving.batcher import Batcher
from gram.serving.facts import Facts
from gram.serving.units import Decision, Outcome, Reading, Unit, Whole
from gram.types import Answer, Contest, Pair, Usage, Verdicts


class Schedule(NamedTuple):
    """Who meets whom in a ranking, see ``gram.rank``."""

    name: str = "round_robin"
    seed: int = 0
    budget: int | None = None


class Decided(NamedTuple):
    """The answers to typed questions, and of how many prompts of each the state was shortened."""

    decisions: Decisions
    truncated: dict[str, int]


class Panel:
    """One request's questions to the model.

    Args:
        batcher: has the model.
        caller: on whose account the request waits.

    Attributes:
        tokens: that were read for the request so far, its share of its batches.
    """

    def __init__(self, batcher: Batcher, caller: str) -> None:
        self._batcher = batcher
        self._caller = caller
        self._admitted = False
        self.tokens = 0

    @property
    def facts(self) -> Facts:
        """Of the model."""
        return self._batcher.facts

    async def compare(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """The outcome of each pair; of a model that scores, the difference of two scores."""
        if not self.facts.scores:
            return await self._ask(pairs)
        answers = [Answer(pair.prompt, text) for pair in pairs for text in (pair.a, pair.b)]
        scores = await self._ask(answers)
        sides = zip(scores[::2], scores[1::2], strict=True)
        return [_difference(a, b, self.facts.slope) for a, b in sides]

    async def score(self, answers: Sequence[Answer]) -> list[Outcome]:
        """The outcome of each answer.

        Raises:
            ConfigError: the model only compares.
        """
        if not self.facts.scores:
            raise ConfigError(
                "the model is a judge: it compares answers and gives a single one no score; ask /v1/compare, "
                "/v1/rank or /rerank, or give /v1/reward a reference or a group"
            )
        return await self._ask(answers)

    async def score_texts(self, texts: Sequence[str]) -> list[Outcome]:
        """The outcome of each text that holds prompt and answer.

        Raises:
            ConfigError: the model cannot tell a prompt from an answer in a text, and needs to.
        """
        if not self.facts.reads_texts:
            raise ConfigError(
                f"the model is a {self.facts.kind}, and cannot take prompt and answer apart in a text: "
                "send the conversation as messages"
            )
        return await self._ask([Whole(text) for text in texts])

    async def decide(self, request: Request) -> Decided:
        """The answers to typed questions; each waits and is remembered by itself.

        Raises:
            ConfigError: the model answers none.
            DataError: one of them cannot be asked.
        """
        if not self.facts.decides:
            raise ConfigError(f"the model is a {self.facts.kind}: typed questions are for judges")
        named = request.questions.items()
        outcomes = await self._ask([Decision.of(request.state, one, request.orders) for _, one in named])
        answers, truncated = {}, {}
        for name, outcome in zip(request.questions, outcomes, strict=True):
            if outcome.decided is None:
                raise DataError(f"cannot be answered: {outcome.error}", field=f"questions.{name}")
            answers[name], truncated[name] = outcome.decided, outcome.cut
        return Decided(
            Decisions(answers, Usage(tokens=self.tokens, truncated=sum(truncated.values()))), truncated
        )

    async def read(self, answer: Reading) -> Outcome:
        """The outcome of an answer that is read token by token.

        Raises:
            ConfigError: the model tells nothing of tokens.
        """
        if not self.facts.reads:
            raise ConfigError(f"this model ({self.facts.kind}) tells nothing of the tokens of an answer")
        return (await self._ask([answer]))[0]

    async def rank(self, contest: Contest, how: Schedule) -> Ranking:
        """The ranking of the candidates.

        Raises:
            ScoringError: the model gave no number for a comparison, and so there is no ranking.
        """

        async def verdicts(pairs: list[Pair]) -> Verdicts:
            outcomes = await self.compare(pairs)
            for pair, outcome in zip(pairs, outcomes, strict=True):
                if outcome.values is None:
                    i, j = contest.responses.index(pair.a), contest.responses.index(pair.b)
                    raise ScoringError(f"no verdict on candidates {i} and {j}: {outcome.error}")
            table = np.array([outcome.values for outcome in outcomes])  # (n, 4)
            return Verdicts(table[:, :2], table[:, 2:])

        return await rank_asking(verdicts, contest, how.name, seed=how.seed, budget=how.budget)

    async def _ask(self, units: Sequence[Unit]) -> list[Outcome]:
        outcomes = await self._batcher.ask(units, self._caller, admitted=self._admitted)
        self._admitted = True  # a request that was let in is not turned away between its rounds
        self.tokens += sum(outcome.tokens for outcome in outcomes)
        return outcomes


def _difference(a: Outcome, b: Outcome, slope: float) -> Outcome:
    """The outcome of a pair from those of its answers: the same log-odds in both orders."""
    cut, error = a.cut + b.cut, a.error or b.error
    if a.values is None or b.values is None:
        return Outcome(None, cut=cut, error=error)
    odds = slope * (a.values[0] - b.values[0])
    return Outcome((odds, odds, 1.0, 1.0), cut=cut)


def p_a(outcome: Outcome) -> float | None:
    """P(a is better) of a pair, averaged over the orders that were asked.

    Example:
        >>> p_a(Outcome((math.log(3), 0.0, 1.0, 1.0))), p_a(Outcome((0.0, math.nan, 1.0, math.nan)))
        (0.625, 0.5)
    """
    if outcome.values is None:
        return None
    return float(Verdicts(np.array([outcome.values[:2]]), np.array([outcome.values[2:]])).p_a[0])


def position_gap(outcome: Outcome) -> float | None:
    """P(a) when shown first minus P(a) when shown second; None where only one order was asked."""
    if outcome.values is None:
        return None
    verdicts = Verdicts(np.array([outcome.values[:2]]), np.array([outcome.values[2:]]))
    return number(float(verdicts.position_gap[0]))


def mean_log_odds(outcome: Outcome) -> float | None:
    """Log-odds that a is better, averaged over the orders that were asked.

    Example:
        >>> mean_log_odds(Outcome((1.0, 2.0, 1.0, 1.0))), mean_log_odds(Outcome((1.0, math.nan, 1.0, 1.0)))
        (1.5, 1.0)
    """
    if outcome.values is None:
        return None
    asked = [odds for odds in outcome.values[:2] if not math.isnan(odds)]
    return sum(asked) / len(asked)


def number(value: float) -> float | None:
    """``value``, or None where it is none (NaN)."""
    return value if math.isfinite(value) else None
