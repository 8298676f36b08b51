"""Servers in processes of their own, and callers of them: threads with a connection each.

A caller sends its next request when it has its answer. Knows HTTP; knows no question and no model.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

READY_SECONDS = 120  # that a server may take until it has its model
TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16"}


class Load(NamedTuple):
    """What callers got: an answer and its seconds for each request, and the seconds of all."""

    answers: list[Any]
    latencies: list[float]
    seconds: float

    def numbers(self) -> dict[str, float]:
        """Requests per second, and quantiles of the latency in seconds."""
        quantiles = map(float, np.quantile(self.latencies, [0.5, 0.95, 0.99]))
        rates = {"seconds": self.seconds, "per_second": len(self.answers) / self.seconds}
        return rates | dict(zip(("p50", "p95", "p99"), quantiles, strict=True))


def load_of(address: str, path: str, requests: Sequence[Any], callers: int) -> Load:
    """Send all ``requests`` to ``path``, by so many callers at once."""
    places, lock = iter(range(len(requests))), threading.Lock()
    answers, latencies = [None] * len(requests), [0.0] * len(requests)

    def caller() -> None:
        with contextlib.closing(http.client.HTTPConnection(address, timeout=600)) as connection:
            while True:
                with lock:
                    place = next(places, None)
                if place is None:
                    return
                start = time.perf_counter()
                answers[place] = post(connection, path, requests[place])
                latencies[place] = time.perf_counter() - start

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if any(answer is None for answer in answers):
        raise SystemExit(f"{address}{path}: not every request was answered")
    return Load(answers, latencies, seconds)


def post(connection: http.client.HTTPConnection, path: str, content: Any) -> Any:
    """The JSON answer."""
    connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status}: {body[:500]!r}")
    return json.loads(body)


def metrics(address: str) -> dict[str, float]:
    """Counters of ``gram serve``, without those that have labels."""
    with contextlib.closing(http.client.HTTPConnection(address)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}


@contextmanager
def gram_serve(model: str, dtype: str, *options: object) -> Iterator[str]:
    """Host and port of ``gram serve``, which ends with the block."""
    command = [sys.executable, "-m", "gram", "serve", "--model", model, "--dtype", dtype, "--port", "0"]
    command += [str(option) for option in options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("gram serve: ") and " at http://" in line:
                break
        else:
            raise SystemExit("".join(lines))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with _ended(process):
            yield line.rsplit("http://", 1)[1].strip()


@contextmanager
def transformers_serve(model: str, dtype: str) -> Iterator[str]:
    """Host and port of ``transformers serve``, which ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", TORCH_NAMES[dtype]]
    address = f"127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process, _ended(process):
        end = time.monotonic() + READY_SECONDS
        while not _healthy(address):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{' '.join(command)}: does not start; run it by itself to see why")
            time.sleep(0.2)
        yield address


@contextmanager
def _ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)


def _healthy(address: str) -> bool:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
