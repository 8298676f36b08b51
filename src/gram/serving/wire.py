"""JSON over a pool of connections, from any thread: tries again what may pass, until a deadline.

All requests of a process run on one event loop in a thread of its own. Knows HTTP; knows no model.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx2

from gram.bounds import Within, check_number
from gram.errors import ConfigError, ScoringError

T = TypeVar("T")

_PASSES = (429, 502, 503)  # statuses after which the same request may be answered
_FIRST, _LONGEST = 0.25, 8.0  # seconds before another try


class Wire:
    """A server, and how to reach it.

    Args:
        url: without a path, or with the prefix of a proxy.
        token: sent with every request.
        deadline: seconds for one request, all tries together.
        connections: open at a time.

    Raises:
        ConfigError: no URL, or numbers that make no sense.
    """

    def __init__(
        self, url: str, *, token: str | None = None, deadline: float = 300.0, connections: int = 64
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"'{url}' is no address of a server, such as http://127.0.0.1:8000")
        check_number("deadline", deadline, float, Within(0, open="low"))
        check_number("connections", connections, int, Within(1))
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._deadline = deadline
        self._connections = connections
        self._lock = threading.Lock()
        self._process = 0
        self._loop: asyncio.AbstractEventLoop
        self._client: httpx2.AsyncClient

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` gives, waited for; it runs beside that of other threads."""
        return self.start(work).result()

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
            ScoringError: no answer in time, or the server refuses.
        """
        return await self._send("POST", path, content)

    async def _send(self, method: str, path: str, content: Any) -> Any:
        end = time.monotonic() + self._deadline
        wait, reason = _FIRST, "no answer"
        while (left := end - time.monotonic()) > 0:
            headers = {"X-Deadline-Seconds": f"{left:.3f}"}
            after = 0.0
            try:
                answer = await self._client.request(
                    method, path, json=content, headers=headers, timeout=httpx2.Timeout(left)
                )
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
            else:
                if answer.status_code == 200:
                    return answer.json()
                reason = f"{answer.status_code}: {_detail(answer)}"
                if answer.status_code not in _PASSES:
                    break
                after = _seconds(answer.headers.get("Retry-After"))
            pause = max(after, wait) * random.uniform(0.5, 1.0)  # not all callers at one moment
            wait = min(2 * wait, _LONGEST)
            if time.monotonic() + pause > end:
                break
            await asyncio.sleep(pause)
        raise ScoringError(f"{self._url}{path}: {reason}")

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


def _detail(answer: httpx2.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in detail[:3])
    return str(detail["message"] if isinstance(detail, dict) else detail)


def _seconds(text: str | None) -> float:
    try:
        return float(text) if text else 0.0
    except ValueError:
        return 0.0
