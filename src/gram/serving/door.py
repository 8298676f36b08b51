"""What every request passes: its body is read strictly and within limits, its time is short, all is counted.

A caller that hangs up takes its units out of the queue. Knows HTTP and limits; knows no model.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import traceback
from base64 import b64decode
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import PurePath
from typing import Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from gram.serving.desk import OverloadedError
from gram.serving.limits import Limits
from gram.serving.meters import Meters

_GONE = 499  # nginx' status for a caller that hung up; nobody reads it, but it is counted
_log = logging.getLogger("gram.serving")

ERROR_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""What clients call an error, by its status; the others are the request's."""

_OPEN = ("/health/live", "/health/ready")


@dataclass
class Door:
    """What the door needs to know.

    Attributes:
        held: bytes of the bodies of all requests that are not answered yet.
    """

    limits: Limits
    meters: Meters
    held: int = field(default=0, init=False)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Account for a body, if there is room for it."""
        if self.held + size > self.limits.max_held_bytes:
            raise OverloadedError(f"requests of {self.held} bytes are not answered yet", 1)
        self.held += size
        try:
            yield
        finally:
            self.held -= size


class StrictRequest(Request):
    """A request whose body is read within limits, and whose JSON says everything once."""

    @property
    def _limits(self) -> Limits:
        return self.app.state.door.limits

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            declared = self.headers.get("content-length", "")
            if declared.isdecimal() and int(declared) > self._limits.max_body_bytes:
                self._refuse_size()
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    self._body = await self._read()
            except TimeoutError:
                raise HTTPException(408, "the body did not arrive in time") from None
        return self._body

    async def _read(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in self.stream():
            size += len(part)
            if size > self._limits.max_body_bytes:
                self._refuse_size()
            parts.append(part)
        return b"".join(parts)

    def _refuse_size(self) -> NoReturn:
        raise HTTPException(413, f"a body has at most {self._limits.max_body_bytes} bytes")

    async def json(self) -> Any:
        data = await self.body()
        try:
            return json.loads(data, object_pairs_hook=_said_once, parse_constant=_no_number)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, _UnreadableError) else "cannot be read"
            raise json.JSONDecodeError(reason, "", 0) from None


class _UnreadableError(ValueError):
    pass


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _UnreadableError("a key stands twice in one object")
    return values


def _no_number(text: str) -> NoReturn:
    raise _UnreadableError(f"{text} is no JSON")


class AsciiResponse(JSONResponse):
    """JSON in ASCII, for answers that quote a request: it may hold half a character."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


class DoorRoute(APIRoute):
    """A route behind the door."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            request = StrictRequest(request.scope, request.receive)
            try:
                size = len(await request.body())
            except ClientDisconnect:
                return Response(status_code=_GONE)
            seconds = _deadline(request)
            with request.app.state.door.holding(size):
                return await _while_wanted(request, inner(request), seconds)

        return handle


async def _while_wanted(
    request: StrictRequest, answer: Coroutine[Any, Any, Response], seconds: float
) -> Response:
    """The answer, if it comes in time and before the caller hangs up."""
    working = asyncio.ensure_future(answer)
    hanging_up = asyncio.ensure_future(request.receive())  # after the body, nothing else can come
    try:
        await asyncio.wait({working, hanging_up}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if hanging_up.done():
            return Response(status_code=_GONE)
        raise HTTPException(504, f"no answer within {seconds:g} s")
    finally:
        for task in (working, hanging_up):
            task.cancel()
        await asyncio.gather(working, hanging_up, return_exceptions=True)


def _deadline(request: StrictRequest) -> float:
    most = request.app.state.door.limits.deadline_seconds
    text = request.headers.get("x-deadline-seconds")
    if text is None:
        return most
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise HTTPException(400, "X-Deadline-Seconds must be a number above 0")
    return min(most, seconds)


class Gate:
    """The outermost layer: lets in who has the token, and counts every answer with its status and time.

    Args:
        app: what is behind.
        token: that callers must send as ``Authorization: Bearer TOKEN``; None: everybody is let in. A browser
            asks its reader for it, and sends it as the password of any name (Basic).

    Attributes:
        answered: requests so far.
    """

    def __init__(self, app: ASGIApp, meters: Meters, token: str | None) -> None:
        self.answered = 0
        self._app = app
        self._meters = meters
        self._digest = sha256(token.encode()).digest() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def counting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._lets_in(scope):
                await self._app(scope, receive, counting)
            else:
                await _unauthorised(counting)
        except Exception as error:  # a bug; Starlette has answered 500
            tell(error)
        finally:
            self.answered += 1
            route = scope.get("route")
            endpoint = route.path if route is not None else "none"
            self._meters.requests.labels(endpoint, status).inc()
            self._meters.seconds.labels(endpoint).observe(time.monotonic() - start)

    def _lets_in(self, scope: Scope) -> bool:
        if self._digest is None or scope["path"] in _OPEN:
            return True
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = sent.partition(b" ")
        if kind.lower() == b"basic":
            token = _password(token)
        # Digests are of one length, and take the same time whatever the token has in common with ours.
        fits = hmac.compare_digest(sha256(token.strip()).digest(), self._digest)
        return fits and kind.lower() in (b"bearer", b"basic")


def _password(sent: bytes) -> bytes:
    try:
        return b64decode(sent.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def tell(error: Exception) -> None:
    """Say where a bug is, without its message, which may hold what was sent."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("%s at %s:%s", type(error).__name__, PurePath(last.filename).name, last.lineno)


async def _unauthorised(send: Callable[[Any], Awaitable[None]]) -> None:
    ways = (b"Bearer", b'Basic realm="gram serve: the token is the password", charset="UTF-8"')
    headers = [(b"content-type", b"application/json"), *((b"www-authenticate", way) for way in ways)]
    detail = {"error_type": ERROR_TYPES[401], "message": "send the token: Authorization: Bearer"}
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": detail}).encode()})
