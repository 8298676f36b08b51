"""Our own endpoints: ``/v1/compare``, ``/v1/rank``, ``/v1/reward``.

Knows shapes and panels; knows no queue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request

from gram.errors import DataError
from gram.serving.door import DoorRoute
from gram.serving.panel import Panel, Schedule, mean_log_odds, number, p_a, position_gap
from gram.serving.schemas import (
    CompareAnswer,
    CompareRequest,
    PairOut,
    RankAnswer,
    RankRequest,
    RewardAnswer,
    RewardItem,
    RewardOut,
    RewardRequest,
    usage_of,
)
from gram.serving.service import Service
from gram.serving.units import Outcome
from gram.types import Answer, Chat, Contest, Pair


def own_routes(service: Service) -> APIRouter:
    """The endpoints, for a service."""
    router = APIRouter(route_class=DoorRoute, tags=["gram"])

    @router.post("/v1/compare")
    async def compare(asked: CompareRequest, request: Request) -> CompareAnswer:
        """Which of two answers is better, and how sure the model is."""
        return await compared(service, service.panel(request, asked.model), asked)

    @router.post("/v1/rank")
    async def rank(asked: RankRequest, request: Request) -> RankAnswer:
        """Candidate answers in order, by comparisons of the schedule that is asked for."""
        return await ranked(service, service.panel(request, asked.model), asked)

    @router.post("/v1/reward")
    async def reward(asked: RewardRequest, request: Request) -> RewardAnswer:
        """How good answers are: against a reference, within a group, or alone."""
        panel = service.panel(request, asked.model)
        service.check_count(sum(map(_asks, asked.items)), service.limits.max_items, "answers")
        read = [_read(service, item, f"items[{k}]") for k, item in enumerate(asked.items)]
        pairs = [pair for _, _, pairs in read for pair in pairs]
        alone = [Answer(chat, response) for chat, response, pairs in read if not pairs]
        scores = iter(await panel.score(alone) if alone else [])
        verdicts = iter(await panel.compare(pairs) if pairs else [])
        data = []
        for k, (item, (_, _, its_pairs)) in enumerate(zip(asked.items, read, strict=True)):
            if not its_pairs:
                data.append(_score_out(k, next(scores)))
            elif item.reference is not None:
                data.append(_reference_out(k, next(verdicts)))
            else:
                data.append(_group_out(k, [next(verdicts) for _ in its_pairs]))
        return RewardAnswer(model=service.name, data=data, usage=usage_of(panel.tokens))

    return router


async def compared(service: Service, panel: Panel, asked: CompareRequest) -> CompareAnswer:
    """The verdicts that a request asks for."""
    service.check_count(len(asked.pairs), service.limits.max_items, "pairs")
    pairs = [
        Pair(
            service.chat(pair.prompt, f"pairs[{k}].prompt"),
            service.text(pair.a, f"pairs[{k}].a"),
            service.text(pair.b, f"pairs[{k}].b"),
        )
        for k, pair in enumerate(asked.pairs)
    ]
    outcomes = await panel.compare(pairs)
    data = [pair_out(k, outcome) for k, outcome in enumerate(outcomes)]
    return CompareAnswer(model=service.name, data=data, usage=usage_of(panel.tokens))


async def ranked(service: Service, panel: Panel, asked: RankRequest) -> RankAnswer:
    """The ranking that a request asks for."""
    most = service.limits.max_items if panel.facts.scores else service.limits.max_candidates
    service.check_count(len(asked.candidates), most, "candidates")
    contest = Contest(service.chat(asked.prompt, "prompt"), service.texts(asked.candidates, "candidates"))
    ranking = await panel.rank(contest, Schedule(asked.schedule, asked.seed, asked.budget))
    return RankAnswer(
        model=service.name,
        order=ranking.order,
        best=contest.responses[ranking.order[0]],
        strengths=[float(x) for x in ranking.strengths],
        stderr=[number(float(x)) for x in ranking.stderr],
        p_best=[number(float(x)) for x in ranking.p_best],
        wins=[float(x) for x in ranking.wins],
        comparisons=ranking.comparisons,
        ties=ranking.ties,
        cyclic=number(ranking.cyclic),
        position_gap=number(ranking.position_gap),
        usage=usage_of(panel.tokens),
    )


def _asks(item: RewardItem) -> int:
    return len(item.group) if item.group is not None else 1


def _read(service: Service, item: RewardItem, field: str) -> tuple[Chat, str, list[Pair]]:
    """Prompt and answer, and the answer's pairs with its reference or its group."""
    if item.reference is not None and item.group is not None:
        raise DataError("give a reference or a group, not both", field=field)
    chat = service.chat(item.prompt, f"{field}.prompt")
    response = service.text(item.response, f"{field}.response")
    others = [] if item.reference is None else [service.text(item.reference, f"{field}.reference")]
    others += service.texts(item.group or [], f"{field}.group")
    return chat, response, [Pair(chat, response, other) for other in others]


def pair_out(index: int, outcome: Outcome) -> PairOut:
    """A verdict as JSON."""
    values = None if outcome.values is None else [number(value) for value in outcome.values]
    return PairOut(
        index=index,
        p_a=p_a(outcome),
        log_odds=values[:2] if values else None,
        position_gap=position_gap(outcome),
        mass=values[2:] if values else None,
        tokens_cut=outcome.cut,
        error=outcome.error or None,
    )


def _score_out(index: int, outcome: Outcome) -> RewardOut:
    return RewardOut(
        index=index,
        reward=outcome.values[0] if outcome.values else None,
        probability=None,
        position_gap=None,
        tokens_cut=outcome.cut,
        error=outcome.error or None,
    )


def _reference_out(index: int, outcome: Outcome) -> RewardOut:
    return RewardOut(
        index=index,
        reward=mean_log_odds(outcome),
        probability=p_a(outcome),
        position_gap=position_gap(outcome),
        tokens_cut=outcome.cut,
        error=outcome.error or None,
    )


def _group_out(index: int, outcomes: Sequence[Outcome]) -> RewardOut:
    """The mean probability of beating the others; null if one failed: a mean of fewer is another."""
    error = next((outcome.error for outcome in outcomes if outcome.error), "")
    wins = [p for outcome in outcomes if (p := p_a(outcome)) is not None]
    gaps = [gap for outcome in outcomes if (gap := position_gap(outcome)) is not None]
    mean = None if error else float(np.mean(wins))
    return RewardOut(
        index=index,
        reward=mean,
        probability=mean,
        position_gap=number(float(np.mean(gaps)) if gaps else math.nan),
        tokens_cut=max(outcome.cut for outcome in outcomes),
        error=error or None,
    )
