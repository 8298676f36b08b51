"""``gram serve`` itself: processes, signals, addresses and tokens."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import gram
from conftest import make_preferences, run, wait_for_end
from gram.errors import ConfigError
from gram.serving.options import ServeOptions
from gram.types import Pair
from served import together, until

pytest.importorskip("fastapi", reason="the extra serve is not installed")
ROOT = Path(__file__).parent.parent


class Command:
    """``gram serve`` in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gram", "serve", "--port", "0", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stderr is not None
        lines = iter(self.process.stderr.readline, "")
        self.started = next(line for line in lines if line.startswith("gram serve: "))
        self.url = self.started.split(" at ")[-1].strip()

    def workers(self) -> list[int]:
        """Process ids of those that have a model."""
        children = psutil.Process(self.process.pid).children()
        return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]

    def stop(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """The result, once it has ended with exit code 0."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def post(self, pairs: list[Pair]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=120)
        items = [{"prompt": pair.prompt[-1].content, "a": pair.a, "b": pair.b} for pair in pairs]
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/compare", json.dumps({"pairs": items}), headers)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, content


@contextmanager
def command(*arguments: object) -> Iterator[Command]:
    served = Command(*arguments)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
        served.process.communicate()


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [
        Pair(item.pair.prompt[-1].content, item.pair.a, item.pair.b) for item in make_preferences(60, seed=3)
    ]


@pytest.mark.slow
def test_two_workers_are_killed_and_come_back(judge_folder: Path, pairs: list[Pair]) -> None:
    """Killed while 60 callers ask: each hears 503 or the right number, and then all get the right number.

    The last requests are on their way when it is told to stop: they are answered before it ends.
    """
    expected = gram.load(judge_folder).compare(pairs).p_a
    with command("--model", judge_folder, "--workers", 2) as served:
        assert "judge (judge, fp32)" in served.started
        killed: list[int] = []

        def kill() -> None:
            killed.extend(served.workers())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

        calls: list[Any] = [partial(served.post, [pair]) for pair in pairs]
        answers = together([*calls, kill])[:-1]
        assert len(killed) == 2
        for (status, answer), p_a in zip(answers, expected, strict=True):
            assert status in (200, 503)
            assert status == 503 or answer["data"][0]["p_a"] == pytest.approx(p_a, abs=1e-6)
        remote = gram.RemoteModel(served.url)
        assert remote.compare(pairs).p_a == pytest.approx(expected, abs=1e-6)
        wait_for_end(killed)
        fresh = [Pair("which one ?", f"the bread {k}", "the silver") for k in range(40)]
        on_their_way: list[Any] = [partial(served.post, [pair]) for pair in fresh]
        result: list[Any] = []

        def stop() -> None:
            until(lambda: psutil.Process(served.process.pid).net_connections())
            result.append(served.stop())

        last = together([*on_their_way, stop])[:-1]
        answered = [one for one in last if isinstance(one, tuple)]
        assert answered and {status for status, _ in answered} == {200}
        assert all(isinstance(one, tuple | ConnectionError) for one in last)
    [counts] = result
    assert counts["model"] == "judge" and counts["worker_deaths"] >= 1 and counts["failed_units"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_told(judge_folder: Path, number: int) -> None:
    with command("--model", judge_folder) as served:
        workers = served.workers()
        assert len(workers) == 1
        assert served.post([Pair("why ?", "a", "b")])[0] == 200
        result = served.stop(number)
    assert (result["requests"], result["failed_units"], result["worker_deaths"]) == (1, 0, 0)
    wait_for_end(workers)


@pytest.mark.slow
def test_no_process_outlives_it(judge_folder: Path) -> None:
    with command("--model", judge_folder) as served:
        workers = served.workers()
        served.process.kill()
        served.process.wait()
    wait_for_end(workers)


def test_others_are_let_in_with_a_token_only(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "server.example"):
        code, _, err = run(capsys, "serve", "--model", judge_folder, "--host", host)
        assert code == 1 and err == (
            f"gram serve: --host {host} lets other machines in: name a file with a token, --token-file\n"
        )
    token = tmp_path / "token"
    for text in ("", "short", "two words of many letters", "a-token-with-\x07-a-bell"):
        token.write_text(text, encoding="utf-8")
        code, _, err = run(capsys, "serve", "--model", judge_folder, "--token-file", token)
        assert code == 1 and err.startswith(f"gram serve: {token}: a token is one line of at least 16")
    code, _, err = run(capsys, "serve", "--model", judge_folder, "--token-file", tmp_path / "nothing")
    assert code == 1 and "No such file" in err
    token.write_text("a-token-of-many-letters\n", encoding="utf-8")
    assert ServeOptions(host="0.0.0.0", token_file=token).token() == "a-token-of-many-letters"
    assert ServeOptions().token() is None and ServeOptions(host="::1").token() is None
    with pytest.raises(ConfigError):
        ServeOptions(host="0.0.0.0").token()


def test_without_the_extra_it_says_what_to_install(
    judge_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "gram.serving.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = run(capsys, "serve", "--model", judge_folder)
    assert code == 1 and err == "gram serve: uvicorn is not installed: pip install 'gram-rm[serve]'\n"


def test_an_address_that_is_taken(judge_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "serve", "--model", judge_folder, "--port", port)
    assert code == 1
    assert err == f"gram serve: cannot listen at 127.0.0.1, port {port}: Address already in use\n"


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "serve", "--model", tmp_path / "nothing", "--port", 0)
    assert code == 1 and "nothing" in err.splitlines()[-1] and "Traceback" not in err
