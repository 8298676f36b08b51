"""Rewards with an oracle: their numbers, failures of the model, groups over processes, shaping."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gram.errors import ConfigError, DataError, ScoringError, UnreachableError
from gram.rl import GroupReward, LikelihoodReward, ReferenceReward, Rewards, Shaping
from gram.rl.failures import Failures
from gram.rl.openrlhf import OpenRlhfReward
from gram.rl.shaping import residual
from gram.rl.trl import AsyncTrlReward
from gram.rl.verl import VerlReward
from gram.types import Chat, as_chat
from oracles import NumberJudge, NumberScorer

# --- Against a reference ---


def test_reference_rewards_by_hand() -> None:
    """Log-odds 3 - 1 = 2 and 0 - 1 = -1; a place bias of 0.5 adds to one order and takes from the other.

    Probabilities: mean of sigmoid(2.5) = 0.924142 and sigmoid(1.5) = 0.817574: 0.870858; of sigmoid(-0.5) =
    0.377541 and sigmoid(-1.5) = 0.182426: 0.279983. Gaps 0.106568 and 0.195115, mean 0.150842.
    """
    reward = ReferenceReward(NumberJudge(bias=0.5))
    got = reward(["q", "q"], ["3", "0"], ["1", "1"])
    assert got.rewards == pytest.approx([2.0, -1.0])
    assert got.scores == pytest.approx([0.870858, 0.279983], abs=1e-6)
    assert got.metrics == pytest.approx(
        {"mean": 0.5, "spread": 1.5, "failures": 0.0, "position_gap": 0.150842}, abs=1e-6
    )
    probability = ReferenceReward(NumberJudge(bias=0.5), value="probability")
    assert probability(["q", "q"], ["3", "0"], ["1", "1"]).rewards == got.scores


def test_references_are_written_once_per_prompt() -> None:
    asked: list[list[Chat]] = []

    def write(prompts: Sequence[Chat]) -> list[str]:
        asked.append(list(prompts))
        return [prompt[0].content for prompt in prompts]

    reward = ReferenceReward(NumberJudge(), answer=write)
    assert reward(["1", "2", "1", "7"], ["5", "5", "6", "5"], [None, None, None, "4"]).rewards == [4, 3, 5, 1]
    assert reward(["2", "3"], ["5", "5"]).rewards == [3, 2]
    assert asked == [[as_chat("1"), as_chat("2")], [as_chat("3")]]


def test_a_missing_reference_is_an_error() -> None:
    with pytest.raises(DataError, match="reference"):
        ReferenceReward(NumberJudge())(["q"], ["1"])
    with pytest.raises(ValueError, match="1 prompts but 2 references"):
        ReferenceReward(NumberJudge())(["q"], ["1"], ["1", "2"])
    with pytest.raises(ValueError, match="1 prompts but 2 responses"):
        ReferenceReward(NumberJudge())(["q"], ["1", "2"])


# --- Failures ---


def test_one_bad_answer_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    reward = ReferenceReward(NumberJudge())
    got = reward(["q"] * 5, ["1", "bad", "2", "silent", "3"], ["0"] * 5)
    assert got.rewards == [1, None, 2, None, 3]
    assert got.scores is not None and got.scores[1] is None
    assert got.metrics["failures"] == pytest.approx(0.4)
    assert reward.failures.count == 2
    assert "2 in all" in caplog.text and "cannot read this" in caplog.text
    assert LikelihoodReward(NumberScorer())(["q"] * 3, ["2", "bad", "4"]).rewards == [2, None, 4]


def test_too_many_failures_stop_the_run() -> None:
    reward = ReferenceReward(NumberJudge(), failure_limit=2)
    assert reward(["q"] * 3, ["bad", "1", "bad"], ["0"] * 3).rewards == [None, 1, None]
    with pytest.raises(ScoringError, match="over the limit of 2; the last: cannot read this"):
        reward(["q"], ["bad"], ["0"])


@pytest.mark.parametrize("error", [ScoringError, OSError])
def test_a_broken_model_is_not_asked_for_ever(error: type[Exception]) -> None:
    """Of 64 rows one by one, with a limit of 3: halves down to the first row, then four failures, then no
    more: 7 calls on the way down to the pair (0, 1), and few after."""
    calls = []

    def ask(items: Sequence[int]) -> list[int | None]:
        calls.append(len(items))
        raise error("broken")

    failures = Failures(3)
    assert failures.attempt(list(range(64)), ask) == [None] * 64
    assert failures.count == 64 and len(calls) < 16
    with pytest.raises(ScoringError):
        failures.check()


@pytest.mark.parametrize("error", [UnreachableError, ConnectionError, ConnectionRefusedError, TimeoutError])
def test_a_model_that_is_gone_is_asked_once_a_batch(error: type[Exception]) -> None:
    """The fault of no row: 8 rows are 8 failures after one call, and the limit of 100 is passed by the 13th.

    By halves, each waiting for the deadline, it would be asked 191 times.
    """
    calls = []

    def ask(items: Sequence[int]) -> list[int | None]:
        calls.append(len(items))
        raise error("given up after 300 s")

    failures = Failures(100)
    with pytest.raises(ScoringError, match="no reward 104 times, over the limit of 100; the last: given up"):
        while True:
            assert failures.attempt(range(8), ask) == [None] * 8
            failures.check()
    assert calls == [8] * 13


def test_a_bug_is_not_a_failure() -> None:
    class Broken:
        def compare(self, pairs: Any) -> Any:
            raise KeyError("ours")

    with pytest.raises(KeyError):
        ReferenceReward(Broken())(["q"], ["1"], ["0"])


# --- Groups ---


def test_group_rewards_by_hand() -> None:
    """Numbers 0, 1, 2 and log-odds their differences: win rates (sigmoid(-1) + sigmoid(-2)) / 2 = 0.194072,
    0.5 and 0.805928; strengths -1, 0, 1 but for the prior. The answer to another prompt is alone: 0.5 and 0.
    """
    prompts, responses = ["q", "other", "q", "q"], ["0", "9", "1", "2"]
    got = GroupReward(NumberJudge())(prompts, responses)
    assert got.rewards == pytest.approx([0.194072, 0.5, 0.5, 0.805928], abs=1e-6)
    strengths = GroupReward(NumberJudge(), value="strength")(prompts, responses)
    assert strengths.rewards == pytest.approx([-1, 0, 0, 1], abs=0.05)
    assert got.metrics["cyclic_triples"] == 0
    cheap = NumberJudge()
    GroupReward(cheap, schedule="knockout")(["q"] * 8, [str(k) for k in range(8)])
    assert len(cheap.asked) == 7


def test_copies_of_an_answer_are_one_opponent() -> None:
    """0 against 1, which two answers are: sigmoid(-1) = 0.268941 and sigmoid(1) = 0.731059, asked once."""
    judge = NumberJudge()
    got = GroupReward(judge)(["q"] * 3, ["1", "0", "1"])
    assert got.rewards == pytest.approx([0.731059, 0.268941, 0.731059], abs=1e-6)
    assert len(judge.asked) == 1


def test_a_failed_comparison_costs_its_group_only() -> None:
    reward = GroupReward(NumberJudge())
    got = reward(["a", "b", "a", "b"], ["1", "2", "bad", "0"])
    assert got.rewards[0] is None and got.rewards[2] is None
    assert got.rewards[1] == pytest.approx(0.880797, abs=1e-6)


class Threads:
    """Processes played by threads that wait for each other."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.slots: list[Any] = [None] * count

    def of(self, rank: int) -> Any:
        team = self

        class One:
            def __init__(self) -> None:
                self.rank = rank

            def gather(self, value: Any) -> list[Any]:
                team.slots[rank] = value
                team.barrier.wait(timeout=120)
                found = list(team.slots)
                team.barrier.wait(timeout=120)
                return found

        return One()


