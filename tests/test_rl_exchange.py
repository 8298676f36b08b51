"""Groups of several rewards over processes: each gets what its own calls sent, or the call is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gram.errors import ConfigError
from gram.rl import GroupReward
from gram.rl.exchange import Exchange
from gram.rl.trl import AsyncTrlReward
from oracles import NumberJudge

PROMPTS = [["p", "p", "q", "q"], ["p", "r", "q", "r"]]
ANSWERS = [["3", "1", "2", "0"], ["5", "1", "4", "0"]]


class World:
    """Processes played by threads; as in torch.distributed, the k-th values of all belong together."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._came = threading.Condition()
        self._sent: list[list[Any]] = [[] for _ in range(size)]

    def of(self, rank: int) -> Any:
        world = self

        class One:
            def __init__(self) -> None:
                self.rank = rank

            def gather(self, value: Any) -> list[Any]:
                with world._came:
                    number = len(world._sent[rank])
                    world._sent[rank].append(value)
                    world._came.notify_all()
                    there = world._came.wait_for(
                        lambda: all(len(values) > number for values in world._sent), timeout=60
                    )
                    assert there
                    return [values[number] for values in world._sent]

        return One()


def in_world(size: int, work: Callable[[int, Any], Any]) -> list[Any]:
    """What ``work`` gives in each process, or the error with which it ends."""
    world, found = World(size), [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = work(rank, world.of(rank))
        except Exception as error:  # handed to the test
            found[rank] = error  # type: ignore[assignment]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Slow(NumberJudge):
    """Larger numbers are better, or smaller ones; answers after a while."""

    def __init__(self, sign: int, seconds: float = 0.0) -> None:
        super().__init__()
        self._sign, self._seconds = sign, seconds

    def compare(self, pairs: Sequence[Any]) -> Any:
        time.sleep(self._seconds)
        verdicts = super().compare(pairs)
        return type(verdicts)(self._sign * verdicts.log_odds, verdicts.mass)


@pytest.mark.parametrize("sync", [True, False])
def test_two_rewards_get_their_own_rankings_whatever_their_speed(sync: bool) -> None:
    """In each process another of the two judges is faster. Rewards are those of one process with all rows."""

    def work(rank: int, processes: Any) -> list[Any]:
        seconds = (0.0, 0.15) if rank == 0 else (0.15, 0.0)
        rewards = [
            GroupReward(Slow(sign, pause), processes=processes)
            for sign, pause in zip((1, -1), seconds, strict=True)
        ]
        if sync:
            return [reward(PROMPTS[rank], ANSWERS[rank]).rewards for reward in rewards]
        functions = [AsyncTrlReward(reward, name=str(k)) for k, reward in enumerate(rewards)]

        async def all_at_once() -> list[Any]:
            return await asyncio.gather(*(one(PROMPTS[rank], ANSWERS[rank]) for one in functions))

        return asyncio.run(all_at_once())

    prompts, answers = PROMPTS[0] + PROMPTS[1], ANSWERS[0] + ANSWERS[1]
    whole = [GroupReward(Slow(sign))(prompts, answers).rewards for sign in (1, -1)]
    found = in_world(2, work)
    for rank, part in enumerate((slice(0, 4), slice(4, 8))):
        for got, expected in zip(found[rank], whole, strict=True):
            assert got == pytest.approx(expected[part])


def test_alone_an_asynchronous_group_does_not_hold_up_the_others() -> None:
    """In one process the judge waits in a thread: two waits of 0.3 s at once are shorter than 0.6 s."""
    functions = [AsyncTrlReward(GroupReward(Slow(1, 0.3)), name=str(k)) for k in range(2)]

    async def both() -> list[Any]:
        return await asyncio.gather(*(one(PROMPTS[0], ANSWERS[0]) for one in functions))

    start = time.monotonic()
    asyncio.run(both())
    assert time.monotonic() - start < 0.55
    assert not functions[0].reward.in_step
    assert GroupReward(NumberJudge(), processes=World(2).of(0)).in_step


def test_values_of_another_reward_or_call_are_refused() -> None:
    """Process 1 makes its calls in another order: other settings, another number, another partner."""

    def settings(rank: int, processes: Any) -> Any:
        return Exchange(processes, "a" if rank == 0 else "b").gather(rank)

    def interleaved(rank: int, processes: Any) -> Any:
        first, second = (Exchange(processes, "same") for _ in range(2))
        calls = [first, first, second] if rank == 0 else [first, second, first]
        return [one.gather(rank) for one in calls]

    def partner(rank: int, processes: Any) -> Any:
        first, second = (Exchange(processes, "same") for _ in range(2))
        calls = [first, second, first, second] if rank == 0 else [first, second, second, first]
        return [one.gather(rank) for one in calls]

    for work in (settings, interleaved, partner):
        found = in_world(2, work)
        assert all(isinstance(one, ConfigError) for one in found), (work.__name__, found)
        assert "same calls in the same order" in str(found[0])


def test_values_of_one_reward_come_in_the_order_of_the_ranks() -> None:
    def work(rank: int, processes: Any) -> Any:
        first, second = (Exchange(processes, "same") for _ in range(2))
        return [one.gather((rank, k)) for k, one in enumerate([first, second, second, first])]

    expected = [[(0, k), (1, k), (2, k)] for k in range(4)]
    assert in_world(3, work) == [expected] * 3


def test_calls_before_the_processes_met_do_not_count() -> None:
    """A reward that is tried in one process, before torch.distributed is started, is used in two later."""

    class Meets:
        def __init__(self, processes: Any) -> None:
            self.rank, self.processes, self.met = 0, processes, False

        def gather(self, value: Any) -> list[Any]:
            return self.processes.gather(value) if self.met else [value]

    def work(rank: int, processes: Any) -> Any:
        later = Meets(processes)
        exchange = Exchange(later, "same")
        for _ in range(rank):
            assert exchange.gather("alone") == ["alone"]
        later.met = True
        return exchange.gather(rank)

    assert in_world(2, work) == [[0, 1]] * 2
