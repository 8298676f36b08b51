"""The application: endpoints, errors as answers, and the life of the workers behind it.

Knows FastAPI; knows no socket and no command.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gram.decisions.orders import ORDERS
from gram.errors import ConfigError, DataError, GramError
from gram.serving.batcher import Batcher
from gram.serving.borrowed import borrowed_routes
from gram.serving.desk import OverloadedError, TooMuchError, UnavailableError
from gram.serving.door import ERROR_TYPES, AsciiResponse, Door, Gate
from gram.serving.limits import Limits
from gram.serving.meters import Meters
from gram.serving.own import own_routes
from gram.serving.page_routes import page_routes
from gram.serving.questions import question_routes
from gram.serving.reference import reference_routes
from gram.serving.service import Service
from gram.version import __version__

_ABOUT = """A GRAM reward model: which of two answers is better, in both orders, with its probability.

A number that the model did not give is null, and `error` says why."""


def make_app(
    batcher: Batcher,
    names: Sequence[str],
    limits: Limits,
    meters: Meters,
    token: str | None = None,
    orders: int = ORDERS,
) -> Gate:
    """The application for a model.

    Args:
        batcher: has the model; whoever made it starts and ends it.
        names: of the model, its own first.
        token: that callers must send; None: everybody is let in.
        orders: of the options of typed questions.
    """
    service = Service(batcher, tuple(names), limits, orders, meters)
    app = FastAPI(title="gram serve", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    app.state.door = Door(limits, meters)
    app.include_router(own_routes(service))
    app.include_router(borrowed_routes(service))
    app.include_router(question_routes(service))
    app.include_router(_status_routes(service, meters))
    app.include_router(reference_routes())
    app.include_router(page_routes(service))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(GramError, _refused)
    app.add_exception_handler(HTTPException, _http)
    return Gate(app, meters, token)


def _status_routes(service: Service, meters: Meters) -> APIRouter:
    router = APIRouter(tags=["about the server"])
    start = int(time.time())

    def card() -> dict[str, Any]:
        facts = asdict(service.batcher.facts)
        return {"id": service.name, "object": "model", "created": start, "owned_by": "gram", **facts}

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model that is served, in a list as OpenAI's, and as clients of typed questions read it."""
        day = time.strftime("%Y-%m-%d", time.gmtime(start))
        about = {"name": service.name, "description": "a GRAM reward model", "release_date": day}
        return {"object": "list", "data": [card()], "models": [about]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """The model that is served, if it has this name."""
        if name not in service.names:
            raise HTTPException(404, f"there is no model {name!r} here; there is: {service.name}")
        return card()

    @router.get("/v1/limits")
    async def limits() -> dict[str, float]:
        """What the server takes and how long it waits."""
        return asdict(service.limits)

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The server answers."""
        return {"status": "live"}

    @router.get("/health/ready", responses={503: {"description": "No process has the model"}})
    async def ready(response: Response) -> dict[str, str]:
        """A process has the model."""
        response.status_code = 200 if service.batcher.ready else 503
        return {"status": "ready" if service.batcher.ready else "not ready"}

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters, in Prometheus' text format."""
        return Response(meters.text(), media_type="text/plain; version=0.0.4")

    return router


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """A request that is not of its shape: where and why, without what stood there."""
    assert isinstance(error, RequestValidationError)
    detail = [{"loc": list(one["loc"]), "msg": _words(one), "type": one["type"]} for one in error.errors()]
    return _answer(422, detail)


def _words(error: Any) -> str:
    return f"{error['msg']}: {error['ctx']['error']}" if error["type"] == "json_invalid" else error["msg"]


async def _http(_: Request, error: Exception) -> JSONResponse:
    """An error of HTTP: no such path, too much, too late."""
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, str(error.detail), dict(error.headers or {}))


async def _refused(_: Request, error: Exception) -> JSONResponse:
    """An error of ours, by whose fault it is."""
    match error:
        case OverloadedError(seconds=seconds):
            return _answer(429, str(error), {"Retry-After": str(seconds)})
        case TooMuchError():
            return _answer(413, str(error))
        case UnavailableError():
            return _answer(503, str(error), {"Retry-After": "2"})
        case DataError(field=field, reason=reason):
            loc = ["body", *([field] if field else [])]
            return _answer(422, [{"loc": loc, "msg": reason, "type": "value_error"}])
        case ConfigError():
            return _answer(400, str(error))
    return _answer(422, str(error))  # the model gave no number for what was sent


def _answer(status: int, detail: Any, headers: dict[str, str] | None = None) -> JSONResponse:
    if isinstance(detail, str):
        detail = {"error_type": ERROR_TYPES.get(status, "invalid_request_error"), "message": detail}
    return AsciiResponse({"detail": detail}, status, headers)
