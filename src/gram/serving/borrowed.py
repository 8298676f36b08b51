"""Endpoints in the shapes of others: rerank, score and classify, and OpenRLHF's ``/get_reward``.

Knows shapes and panels; knows no queue.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import numpy as np
from fastapi import APIRouter, Query, Request

from gram.errors import ConfigError, DataError, ScoringError
from gram.messages import as_chat
from gram.ranking.schedules import best_first
from gram.rl.openrlhf import END_TOKENS, answer_in
from gram.rl.rows import reference_text
from gram.serving.door import DoorRoute
from gram.serving.facts import Facts
from gram.serving.panel import Panel, Schedule, mean_log_odds, p_a, position_gap
from gram.serving.schemas import usage_of
from gram.serving.service import Service
from gram.serving.shapes import (
    ClassifyAnswer,
    ClassifyOut,
    ClassifyRequest,
    Document,
    OpenRlhfAnswer,
    OpenRlhfRequest,
    RerankAnswer,
    RerankRequest,
    RerankResult,
    ScoreAnswer,
    ScoreOut,
    ScoreRequest,
)
from gram.serving.units import Outcome
from gram.types import Answer, Contest, FloatArray, Message, Pair, sigmoid

_EndTokens: TypeAlias = Annotated[
    Sequence[str], Query(description="Removed from the ends of answers, besides those of published models")
]
_ROUND_ROBIN = 16  # documents up to which a judge compares all with all


def borrowed_routes(service: Service) -> APIRouter:
    """The endpoints, for a service."""
    router = APIRouter(route_class=DoorRoute, tags=["as other servers"])

    @router.post("/rerank")
    @router.post("/v1/rerank")
    @router.post("/v2/rerank")
    async def rerank(asked: RerankRequest, request: Request) -> RerankAnswer:
        """Documents, best first, as Cohere, Jina and vLLM give them."""
        panel = service.panel(request, asked.model)
        return await _rerank(service, panel, asked)

    @router.post("/score")
    @router.post("/v1/score")
    async def score(asked: ScoreRequest, request: Request) -> ScoreAnswer:
        """Scores of answers, as vLLM gives them, from a model that scores."""
        panel = service.panel(request, asked.model)
        activate = _activates(panel.facts, asked.use_activation)
        answers = _answers(service, asked)
        outcomes = await panel.score(answers)
        data = [
            ScoreOut(index=k, score=_activated(outcome, activate), error=outcome.error or None)
            for k, outcome in enumerate(outcomes)
        ]
        usage = usage_of(panel.tokens)
        return ScoreAnswer(id=_id("score"), created=_now(), model=service.name, data=data, usage=usage)

    @router.post("/classify")
    @router.post("/v1/classify")
    async def classify(asked: ClassifyRequest, request: Request) -> ClassifyAnswer:
        """The score of a conversation, or of each text, as vLLM gives it, from a model that scores."""
        panel = service.panel(request, asked.model)
        activate = _activates(panel.facts, asked.use_activation)
        if asked.input is None:
            outcomes = await panel.score([_last_answer(service, asked)])
        else:
            outcomes = await panel.score_texts(_inputs(service, asked))
        data = [
            ClassifyOut(index=k, probs=[_activated(outcome, activate)], error=outcome.error or None)
            for k, outcome in enumerate(outcomes)
        ]
        usage = usage_of(panel.tokens)
        return ClassifyAnswer(id=_id("classify"), created=_now(), model=service.name, data=data, usage=usage)

    @router.post("/get_reward")
    async def get_reward(
        asked: OpenRlhfRequest,
        request: Request,
        neutral: float | None = Query(
            None, allow_inf_nan=False, description="Reward of an answer that has none; gram_failed is then 1"
        ),
        end_token: _EndTokens = (),
    ) -> OpenRlhfAnswer:
        """Rewards as OpenRLHF asks for them; a judge needs a reference answer in each label."""
        panel = service.panel(request, None)
        return await _openrlhf(service, panel, asked, neutral, (*end_token, *END_TOKENS))

    return router


async def _rerank(service: Service, panel: Panel, asked: RerankRequest) -> RerankAnswer:
    most = service.limits.max_items if panel.facts.scores else service.limits.max_candidates
    service.check_count(len(asked.documents), most, "documents")
    texts = service.texts([_text(document) for document in asked.documents], "documents")
    contest = Contest(service.chat(asked.query, "query"), texts)
    worth = await _worth(panel, contest)
    relevance = sigmoid(worth)  # to be shown only: many are exactly 0 or 1, where nothing is in order
    order = best_first(worth)[: asked.top_n or None]
    results = [
        RerankResult(
            index=place,
            document=Document(text=texts[place]) if asked.return_documents else None,
            relevance_score=float(relevance[place]),
        )
        for place in order
    ]
    usage = usage_of(panel.tokens)
    return RerankAnswer(
        id=_id("rerank"), model=service.name, results=results, usage=usage, meta={"tokens": {}}
    )


def _text(document: str | Document) -> str:
    return document if isinstance(document, str) else document.text


async def _worth(panel: Panel, contest: Contest) -> FloatArray:
    """(n,) log-odds whose logistic function is the relevance of each document.

    Of a scalar model they are its scores, as vLLM takes them. Else they are log-odds of beating an average
    one of these documents: of a judge its Bradley-Terry strengths, of others ``slope`` times the scores.
    """
    if not panel.facts.scores:
        schedule = "round_robin" if len(contest.responses) <= _ROUND_ROBIN else "swiss"
        return (await panel.rank(contest, Schedule(schedule))).strengths
    outcomes = await panel.score([Answer(contest.prompt, text) for text in contest.responses])
    failed = next((k for k, outcome in enumerate(outcomes) if outcome.values is None), None)
    if failed is not None:
        raise ScoringError(f"no score of documents[{failed}]: {outcomes[failed].error}")
    scores = np.array([outcome.values[0] for outcome in outcomes if outcome.values])
    return scores if panel.facts.kind == "scalar" else panel.facts.slope * (scores - scores.mean())


def _answers(service: Service, asked: ScoreRequest) -> list[Answer]:
    queries = [asked.queries] if isinstance(asked.queries, str) else asked.queries
    documents = [asked.documents] if isinstance(asked.documents, str) else asked.documents
    service.check_count(len(documents), service.limits.max_items, "documents")
    if not documents or len(queries) not in (1, len(documents)):
        raise DataError(
            f"{len(queries)} queries and {len(documents)} documents: one query, or one for each document",
            field="queries",
        )
    chats = [service.chat(query, f"queries[{k}]") for k, query in enumerate(queries)]
    chats *= len(documents) // len(chats)
    return [
        Answer(chat, text) for chat, text in zip(chats, service.texts(documents, "documents"), strict=True)
    ]


def _last_answer(service: Service, asked: ClassifyRequest) -> Answer:
    if asked.messages is None:
        raise DataError("missing: send messages, or input", field="messages")
    *prompt, last = as_chat(asked.messages, "messages") or (Message("", ""),)
    if not prompt or last.role != "assistant":
        raise DataError("the last message must be the assistant's answer to the others", field="messages")
    return Answer(service.chat(prompt, "messages"), service.text(last.content, "messages"))


def _inputs(service: Service, asked: ClassifyRequest) -> list[str]:
    """The texts; where there are messages too it is not known what is meant."""
    if asked.messages is not None:
        raise DataError("stands beside messages: send one of them", field="input")
    texts = [asked.input] if isinstance(asked.input, str) else list(asked.input or [])
    service.check_count(len(texts), service.limits.max_items, "texts")
    if not texts or "" in texts:
        raise DataError("is empty, or holds an empty text", field="input")
    return service.texts(texts, "input")


def _activates(facts: Facts, use_activation: bool | None) -> bool:
    """Whether a score goes through the logistic function."""
    if use_activation and facts.kind != "scalar":
        raise ConfigError(f"use_activation is for scalar models, and this is a {facts.kind}")
    return facts.kind == "scalar" and use_activation is not False


def _activated(outcome: Outcome, activate: bool) -> float | None:
    if outcome.values is None:
        return None
    return float(sigmoid(np.array(outcome.values[0]))) if activate else outcome.values[0]


async def _openrlhf(
    service: Service,
    panel: Panel,
    asked: OpenRlhfRequest,
    neutral: float | None,
    end_tokens: Sequence[str],
) -> OpenRlhfAnswer:
    labels = asked.labels if asked.labels is not None else [None] * len(asked.query)
    if not len(asked.query) == len(asked.prompts) == len(labels):
        counts = f"{len(asked.query)} queries, {len(asked.prompts)} prompts and {len(labels)} labels"
        raise DataError(counts, field="query")
    service.check_count(len(labels), service.limits.max_items, "queries")
    rows: list[Pair | Answer | str] = []
    for k, row in enumerate(zip(asked.query, asked.prompts, labels, strict=True)):
        try:
            rows.append(_row(service, panel.facts, k, *row, end_tokens))
        except DataError as error:  # a fault of this row costs no other
            rows.append(str(error))
            service.meters.failures.inc()
    outcomes = [Outcome(None, error=row) if isinstance(row, str) else None for row in rows]
    pairs = {k: row for k, row in enumerate(rows) if isinstance(row, Pair)}
    answers = {k: row for k, row in enumerate(rows) if isinstance(row, Answer)}
    verdicts = dict(zip(pairs, await panel.compare(list(pairs.values())) if pairs else [], strict=True))
    scores = dict(zip(answers, await panel.score(list(answers.values())) if answers else [], strict=True))
    told = [outcome or verdicts.get(k) or scores[k] for k, outcome in enumerate(outcomes)]
    return _openrlhf_answer(told, neutral)


def _row(
    service: Service,
    facts: Facts,
    k: int,
    query: str,
    prompt: str,
    label: object,
    end_tokens: Sequence[str],
) -> Pair | Answer:
    """One sample: its answer beside the reference in its label, or alone where the model scores."""
    answer = answer_in(service.text(query, f"query[{k}]"), service.text(prompt, f"prompts[{k}]"), end_tokens)
    chat = service.chat(prompt, f"prompts[{k}]")
    if facts.scores:
        return Answer(chat, answer)
    reference = reference_text(label, f"labels[{k}]")
    if reference is None:
        raise DataError("missing: a judge needs a reference answer", field=f"labels[{k}]")
    return Pair(chat, answer, service.text(reference, f"labels[{k}]"))


def _openrlhf_answer(outcomes: Sequence[Outcome], neutral: float | None) -> OpenRlhfAnswer:
    rewards: list[float | None] = []
    scores: list[float | None] = []
    for outcome in outcomes:
        if outcome.values is None:
            rewards.append(neutral)
            scores.append(None if neutral is None else 0.5)
        elif len(outcome.values) == 1:
            rewards.append(outcome.values[0])
            scores.append(outcome.values[0])
        else:
            rewards.append(mean_log_odds(outcome))
            scores.append(p_a(outcome))
    logs = {
        "gram_failed": [float(outcome.values is None) for outcome in outcomes],
        "gram_position_gap": [
            (position_gap(outcome) or 0.0) if outcome.values and len(outcome.values) > 1 else 0.0
            for outcome in outcomes
        ],
    }
    errors = [outcome.error or None for outcome in outcomes]
    return OpenRlhfAnswer(rewards=rewards, scores=scores, extra_logs=logs, errors=errors)


def _id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def _now() -> int:
    return int(time.time())
