"""A call of ``RemoteModel`` as requests: how many, how large, and what becomes of them when one fails."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

import gram
from gram.errors import ScoringError
from gram.serving.client import _parts
from gram.serving.limits import Limits
from gram.types import Pair
from served import Here, serving, until
from test_serving_queue import Longer, ask, pair


def test_requests_have_64_items_or_a_million_bytes() -> None:
    r"""Texts of 10, 300,002 and 2,000,002 bytes as JSON, where a letter of two bytes takes six: \u00e9."""
    assert [len(part) for part in _parts(["12345678"] * 130)] == [64, 64, 2]
    assert [len(part) for part in _parts(["é" * 50_000] * 7)] == [3, 3, 1]
    assert [len(part) for part in _parts(["a", "b" * 2_000_000, "c"])] == [1, 1, 1]
    assert _parts([]) == []


def test_long_prompts_are_asked_in_several_requests() -> None:
    """64 pairs about a text of 140,000 characters are 9 MB, more than a server takes in one body."""
    with serving(Here(Longer())) as served:
        remote = gram.RemoteModel(served.url)
        verdicts = remote.compare([Pair("word " * 28_000, "a" * k, "b") for k in range(64)])
    assert verdicts.log_odds[:, 0].tolist() == [k - 1.0 for k in range(64)]


@pytest.mark.parametrize("limits", [
    Limits(max_items=10), Limits(max_body_bytes=2_000), Limits(max_queue=10),
], ids=str)  # fmt: skip
def test_a_server_that_takes_less_is_asked_for_less(limits: Limits) -> None:
    """100 pairs, in requests of 64 and 36 that are refused, and of their halves until they are taken."""
    with serving(Here(Longer()), limits=limits) as served:
        remote = gram.RemoteModel(served.url, connections=1)
        verdicts = remote.compare([Pair(f"prompt {k}", "a" * k, "b") for k in range(100)])
        assert verdicts.log_odds[:, 0].tolist() == [k - 1.0 for k in range(100)]
        assert served.metric("gram_requests_total", endpoint="/v1/compare", status="413") >= 2


def test_one_pair_that_is_too_large_is_refused() -> None:
    with serving(Here(Longer()), limits=Limits(max_characters=50)) as served:
        remote = gram.RemoteModel(served.url)
        with pytest.raises(ScoringError, match=r"413: pairs\[0\]\.a has 60 characters; at most 50"):
            remote.compare([Pair("why ?", "a", "b"), Pair("why ?", "a" * 60, "b")])


def test_more_than_a_queue_holds_is_refused_for_good() -> None:
    """A request with 40 pairs to a queue of 32 has no room at any time: 413, not 429 and later again."""
    with serving(Here(Longer()), limits=Limits(max_queue=32)) as served:
        status, answer = ask(served, *[pair(f"prompt {k}", "a") for k in range(40)])
        assert status == 413 and "40 comparisons" in answer["detail"]["message"]
        assert "Retry-After" not in served.last_headers
        assert ask(served, *[pair(f"prompt {k}", "a") for k in range(32)])[0] == 200


def test_a_call_that_fails_leaves_nothing_with_the_server() -> None:
    """640 pairs in ten requests, one of them refused: what the others asked leaves the queue, unread."""
    worker = Here(Longer())
    with serving(worker) as served:
        worker.gate.clear()
        pairs: list[Any] = [Pair(f"prompt {k}", "a", "b") for k in range(640)]
        pairs[639] = Pair("x" * 400_001, "a", "b")
        with pytest.raises(ScoringError, match="400001 characters"):
            gram.RemoteModel(served.url).compare(pairs)
        until(lambda: served.batcher.waiting == 0, seconds=10)
        worker.gate.set()


def test_a_call_that_is_interrupted_leaves_nothing_with_the_server() -> None:
    """Ctrl-C in a notebook, while 128 pairs wait."""
    worker = Here(Longer())
    with serving(worker) as served:
        worker.gate.clear()
        remote = gram.RemoteModel(served.url)

        def interrupt() -> None:
            until(lambda: served.batcher.waiting + sum(map(len, worker.batches)) == 128)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            remote.compare([Pair(f"prompt {k}", "a", "b") for k in range(128)])
        name = {"endpoint": "/v1/compare", "status": "499"}
        until(lambda: served.metric("gram_requests_total", **name) == 2)
        assert served.batcher.waiting == 0
        worker.gate.set()
