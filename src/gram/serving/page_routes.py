"""The way to the page: what it needs of Gradio's application is handed on to it, and nothing else.

Gradio has endpoints to upload, to fetch and to share, which nobody gets to here. Every request passes the
door. Gradio is loaded when the page is first asked for. Knows HTTP; knows nothing of what stands on the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp

from gram.serving import pictures
from gram.serving.desk import OverloadedError
from gram.serving.door import AsciiResponse, DoorRoute
from gram.serving.service import Service

if TYPE_CHECKING:
    from gram.serving.page import Page

_READ = ("/", "/config", "/theme.css", "/favicon.ico", "/assets/{path:path}", "/static/{path:path}")
_ASKED = "/gradio_api/run/{name}"

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "frame-ancestors 'none'",
    )
)
"""What the browser may fetch: from this server only, whatever Gradio's pages name."""

_SENT = {"host", "content-type", "accept", "accept-encoding", "x-gram-caller"}
_GIVEN = {"content-type", "content-encoding", "cache-control", "etag", "last-modified", "vary"}

_WORDS = """gram serve: {name}

  POST /v1/compare    which of two answers is better
  POST /v1/rank       answers in order
  POST /v1/reward     rewards for trainers
  POST /v2/rerank     as Cohere, Jina and vLLM
  GET  /docs          all endpoints

A page for people is here when Gradio is: pip install 'gram-rm[ui]'
"""


def page_routes(service: Service) -> APIRouter:
    """The page at ``/``, or words in its place where Gradio is not installed."""
    router = APIRouter(route_class=DoorRoute, include_in_schema=False)
    if find_spec("gradio") is None:
        words = _WORDS.format(name=service.name)
        router.add_api_route("/", lambda: PlainTextResponse(words), methods=["GET"])
        return router
    way = _Way(service)
    for path in _READ:
        router.add_api_route(path, way.show, methods=["GET"])
    router.add_api_route(_ASKED, way.click, methods=["POST"], route_class_override=_ClickRoute)
    return router


class _ClickRoute(DoorRoute):
    """Says on the page why a click got no answer: of an error's answer Gradio's page shows no words."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except OverloadedError as error:
                return _told(str(error))
            except HTTPException as error:
                if error.status_code not in (408, 413, 504):
                    raise  # no click of the page
                return _told(str(error.detail))

        return handle


def _told(words: str) -> Response:
    return AsciiResponse({"data": [pictures.problem(words), "", ""]})  # the page takes as many as a tab shows


class _Event(BaseModel):
    """A click: what stands in the boxes. What else Gradio's client sends is not read."""

    model_config = ConfigDict(strict=True)
    fn_index: int
    data: list[str | None]


class _Way:
    """Hands requests on to Gradio's application."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._making: asyncio.Future[Page] | None = None

    async def show(self, request: Request) -> Response:
        """A part of the page."""
        return await _handed_on((await self._page()).app, request, b"")

    async def click(self, event: _Event, request: Request) -> Response:
        """What a click changes. It is checked here: Gradio logs the texts of an event that it cannot read."""
        page = await self._page()
        if page.boxes.get(event.fn_index) != len(event.data):
            raise HTTPException(422, "the page has no such event")
        return await _handed_on(page.app, request, event.model_dump_json().encode())

    async def _page(self) -> Page:
        """The page, made once: whoever comes meanwhile waits for it, and whoever leaves does not end it."""
        if self._making is None or (self._making.done() and self._making.exception() is not None):
            self._making = asyncio.ensure_future(asyncio.to_thread(_make, self._service))
        return await asyncio.shield(self._making)


def _make(service: Service) -> Page:
    from gram.serving.page import make_page

    return make_page(service)


async def _handed_on(inside: ASGIApp, request: Request, body: bytes) -> Response:
    """What Gradio's application answers."""
    messages: list[MutableMapping[str, Any]] = []
    arrived = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(arrived, None) or await asyncio.Future()  # hanging up is the door's matter

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    await inside(_scope(request), receive, send)
    start, *parts = messages
    answer = Response(b"".join(part.get("body", b"") for part in parts), start["status"])
    for name, value in start["headers"]:
        if name.decode() in _GIVEN:
            answer.headers.append(name.decode(), value.decode("latin-1"))
    answer.headers["Content-Security-Policy"] = _POLICY
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def _scope(request: Request) -> dict[str, Any]:
    """The request as it came, without what routes have noted, and without headers of other sites."""
    kept = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string")
    headers = [(name, value) for name, value in request.scope["headers"] if name.decode() in _SENT]
    scope = {name: request.scope[name] for name in (*kept, "client", "server")}
    return {**scope, "root_path": "", "headers": headers}