def in_threads(parts: Sequence[Callable[[], Any]]) -> list[Any]:
    found: list[Any] = [None] * len(parts)

    def run(place: int) -> None:
        try:
            found[place] = parts[place]()
        except Exception as error:  # handed to the test
            found[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def split_over(
    sizes: Sequence[int], prompts: Sequence[str], responses: Sequence[str], **options: Any
) -> tuple[list[Any], list[NumberJudge]]:
    """Rewards (or exception) of every process when the rows are dealt out in parts of ``sizes``."""
    team, judges = Threads(len(sizes)), [NumberJudge() for _ in sizes]
    starts = np.cumsum([0, *sizes])
    rewards = [GroupReward(judge, processes=team.of(rank), **options) for rank, judge in enumerate(judges)]
    parts = [
        lambda r=reward, a=int(a), b=int(b): r(list(prompts[a:b]), list(responses[a:b]))
        for reward, a, b in zip(rewards, starts[:-1], starts[1:], strict=True)
    ]
    return in_threads(parts), judges


@given(
    numbers=st.lists(st.integers(-3, 3), min_size=8, max_size=8),
    cut=st.integers(0, 8),
    value=st.sampled_from(["win_rate", "strength"]),
)
def test_groups_may_be_split_over_processes(numbers: list[int], cut: int, value: str) -> None:
    """Two groups of four, cut anywhere, even inside a group or leaving one process with nothing: the rewards
    are those of one process, and no comparison is asked twice."""
    prompts, responses = ["a"] * 4 + ["b"] * 4, [str(number) for number in numbers]
    judge = NumberJudge()
    whole = GroupReward(judge, value=value, shaping=Shaping(length_residual=True))(prompts, responses)  # type: ignore[arg-type]
    parts, judges = split_over(
        [cut, 8 - cut], prompts, responses, value=value, shaping=Shaping(length_residual=True)
    )
    assert [reward for part in parts for reward in part.rewards] == pytest.approx(whole.rewards)
    assert parts[0].metrics == parts[1].metrics == pytest.approx(whole.metrics)
    assert sum(len(one.asked) for one in judges) == len(judge.asked)


def test_failures_of_one_process_are_known_to_all_and_stop_all() -> None:
    prompts, responses = ["a", "b", "a", "b"], ["1", "2", "bad", "0"]
    parts, _ = split_over([2, 2], prompts, responses)
    assert [part.rewards[0] for part in parts] == [None, None]
    parts, _ = split_over([2, 2], prompts, responses, failure_limit=0)
    assert all(isinstance(part, ScoringError) for part in parts)


class Late(NumberJudge):
    """Answers after a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def compare(self, pairs: Any) -> Any:
        time.sleep(self._seconds)
        return super().compare(pairs)


SPLIT_PROMPTS, SPLIT_RESPONSES = ["a"] * 4 + ["b"] * 4, ["0", "3", "1", "2", "5", "5", "0", "1"]


def _in_process(rank: int, folder: str) -> None:
    """The strengths alone, then these and win rates at once; in each process another judge is faster."""
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = slice(0, 3) if rank == 0 else slice(3, 8)
    prompts, responses = SPLIT_PROMPTS[own], SPLIT_RESPONSES[own]
    alone = GroupReward(NumberJudge(), value="strength")(prompts, responses).rewards
    functions = [
        AsyncTrlReward(GroupReward(Late(0.2 * (rank == 0)), value="strength"), name="strength"),
        AsyncTrlReward(GroupReward(Late(0.2 * (rank == 1))), name="rate"),
    ]

    async def both() -> list[Any]:
        return await asyncio.gather(*(one(prompts, responses) for one in functions))

    Path(folder, f"{rank}.json").write_text(json.dumps([alone, *asyncio.run(both())]))
    distributed.destroy_process_group()


def test_two_processes_of_torch_give_what_one_gives(tmp_path: Path) -> None:
    import torch.multiprocessing as multiprocessing

    multiprocessing.spawn(_in_process, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    strengths = GroupReward(NumberJudge(), value="strength")(SPLIT_PROMPTS, SPLIT_RESPONSES).rewards
    rates = GroupReward(NumberJudge())(SPLIT_PROMPTS, SPLIT_RESPONSES).rewards
    for first, second, whole in zip(*found, [strengths, strengths, rates], strict=True):
        assert [len(first), len(second)] == [3, 5]
        assert first + second == pytest.approx(whole)


# --- Shaping ---


def shaped(shaping: Shaping, responses: Sequence[str], prompts: Sequence[str] | None = None) -> Rewards:
    return LikelihoodReward(NumberScorer(), shaping=shaping)(prompts or ["q"] * len(responses), responses)


def test_scale_clip_and_length_penalty_by_hand() -> None:
    """4 * 0.5 = 2, clipped to 1, minus 0.1 for one character; -10 * 0.5 clipped to -1, minus 0.3."""
    got = shaped(Shaping(scale=0.5, clip=(-1, 1), length_penalty=0.1), ["4", "-10"])
    assert got.rewards == pytest.approx([0.9, -1.3])


def test_residual_takes_out_what_length_explains() -> None:
    """Two prompts, rewards 2 per character in both: the slope is 2, each answer gets its prompt's mean."""
    rewards, lengths = np.array([2.0, 4, 6, 12, 14]), np.array([1.0, 2, 3, 1, 2])
    assert residual(rewards, lengths, list("aaabb")) == pytest.approx([4, 4, 4, 13, 13])


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=20))
def test_residual_is_uncorrelated_with_length_inside_prompts(rows: list[tuple[float, int, int]]) -> None:
    rewards, lengths, groups = (np.array(column) for column in zip(*rows, strict=True))
    got = residual(rewards.astype(float), lengths.astype(float), list(groups))
    product = 0.0
    for group in set(groups):
        mine = groups == group
        product += float(np.sum((got[mine] - got[mine].mean()) * (lengths[mine] - lengths[mine].mean())))
        assert got[mine].mean() == pytest.approx(rewards[mine].mean(), abs=1e-6)
    assert product == pytest.approx(0, abs=1e-5)


