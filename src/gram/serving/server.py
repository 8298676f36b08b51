"""``gram serve``: a socket, the processes with the model, and the application between them, until a signal.

Knows uvicorn and signals; knows no endpoint.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from gram.decisions.orders import check_orders
from gram.errors import ConfigError
from gram.serving.apart import Apart
from gram.serving.app import make_app
from gram.serving.batcher import Batcher
from gram.serving.door import Gate
from gram.serving.facts import About
from gram.serving.limits import MOST_TOKENS, Limits
from gram.serving.meters import Meters
from gram.serving.options import ServeOptions
from gram.types import RewardModel
from gram.workers import Share

_KEEP_ALIVE = 75  # seconds that a connection may be idle: longer than clients keep theirs


def serve(
    make: Callable[[Share], RewardModel],
    about: Callable[[RewardModel], About],
    model: str,
    options: ServeOptions,
    workers: int,
) -> dict[str, Any]:
    """Serve a model until SIGTERM or an interrupt; then finish what was taken. Returns counts.

    Args:
        make: gives the model in each of ``workers`` processes.
        about: what the model says of itself, asked there.
        model: its folder or name, by which it can be asked for.

    Raises:
        ConfigError: it cannot listen there, or must not.
        GramError: the model cannot be loaded.
    """
    check_orders(options.orders)
    token = options.token()
    with _bound(options) as listening:
        seats = [Apart(make, Share(number, workers), about) for number in range(workers)]
        return asyncio.run(_serve(seats, names_of(model), options, token, listening))


def names_of(model: str) -> tuple[str, ...]:
    """By what a model can be asked for: a folder by its name, and as it was given.

    Example:
        >>> names_of("owner/name")
        ('owner/name',)
    """
    folder = Path(model)
    return (folder.resolve().name, model) if folder.is_dir() else (model,)


@contextmanager
def _bound(options: ServeOptions) -> Iterator[socket.socket]:
    """A socket at the address, which nobody can connect to before the model is there."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[
            0
        ]  # without the protocol asyncio would wait to send (Nagle)
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {options.host}: {error.strerror}") from error
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {options.host}, port {options.port}: {error.strerror}"
            ) from error
        yield listening


async def _serve(
    seats: Sequence[Apart],
    names: Sequence[str],
    options: ServeOptions,
    token: str | None,
    listening: socket.socket,
) -> dict[str, Any]:
    start = time.monotonic()
    meters = Meters()
    limits = Limits(max_queue=options.max_queue)
    batcher = Batcher(seats, limits, meters)
    try:
        facts = await batcher.start()
        most = options.max_batch_tokens or MOST_TOKENS[facts.device]
        batcher.limits = limits = replace(limits, max_batch_tokens=most)
        gate = make_app(batcher, names, limits, meters, token, options.orders)
        host, port = listening.getsockname()[:2]
        place = f"[{host}]" if ":" in host else host
        words = f"gram serve: {names[0]} ({facts.kind}, {facts.dtype}) at http://{place}:{port}"
        server = _Server(_configured(gate, limits), words)
        await server.serve(sockets=[listening])
    finally:
        await batcher.end()
    return {
        "model": names[0],
        "dtype": facts.dtype,
        "requests": gate.answered,
        **meters.totals(),
        "seconds": round(time.monotonic() - start, 2),
    }


def _configured(gate: Gate, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        gate,
        lifespan="off",
        log_level="error",
        access_log=False,  # what is asked is nobody's business
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=limits.drain_seconds,
        limit_concurrency=limits.max_connections,
    )


class _Server(uvicorn.Server):
    """Says where it listens; stops at a signal as uvicorn does, and leaves none behind: the end is ours."""

    def __init__(self, config: uvicorn.Config, words: str) -> None:
        super().__init__(config)
        self._words = words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._words, file=sys.stderr, flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
