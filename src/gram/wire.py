"""JSON over a pool of connections, from any thread: tries again what may pass, until a deadline.

All requests of a ``Wire`` run on one event loop in a thread of its own. Knows HTTP, and how servers word what
went wrong; knows no model.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Collection, Coroutine, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from gram.bounds import Within, check_number
from gram.errors import ConfigError, ScoringError, UnreachableError

T = TypeVar("T")

PASSES = (429, 502, 503)
"""Statuses after which ``gram serve`` may answer the same request."""
_FIRST, _LONGEST = 0.25, 8.0  # seconds before another try
_LATER = 0.25  # of the time that a server asks for: more by up to this share, so that callers do not meet
_HOPELESS = ("insufficient_quota", "billing_hard_limit_reached")  # of 429: waiting does not help
_PORTS = 65_536
_SHOWN = 300  # characters of what a server says
_PATIENT = 3  # tries without an answer, after which waiting is told

_log = logging.getLogger("gram.wire")


class Wire:
    """A server, and how to reach it.

    Args:
        url: without a path, or with the prefix of a proxy.
        token: sent with every request, and never shown.
        deadline: seconds for one request, all tries together.
        connections: open at a time.
        patience: seconds for one try; None: what is left of the deadline.
        passes: statuses after which the same request may be answered.

    Raises:
        ConfigError: no URL, one with a password in it, a token that is none, or numbers that make no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline: float = 300.0,
        connections: int = 64,
        patience: float | None = None,
        passes: Collection[int] = PASSES,
    ) -> None:
        _check_url(url)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ConfigError("the token cannot be sent: it holds a line break, or no ASCII")
        check_number("deadline", deadline, float, Within(0, open="low"))
        check_number("connections", connections, int, Within(1))
        self._url = url.rstrip("/")
        self._token = token
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._deadline = deadline
        self._connections = connections
        self._patience = patience
        self._passes = passes
        self._lock = threading.Lock()
        self._process = 0
        self._waits = False  # has been told
        self._loop: asyncio.AbstractEventLoop
        self._client: httpx2.AsyncClient

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` gives, waited for; it runs beside that of other threads."""
        future = self.start(work)
        try:
            return future.result()
        finally:
            future.cancel()  # where an interrupt came first, nobody waits for it

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin ``work`` on the loop of this process."""
        with self._lock:
            if self._process != os.getpid():  # the first time, or in a fork, into which threads do not come
                self._open()
                self._process = os.getpid()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def get(self, path: str) -> Any:
        """The JSON at ``path``. See ``post``."""
        return await self._send("GET", path, None)

    async def post(self, path: str, content: Any) -> Any:
        """The JSON answer to ``content``.

        Raises:
            RefusedError: the server refuses, as it would again.
            UnreachableError: no answer in time.
            ScoringError: an answer that is no JSON.
        """
        return await self._send("POST", path, content)

    async def _send(self, method: str, path: str, content: Any) -> Any:
        end = time.monotonic() + self._deadline
        wait, reason, tries = _FIRST, "no answer", 0
        while (left := end - time.monotonic()) > 0:
            headers = {"X-Deadline-Seconds": f"{left:.3f}"}
            after = 0.0
            patience = left if self._patience is None else min(left, self._patience)
            try:
                answer = await self._client.request(
                    method, path, json=content, headers=headers, timeout=httpx2.Timeout(patience)
                )
            except httpx2.RequestError as error:  # no connection, or an answer that breaks off
                reason = str(error) or type(error).__name__
            else:
                if answer.status_code == 200:
                    return self._json(path, answer)
                reason = f"{answer.status_code}: {self._shown(_detail(answer))}"
                if answer.status_code not in self._passes or any(word in answer.text for word in _HOPELESS):
                    raise RefusedError(f"{self._url}{path}: {reason}", answer.status_code)
                after = _seconds(answer.headers.get("Retry-After"))
            pause = max(wait * random.uniform(0.5, 1.0), after * random.uniform(1.0, 1.0 + _LATER))
            wait = min(2 * wait, _LONGEST)
            if time.monotonic() + pause > end:
                break
            tries += 1
            if tries == _PATIENT and not self._waits:
                self._waits = True
                _log.warning("%s: %s; trying again for up to %.3g s", self._url, reason, self._deadline)
            await asyncio.sleep(pause)
        raise UnreachableError(f"{self._url}{path}: {reason} (given up after {self._deadline:g} s)")

    def _json(self, path: str, answer: httpx2.Response) -> Any:
        try:
            return answer.json()
        except (ValueError, RecursionError):
            start = self._shown(answer.text)
            raise ScoringError(f"{self._url}{path}: the answer is no JSON: {start!r}") from None

    def _shown(self, text: str) -> str:
        """What a server says, without the token, which some repeat."""
        text = " ".join(text.split())
        return (text.replace(self._token, "[token]") if self._token else text)[:_SHOWN]

    def _open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = httpx2.AsyncClient(
            base_url=self._url,
            headers=self._headers,
            limits=httpx2.Limits(
                max_connections=self._connections, max_keepalive_connections=self._connections
            ),
            trust_env=False,
        )
        threading.Thread(target=self._loop.run_forever, name="gram-wire", daemon=True).start()


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What the coroutines give, in their order; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


class RefusedError(ScoringError):
    """A server that refuses a request, with the status of its answer; 0 in another process."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def _check_url(url: str) -> None:
    """Refuse what no request can be sent to.

    Raises:
        ConfigError: naming it.
    """
    wrong = f"'{url}' is no address of a server, such as http://127.0.0.1:8000"
    if not url.startswith(("http://", "https://")):
        raise ConfigError(wrong)
    if "@" in url.split("://", 1)[1].split("/", 1)[0]:
        raise ConfigError("a name and a password in an address would be shown: use a token")
    try:
        read = httpx2.URL(url)
        read.host.encode("idna")  # as it is looked up
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise ConfigError(f"{wrong}: {error}") from None
    if not read.host or "%" in read.host:
        raise ConfigError(f"{wrong}: it names no host")
    if read.port is not None and not 0 < read.port < _PORTS:
        raise ConfigError(f"{wrong}: a port is a number from 1 to {_PORTS - 1}")


def _detail(answer: httpx2.Response) -> str:
    """What went wrong, in the words of FastAPI, of OpenAI and those who follow it, or of anybody."""
    try:
        content = answer.json()
        detail = content["detail"] if "detail" in content else content.get("error", content)
        if isinstance(detail, list):
            return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in detail[:3])
        return str(detail["message"] if isinstance(detail, dict) else detail)
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.text


def _seconds(text: str | None) -> float:
    """Seconds of a ``Retry-After``: a number, or the date until which to wait."""
    if not text:
        return 0.0
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until.tzinfo else 0.0
