"""Ordinary mistakes with servers: a wrong address or token, another server, a full disk, a broken answer."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import run
from fake_servers import Fake, running
from gram.errors import ConfigError, OutputError, ScoringError
from gram.scoring.remote.cache import AnswerFile
from gram.types import Pair
from test_serving_client import Flaky, flaky

__all__ = ["flaky"]

PAIR = Pair("2 + 2?", a="4", b="5")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running(Fake()) as server:
        yield server


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("url", [
    "http://127.0.0.1:PORT", "http://127.0.0.1:99999", "http://127.0.0.1:0", "http://127.0.0.1:-1",
    "http://[::1", "http://", "http://:8000", "http://my host:8000", "http://a..b", f"http://{'a' * 64}.org",
    "http://127.0.0.1\n",
])  # fmt: skip
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a server"):
        gram.RemoteModel(url)
    with pytest.raises(ConfigError, match="is no address of a server"):
        gram.load(f"openai:m@{url}")


@pytest.mark.parametrize("token", ["a-token-of-a-file\n", "ein-schlüssel"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="the token cannot be sent") as told:
        gram.RemoteModel("http://127.0.0.1:8000", token=token)
    assert token not in str(told.value)


@pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp", "openai"])
def test_the_address_of_another_server_says_how_to_name_its_judge(
    owner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "2 + 2?", "a": "4", "b": "5"}) + "\n")
    with running(Fake(owner)) as server:
        with pytest.raises(ConfigError, match=r"is a server, but not gram serve.*openai:MODEL@http://.*/v1"):
            gram.RemoteModel(server.url)
        code, _, err = run(
            capsys, "score", "--model", server.url, "--input", rows, "--output", tmp_path / "out.jsonl"
        )
    assert code == 1 and err.startswith(f"gram score: {server.url}: is a server, but not gram serve")


@pytest.mark.parametrize(
    "content", [{}, [], {"data": [{}]}, {"data": None}, {"data": [{"log_odds": None}], "usage": {}}], ids=str
)
def test_an_answer_of_another_kind_is_told(flaky: str, content: Any) -> None:
    model = gram.RemoteModel(flaky)
    Flaky.answers = [(200, content)]
    with pytest.raises(ScoringError, match=r"/v1/compare: the answer is none of gram serve"):
        model.compare([PAIR])


HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"  # of gzip


@pytest.mark.parametrize("body", [b"no gzip at all", HEAD + b"\xff" * 20], ids=["other bytes", "damaged"])
def test_a_broken_body_is_asked_for_again(fake: Fake, body: bytes) -> None:
    fake.failures = [(200, body, {"Content-Encoding": "gzip"})]
    assert 0 < gram.load(f"openai:m@{fake.v1}", both_orders=False).compare([PAIR]).p_a[0] < 1
    assert len(fake.asked) == 2


def test_bodies_that_stay_broken_are_told_with_the_address(fake: Fake) -> None:
    fake.failures = [(200, b"no gzip at all", {"Content-Encoding": "gzip"})] * 50
    with pytest.raises(ScoringError, match=rf"{fake.url}/v1/chat/completions: .*decompress.*given up after"):
        gram.load(f"openai:m@{fake.v1}", deadline=2.0).compare([PAIR])


def test_a_full_disk_names_the_file_of_answers(tmp_path: Path) -> None:
    """SQLite may take no more pages than it has: "database or disk is full"."""
    answers = AnswerFile(tmp_path / "answers.sqlite")
    answers.keep("u", 0, "kept")
    answers._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(OutputError, match=r"answers\.sqlite: an answer cannot be kept: .*full"):
        for number in range(1, 100):
            answers.keep("u", number, "x" * 10_000)
    assert answers.find("u", 0) == "kept"


def test_a_damaged_file_of_answers_is_named(tmp_path: Path) -> None:
    answers = AnswerFile(tmp_path / "answers.sqlite")
    answers.keep("u", 0, "kept")
    with answers._connection:
        answers._connection.execute("UPDATE answers SET answer = 'no JSON'")
    with pytest.raises(ConfigError, match=r"answers\.sqlite: the answers kept in it cannot be read"):
        answers.find("u", 0)


def test_tokens_that_a_server_does_not_tell(fake: Fake) -> None:
    fake.owner = "vllm"
    fake.change = lambda answer: {} if "tokens" in answer else answer
    with pytest.raises(ScoringError, match="/tokenize gives no tokens"):
        gram.load(f"vllm-generative:judge@{fake.v1}").compare([PAIR])


def test_a_copy_has_the_temperature(flaky: str) -> None:
    """Log-odds of 1.0 become 0.5."""
    model = gram.RemoteModel(flaky)
    model.temperature = 2.0
    for again in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.temperature == 2.0
        assert again.compare([PAIR]).log_odds[0, 0] == 0.5
