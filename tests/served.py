"""A server for tests: the real application on a real port, in a thread, with a model of this process.

The processes of ``gram serve`` are left out where a test is not about them: ``Here`` is a ``Worker`` that
asks a model in a thread.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
import uvicorn

from gram.serving.app import make_app
from gram.serving.batcher import Batcher
from gram.serving.facts import About, Facts, facts_of
from gram.serving.limits import Limits
from gram.serving.meters import Meters
from gram.serving.units import Outcome, Unit, answer_units

TOKEN_OF_TESTS = "a-token-of-many-letters"


class Here:
    """A ``Worker`` with a model of this process, asked in a thread; it keeps the batches it was given."""

    def __init__(
        self, model: Any, kind: str = "judge", *, both_orders: bool = True, fingerprint: str = ""
    ) -> None:
        self.model = model
        self.batches: list[list[Any]] = []  # of units
        self.gate = threading.Event()  # closed: batches wait
        self.gate.set()
        self.failure: Exception | None = None  # raised by the next batch
        self.starts = 0
        self._about = About(kind, "fp32", both_orders, fingerprint)

    async def start(self) -> Facts:
        self.starts += 1
        return facts_of(self.model, lambda _: self._about)

    async def ask(self, units: Sequence[Unit]) -> list[Outcome]:
        self.batches.append(list(units))
        return await asyncio.to_thread(self._answer, units)

    async def end(self) -> None:
        self.gate.set()

    def _answer(self, units: Sequence[Unit]) -> list[Outcome]:
        self.gate.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return answer_units(self.model, units)


@dataclass
class Served:
    """A server that runs."""

    url: str
    batcher: Batcher
    meters: Meters
    token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def post(self, path: str, content: Any, **headers: str) -> tuple[int, Any]:
        """Status and JSON of the answer; ``content`` is JSON, or the bytes of a body."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.send(path, body, headers)

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return self.send(path, None, headers)

    def send(self, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        everything = {"Content-Type": "application/json", **self.headers, **names}
        request = urllib.request.Request(self.url + path, body, everything)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self.last_headers = dict(error.headers)
                return error.code, _read(error.read())

    def metric(self, name: str, **labels: str) -> float:
        """A counter's value."""
        value = self.meters._registry.get_sample_value(name, labels or None)
        return value or 0.0


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


@contextmanager
def serving(
    workers: Any, *, limits: Limits | None = None, token: str | None = None, names: Sequence[str] = ("tiny",)
) -> Iterator[Served]:
    """A server for a worker, or for several, for the block."""
    limits, meters = limits or Limits(), Meters()
    batcher = Batcher(workers if isinstance(workers, list) else [workers], limits, meters)
    started = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        app = make_app(batcher, names, limits, meters, token)
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", log_level="error", access_log=False, timeout_keep_alive=75)
        )

        async def run() -> None:
            await batcher.start()
            started.set()
            try:
                await server.serve(sockets=[listening])
            finally:
                await batcher.end()

        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        thread.start()
        assert started.wait(120)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        port = listening.getsockname()[1]
        served = Served(f"http://127.0.0.1:{port}", batcher, meters, token, headers)
        served.get("/health/live")
        try:
            yield served
        finally:
            server.should_exit = True
            thread.join(120)
            assert not thread.is_alive()


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call gives, all at once in threads; what one raises is in its place."""
    results: list[Any] = [None] * len(calls)

    def one(place: int) -> None:
        try:
            results[place] = calls[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


def until(true: Callable[[], Any], seconds: float = 120.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)
