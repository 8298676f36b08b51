"""Typed questions over HTTP: ``/v1/systemone`` and ``/v1/decisions``.

Bodies are read and answers written by ``gram.decisions.wire``. Knows panels; knows no queue.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from gram.decisions.wire import (
    decisions_answers,
    decisions_request,
    diagnostics,
    systemone_answers,
    systemone_request,
)
from gram.errors import WrongTypeError
from gram.messages import kind_of
from gram.serving.door import AsciiResponse, DoorRoute
from gram.serving.panel import Panel
from gram.serving.service import Service

_ANY = "jev-latest"
"""The name that clients of ``/v1/systemone`` send where their user names no model."""

_SYSTEMONE = {
    "state": "I was charged twice for one order, and nobody answers the phone.",
    "questions": {
        "refund": {"type": "noul", "instructions": "Does the customer ask for money back?"},
        "tone": {
            "type": "choice",
            "instructions": "How does the customer sound?",
            "criteria": {"calm": "At ease", "angry": "Loud, or close to it"},
        },
        "urgency": {
            "type": "score",
            "instructions": "How urgent is it?",
            "criteria": ["low", "some", "high"],
        },
    },
}
_DECISIONS = {
    "input": "I was charged twice for one order, and nobody answers the phone.",
    "questions": [
        {"type": "predicate", "name": "refund", "instructions": "Does the customer ask for money back?"},
        {"type": "choice", "instructions": "How does the customer sound?", "choices": ["calm", "angry"]},
        {"type": "score", "instructions": "How urgent is it?", "levels": ["low", "some", "high"]},
    ],
}


def question_routes(service: Service) -> APIRouter:
    """The endpoints, for a service."""
    router = APIRouter(route_class=DoorRoute, tags=["typed questions"])

    @router.post("/v1/systemone")
    async def systemone(
        asked: Annotated[dict[str, Any], Body(examples=[_SYSTEMONE])], request: Request
    ) -> Response:
        """Typed questions about one state, by name."""
        panel = _panel(service, request, asked)
        wanted = systemone_request(_known(asked, "state", "questions", "assets"), service.orders)
        service.check_state(wanted.state)
        answers, truncated = await panel.decide(wanted)
        told = diagnostics(answers, truncated)
        content = {"answers": systemone_answers(wanted, answers), "x_gram": told}
        return AsciiResponse({"model": service.name, **content, "usage": _usage(panel)})

    @router.post("/v1/decisions")
    async def decisions(
        asked: Annotated[dict[str, Any], Body(examples=[_DECISIONS])], request: Request
    ) -> Response:
        """Typed questions about one input, in a list."""
        panel = _panel(service, request, asked)
        wanted = decisions_request(_known(asked, "input", "questions"), service.orders)
        service.check_state(wanted.state)
        answers, truncated = await panel.decide(wanted)
        told = diagnostics(answers, truncated)
        content = {"answers": decisions_answers(asked, wanted, answers), "x_gram": told}
        return AsciiResponse({"model": service.name, **content, "usage": _usage(panel)})

    return router


def _panel(service: Service, request: Request, asked: dict[str, Any]) -> Panel:
    model = asked.get("model")
    if model is not None and not isinstance(model, str):
        raise WrongTypeError(f"expected a string, got {kind_of(model)}", field="model")
    return service.panel(request, None if model == _ANY else model)


def _known(asked: dict[str, Any], *names: str) -> dict[str, Any]:
    """The fields that are read; clients send others at the top that mean something elsewhere."""
    return {name: asked[name] for name in names if name in asked}


def _usage(panel: Panel) -> dict[str, int]:
    return {"input_tokens": panel.tokens, "output_tokens": 0}
