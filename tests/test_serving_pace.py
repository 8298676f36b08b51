"""What a server learns from its batches: tokens of a character, how long a text is read, and how fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from gram.serving.fair import FairQueue, Ticket
from gram.serving.pace import Pace
from gram.serving.units import Outcome
from gram.types import Answer, Pair, Usage, Verdicts
from served import Here, serving
from test_serving_queue import Longer, ask, pair

MOST = 8_192
SCORE = (0.0,)


def answer(prompt: str, response: str) -> Ticket:
    return Ticket(Answer(prompt, response), response.encode(), "one", 0)


def test_tokens_of_a_character_are_those_of_texts_that_were_read_whole() -> None:
    """1,000 characters, 250 tokens: a quarter. Of a text of 400,000 only 2,048 are read: nothing of that.

    But it tells that 2,048 tokens are read at a look, which are 8,192 characters; and that the batch was a
    quarter full, not 100,000 tokens.
    """
    pace = Pace()
    assert pace.per_character == 0.4 and pace.longest == float("inf")
    assert pace.learn([answer("q" * 600, "a" * 400)], [Outcome(SCORE, 250)], 1.0, MOST) == 250
    assert pace.per_character == pytest.approx(0.25)
    long = [answer("q" * 399_000, "a" * 1_000)]
    assert pace.learn(long, [Outcome(SCORE, 2_048, cut=97_952)], 1.0, MOST) == 2_048
    assert pace.per_character == pytest.approx(0.25)
    assert pace.longest == pytest.approx(8_192)


def test_an_answer_without_a_number_teaches_nothing() -> None:
    """It has no tokens, as the model failed; so its characters would be free."""
    pace = Pace()
    batch = [answer("q" * 100, "a" * 100), answer("q" * 50_000, "b")]
    pace.learn(batch, [Outcome(SCORE, 50), Outcome(None, error="no")], 1.0, MOST)
    assert pace.per_character == 0.4 and pace.seconds_for(1_000) == 0.0


def test_what_is_shared_is_counted_as_often_as_it_is_read() -> None:
    """Two answers of 100 to a prompt of 800: 1,800 characters, 450 tokens; once they are 1,000, so 250."""
    batch = [answer("q" * 800, "a" * 100), answer("q" * 800, "b" * 100)]
    assert Pace().learn(batch, [Outcome(SCORE, 225), Outcome(SCORE, 225)], 1.0, MOST) == 250


def test_small_batches_say_little_of_speed() -> None:
    """A full batch of 8,192 tokens takes 0.1 s; a lone question of 10 tokens takes 0.05 s, all of it latency.

    A batch of fewer than 8,192 / 16 = 512 tokens is taken for one of 512: 10,240 tokens a second, so that
    8,192 characters of a token each are thought to take 0.8 s; 10 tokens in 0.05 s would make 41 s of them.
    A full batch counts 51 times as much as one of 10 tokens: 0.2 against 0.8 x (1 - (1 - 0.2 x 10 / 512)**20)
    = 0.060 of twenty of these, and (0.2 x 81,920 + 0.060 x 10,240) / 0.260 are 65,300 tokens a second.
    """
    pace = Pace()
    small = [answer("q" * 5, "a" * 5)], [Outcome(SCORE, 10)], 0.05, MOST
    full = [answer("q" * 8_000, "a" * 192)], [Outcome(SCORE, MOST)], 0.1, MOST
    for _ in range(20):
        pace.learn(*small)
    assert pace.seconds_for(8_192) == pytest.approx(0.8)
    pace.learn(*full)
    assert pace.seconds_for(8_192) == pytest.approx(0.1253, abs=0.0005)


def test_long_texts_cost_what_is_read_of_them() -> None:
    """Of prompts of 400,000 characters 1,000 are read: nine of them fit into 10,000.

    Each has an answer of 10 in one order: 1,010 characters.
    """
    queue = FairQueue()
    queue.longest = 1_000
    for k in range(10):
        queue.put(answer(str(k) * 400_000, str(k) * 10))
    assert queue.length == 10_100
    assert len(queue.take(10_000)) == 9 and len(queue) == 1


class Reads2048(Longer):
    """Four characters are a token; of a prompt at most 2,048 tokens are read."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        cut = self.tokens_cut(pairs)
        tokens = 2 * sum(min(2_048, length(pair) // 4) for pair in pairs)
        self.batches.append(tokens)
        self.usage += Usage(tokens=tokens, truncated=2 * sum(map(bool, cut)))
        return Verdicts(np.zeros((len(pairs), 2)), np.ones((len(pairs), 2)))

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int]:  # type: ignore[override]
        return [max(0, length(pair) // 4 - 2_048) for pair in pairs]


def length(pair: Pair) -> int:
    return len(pair.prompt[0].content) + len(pair.a) + len(pair.b)


def test_a_caller_with_long_documents_does_not_make_the_next_batches_too_large() -> None:
    """After a text of 400,000 characters come 100 pairs of some 2,500: a prompt of 1,500, two answers of 500.

    One is 1,250 tokens in both orders, the prompt twice; read once 875. A batch of 8,192 has at most 9 of
    them, 11,250 tokens. It was more than 500,000.
    """
    model = Reads2048()
    with serving(Here(model)) as served:
        ask(served, pair("x" * 390_000, "a"))
        pairs = [pair(f"{k} ".ljust(1_500, "w"), "a" * 500, "b" * 500) for k in range(100)]
        assert ask(served, *pairs)[0] == 200
    assert model.batches[0] == 4_096 and sum(model.batches[1:]) == 100 * 1_250
    assert max(model.batches) <= 11_250


def test_no_wait_is_long_however_slow_the_first_batch_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first batch of some tokens takes 0.3 s, as it warms up; nobody waits seconds for others after it."""

    class WarmingUp(Longer):
        def compare(self, pairs: Sequence[Pair]) -> Verdicts:
            if len(pairs) == 1:
                time.sleep(0.3)
            return super().compare(pairs)

    waits: list[float] = []
    sleep = asyncio.sleep

    async def noting(seconds: float) -> None:
        waits.append(seconds)
        await sleep(min(seconds, 0.3))

    with serving(Here(WarmingUp())) as served:
        ask(served, pair("?", "a"))
        monkeypatch.setattr("gram.serving.batcher.asyncio.sleep", noting)
        ask(served, *[pair(f"{k} " * 50, "a" * 300) for k in range(64)])
        monkeypatch.undo()
    assert waits and max(waits) <= 0.2