def test_missing_rewards_stay_missing() -> None:
    got = residual(np.array([1.0, math.nan, 3.0]), np.array([1.0, 9.0, 2.0]), ["a", "a", "a"])
    assert got[[0, 2]] == pytest.approx([2, 2]) and math.isnan(got[1])


def test_nonsense_is_refused() -> None:
    for wrong in (
        lambda: Shaping(clip=(1, 1)),
        lambda: Shaping(clip=5.0),  # type: ignore[arg-type]
        lambda: Shaping(clip=(1.0,)),  # type: ignore[arg-type]
        lambda: Shaping(clip="01"),  # type: ignore[arg-type]
        lambda: Shaping(clip={0.0, 1.0}),  # type: ignore[arg-type]
        lambda: Shaping(clip=(0, "1")),  # type: ignore[arg-type]
        lambda: Shaping(clip=(math.nan, 1)),
        lambda: Shaping(scale=0),
        lambda: Shaping(length_penalty=math.inf),
        lambda: ReferenceReward(NumberJudge(), value="odds"),  # type: ignore[arg-type]
        lambda: GroupReward(NumberJudge(), value="wins"),  # type: ignore[arg-type]
        lambda: GroupReward(NumberJudge(), schedule="swis"),
        lambda: GroupReward(NumberJudge(), schedule=["merge"]),  # type: ignore[arg-type]
        lambda: GroupReward(NumberJudge(), value=["strength"]),  # type: ignore[arg-type]
        lambda: GroupReward(NumberJudge(), seed=2**32),
        lambda: GroupReward(NumberJudge(), budget=1.5),  # type: ignore[arg-type]
        lambda: ReferenceReward(NumberJudge(), failure_limit=1.5),  # type: ignore[arg-type]
        lambda: VerlReward(GroupReward(NumberJudge())),
        lambda: OpenRlhfReward(GroupReward(NumberJudge())),
        lambda: ReferenceReward(NumberJudge(), failure_limit=-1),
    ):
        with pytest.raises(ConfigError):
            wrong()
