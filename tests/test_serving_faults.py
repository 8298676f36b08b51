"""What callers do wrong: odd bodies, half bodies, no patience, no token. No wrong number, and no 5xx."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import psutil
import pytest

from gram.serving.limits import Limits
from served import Here, Served, serving, together, until
from test_serving_queue import Longer, ask, hang_up, pair

TOKEN = "a-token-of-many-letters"
GOOD = {"pairs": [{"prompt": "why ?", "a": "aaa", "b": "b"}]}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    limits = Limits(
        max_body_bytes=20_000, max_characters=5_000, max_items=16, max_candidates=6, body_seconds=0.5
    )
    with serving(Here(Longer()), limits=limits) as server:
        yield server


def still_right(served: Served) -> None:
    status, answer = served.post("/v1/compare", GOOD)
    assert (status, answer["data"][0]["log_odds"]) == (200, [2.0, 2.0])


BODIES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"pairs", "JSON decode error"),
    "half": (b'{"pairs": [', "JSON decode error"),
    "nothing": (b"", "required"),
    "a list": (b"[]", "valid dictionary"),
    "a key twice": (b'{"pairs": [{"prompt": "?", "a": "1", "a": "2", "b": "3"}]}', "a key stands twice"),
    "a key twice, later": (b'{"pairs": [], "pairs": []}', "a key stands twice"),
    "no number": (b'{"pairs": NaN}', "NaN is no JSON"),
    "half a character": (b'{"pairs": [{"prompt": "\\ud800", "a": "1", "b": "2"}]}', "surrogate"),
    "half a character in a key": (b'{"\\ud800": 1, "pairs": []}', "unicode"),
    "not UTF-8": (b'{"pairs": "\xff"}', "cannot be read"),
    "no pairs": (b'{"pairs": []}', "at least 1 item"),
    "a number for a text": (b'{"pairs": [{"prompt": "?", "a": 1, "b": "2"}]}', "valid string"),
    "a field spelled wrong": (b'{"pairs": [{"promt": "?", "a": "1", "b": "2"}]}', "required"),
    "an image": (
        b'{"pairs": [{"prompt": [{"role": "user", "content": [{"type": "image_url"}]}], "a": "", "b": ""}]}',
        "image_url",
    ),
    "no role": (b'{"pairs": [{"prompt": [{"content": "?"}], "a": "1", "b": "2"}]}', "expected a string"),
    "brackets": (b"[" * 15_000, "cannot be read"),
    "a deep object": (b'{"a":' * 3_000, "JSON"),
    "a huge number": (b'{"pairs": ' + b"9" * 5_000 + b"}", "cannot be read"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_read_is_422_with_its_place(served: Served, name: str) -> None:
    body, words = BODIES[name]
    status, answer = served.post("/v1/compare", body)
    assert status == 422, answer
    assert words in json.dumps(answer["detail"]) and all("loc" in one for one in answer["detail"])


@pytest.mark.parametrize(
    "path, content",
    [
        ("/v1/compare", b'{"pairs": "' + b"x" * 30_000 + b'"}'),
        ("/v1/compare", {"pairs": [pair("?", "a" * 6_000)]}),
        ("/v1/compare", {"pairs": [pair("?" * 6_000, "a")]}),
        ("/v1/compare", {"pairs": [pair("?", "a")] * 17}),
        ("/v1/rank", {"prompt": "?", "candidates": ["a"] * 7}),
        ("/rerank", {"query": "?", "documents": ["a"] * 7}),
        ("/v1/reward", {"items": [{"prompt": "?", "response": "a", "group": ["b"] * 17}]}),
    ],
)
def test_too_much_is_413(served: Served, path: str, content: Any) -> None:
    assert served.post(path, content)[0] == 413
    still_right(served)


def test_a_body_of_unknown_length_is_counted_as_it_comes(served: Served) -> None:
    """Chunked, 30,000 bytes of at most 20,000."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=120)
    body = iter([b"x" * 1_000] * 30)
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    connection.request("POST", "/v1/compare", body, headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def raw(served: Served, *parts: bytes, close: bool = False) -> socket.socket:
    """A connection that has sent these bytes."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=120)
    for part in parts:
        connection.sendall(part)
    if close:
        connection.close()
    return connection


HEAD = b"POST /v1/compare HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def test_half_a_body(served: Served) -> None:
    """100 callers that hang up in the midst of it; one that goes quiet is told so when its time is over."""
    body = json.dumps(GOOD).encode()
    for _ in range(100):
        raw(served, HEAD % len(body), body[: len(body) // 2], close=True)
    with raw(served, HEAD % len(body), body[:10]) as quiet:
        start = time.monotonic()
        answer = quiet.recv(4096)
        assert b" 408 " in answer and time.monotonic() - start > 0.4
    still_right(served)


def test_a_slow_reader_holds_nobody_up() -> None:
    """30 callers ask for megabytes and do not read them; others are answered meanwhile."""
    limits = Limits(max_characters=400_000)
    with serving(Here(Longer()), limits=limits) as served:
        documents = [letter * 300_000 for letter in "abcdefgh"]
        body = json.dumps({"query": "?", "documents": documents}).encode()
        head = HEAD.replace(b"/v1/compare", b"/rerank") % len(body)
        slow = []
        for _ in range(30):
            connection = raw(served, head, body)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.append(connection)
        for _ in range(20):
            still_right(served)
        for connection in slow:
            connection.close()
        still_right(served)


def test_bodies_that_are_held_are_bounded() -> None:
    """Two of 6,000 bytes wait; a third one has no room and is told to come again; then it has."""
    worker = Here(Longer())
    with serving(worker, limits=Limits(max_held_bytes=15_000)) as served:
        worker.gate.clear()
        waiting = [hang_up(served, pair("?", letter * 6_000)) for letter in "xy"]
        until(lambda: served.metric("gram_units_total", source="new") == 2)
        status, _ = ask(served, pair("?", "z" * 6_000))
        assert status == 429 and served.last_headers["retry-after"] == "1"
        worker.gate.set()
        assert [connection.getresponse().status for connection in waiting] == [200, 200]
        assert ask(served, pair("?", "z" * 6_000))[0] == 200
        for connection in waiting:
            connection.close()


def test_2000_malformed_bodies(served: Served) -> None:
    """A good body with bytes changed, lost and doubled: 200 where it is still one, else 4xx; never 5xx.

    Where it is still one, the number is right for what it says now.
    """
    draw = random.Random(0)
    good = json.dumps(GOOD).encode()
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=120)
    states: dict[int, int] = {}
    for _ in range(2_000):
        body = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            place, kind = draw.randrange(len(body)), draw.randrange(3)
            if kind == 0:
                body[place] = draw.randrange(256)
            elif kind == 1:
                del body[place]
            else:
                body[place:place] = body[place : place + draw.randint(1, 20)]
        connection.request("POST", "/v1/compare", bytes(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        states[answer.status] = states.get(answer.status, 0) + 1
        if answer.status == 200:
            sent = json.loads(bytes(body))["pairs"][0]
            odds = float(len(sent["a"]) - len(sent["b"]))
            assert content["data"][0]["log_odds"] == [odds, odds]
    connection.close()
    assert set(states) <= {200, 400, 422} and states[422] > 1_000 and states[200] > 50
    still_right(served)


def test_other_content_types_and_methods(served: Served) -> None:
    assert served.post("/v1/compare", GOOD, Content_Type="text/plain")[0] == 422
    assert served.get("/v1/compare")[0] == 405
    assert served.post("/nothing", GOOD)[0] == 404
    assert served.post("/v1/limits", GOOD)[0] == 405


def test_a_token_is_asked_for() -> None:
    """At every door but those of health, with the right kind and the whole token."""
    with serving(Here(Longer()), token=TOKEN) as served:
        still_right(served)
        served.headers = {}
        wrong = [
            "",
            TOKEN,
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN}x",
            f"Basic {TOKEN}",
            "Bearer",
            "Bearer \xe9",
        ]
        for header in wrong:
            status, answer = served.post("/v1/compare", GOOD, Authorization=header)
            assert status == 401 and TOKEN not in str(answer), header
        for path in ("/v1/models", "/metrics", "/openapi.json", "/docs", "/v1/limits"):
            assert served.get(path)[0] == 401
            assert served.get(path, Authorization=f"bearer {TOKEN}")[0] == 200
        assert [served.get(f"/health/{name}")[0] for name in ("live", "ready")] == [200, 200]


def test_limits_and_metrics_are_shown(served: Served) -> None:
    status, limits = served.get("/v1/limits")
    assert status == 200 and limits["max_items"] == 16 and limits["deadline_seconds"] == 300
    still_right(served)
    status, text = served.get("/metrics")
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    wanted = "requests_total request_seconds_bucket units_total failed_units_total queue_units "
    wanted += "batch_units_count batch_fill_bucket tokens_total tokens_shared_total worker_deaths_total "
    wanted += "workers_ready"
    assert {f"gram_{name}" for name in wanted.split()} <= names
    assert status == 200 and "why ?" not in text


@pytest.mark.slow
def test_memory_is_flat() -> None:
    """20,000 requests by 8 callers, each its own pair: after the first 5,000 less than 12 MB are added."""
    process = psutil.Process()
    with serving(Here(Longer()), limits=Limits(cache_entries=1_000)) as served:
        host = served.url.removeprefix("http://")

        def many(start: int) -> int:
            connection = http.client.HTTPConnection(host, timeout=60)
            right = 0
            for k in range(start, start + 625):
                body = json.dumps({"pairs": [pair(f"prompt {k}", "a" * (1 + k % 500))]})
                connection.request("POST", "/v1/compare", body, {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                right += answer["data"][0]["log_odds"][0] == k % 500
            connection.close()
            return right

        sizes = []
        for part in range(4):
            done = together([partial(many, 5_000 * part + 625 * caller) for caller in range(8)])
            assert done == [625] * 8
            sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[0] < 12e6, sizes


@pytest.mark.slow
def test_schemathesis_finds_no_5xx() -> None:
    """The suite's own requests from our OpenAPI, right ones and wrong ones, against every endpoint."""
    schemathesis = pytest.importorskip("schemathesis")
    with serving(Here(Longer())) as served:
        schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        asked: dict[str, int] = {}
        for result in schema.get_all_operations():
            operation = result.ok()
            states = run_cases(schemathesis, operation)
            asked[operation.path] = len(states)
            assert max(states) < 500, operation.path
        assert len(asked) > 10 and all(asked.values())
        still_right(served)


def run_cases(schemathesis: Any, operation: Any) -> list[int]:
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode

    states: list[int] = []
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        try:
            strategy = operation.as_strategy(generation_mode=mode)
        except Exception:
            continue

        @given(case=strategy)
        @settings(
            max_examples=20,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            phases=[Phase.generate],
        )
        def ask_it(case: Any) -> None:
            states.append(case.call().status_code)

        try:
            ask_it()
        except Exception as error:
            if "Unsatisfiable" not in type(error).__name__ and "negative" not in str(error):
                raise
    return states
