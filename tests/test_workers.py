"""Several processes with one thing each: order, errors, what is told, and that none outlives its parent."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import wait_for_end
from gram.errors import DataError, ScoringError
from gram.types import Pair, Usage, Verdicts
from gram.workers import WHOLE, Alone, Share, workers_with


@dataclass
class Counting:
    """A ``RewardModel`` that reads 5 tokens when it is made, and 1 for each part."""

    share: Share
    temperature: float = 1.0
    slope: float = 1.0
    template: None = None
    usage: Usage = field(default_factory=lambda: Usage(tokens=5))

    def compare(self, pairs: Any) -> Verdicts:
        raise NotImplementedError

    def tokens_cut(self, pairs: list[Pair]) -> None:
        raise NotImplementedError


def process_of(share: Share) -> tuple[Share, int]:
    return share, os.getpid()


def itself(me: tuple[Share, int], part: int) -> tuple[Share, int]:
    return me


def slow_at_first(me: tuple[Share, int], part: int) -> tuple[int, int]:
    if part == 0:
        time.sleep(0.2)
    return part * part, me[1]


def unusable(share: Share) -> None:
    raise DataError("expected a string", file="rows.jsonl", line=3, field="chosen")


def refuses_two(me: object, part: int) -> int:
    if part == 2:
        raise ScoringError("the model gave no number")
    return part


def dies_at_two(me: object, part: int) -> int:
    if part == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def read(model: Counting, part: int) -> int:
    model.usage += Usage(tokens=1, judged=1, mass=0.25)
    return part


def loud(share: Share) -> logging.Logger:
    warnings.warn("the weights are odd", stacklevel=1)
    return logging.getLogger("gram.loud")


def say(log: logging.Logger, part: int) -> int:
    print("on stdout", part, flush=True)
    log.warning("a mean of %.3g for %s", part / 10, "even" if part % 2 == 0 else "odd")
    return part


def sleep(me: object, seconds: int) -> None:
    time.sleep(seconds)


def test_results_come_in_order_from_processes_that_go() -> None:
    """The first part takes longest; the others are done by whoever is free, and come after it."""
    with workers_with(process_of, 2) as workers:
        results = list(workers.map(slow_at_first, range(12)))
        assert list(workers.map(slow_at_first, [])) == []
        shares = {share for share, _ in workers.map(itself, range(12))}
    assert [value for value, _ in results] == [part * part for part in range(12)]
    pids = {pid for _, pid in results}
    assert shares <= {Share(0, 2), Share(1, 2)} and os.getpid() not in pids
    wait_for_end(pids)


def test_one_worker_is_this_process() -> None:
    with workers_with(process_of, 1) as workers:
        assert isinstance(workers, Alone) and workers.model == (WHOLE, os.getpid())
        assert list(workers.map(slow_at_first, [3])) == [(9, os.getpid())]


def test_few_parts_are_given_out_at_a_time() -> None:
    """Two for each of two workers: an input that does not fit into memory is read as it is worked on."""
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for part in range(20):
            taken.append(part)
            yield part

    with workers_with(process_of, 2) as workers:
        results = workers.map(slow_at_first, parts())
        next(results)
        assert len(taken) == 4


@pytest.mark.parametrize("count", [1, 2])
def test_errors_are_those_of_one_process(count: int) -> None:
    with pytest.raises(DataError) as caught, workers_with(unusable, count):
        pass
    assert str(caught.value) == "rows.jsonl:3: field 'chosen': expected a string"
    assert (caught.value.file, caught.value.line, caught.value.field) == ("rows.jsonl", 3, "chosen")
    results = []
    with (
        pytest.raises(ScoringError, match="the model gave no number"),
        workers_with(process_of, count) as workers,
    ):
        results.extend(iter(workers.map(refuses_two, range(9))))
    assert results == [0, 1]


def test_a_worker_that_dies_is_an_error() -> None:
    with (
        pytest.raises(ScoringError, match="a worker died: killed, or out of memory"),
        workers_with(process_of, 2) as workers,
    ):
        list(workers.map(dies_at_two, range(9)))


def test_usage_is_that_of_one_process() -> None:
    """5 tokens of the making count once, as one process makes one model: 5 + 9."""
    for count in (1, 2):
        with workers_with(Counting, count) as workers:
            assert list(workers.map(read, range(9))) == list(range(9))
            assert workers.usage == Usage(tokens=14, judged=9, mass=2.25)


def test_what_workers_say_is_told_once_and_not_on_stdout(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both warn when made. Messages that differ only in a mean are one, and the first in order is told."""
    with pytest.warns(UserWarning) as caught, workers_with(loud, 2) as workers:
        list(workers.map(say, range(8)))
    assert [str(warning.message) for warning in caught] == ["the weights are odd"]
    told = [record.getMessage() for record in caplog.records]
    assert told == ["a mean of 0 for even", "a mean of 0.1 for odd"]
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.count("on stdout") == 8


def test_an_error_in_the_block_ends_the_work() -> None:
    """No wait for parts of a minute each."""
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt), workers_with(process_of, 2) as workers:
        pids += {pid for _, pid in workers.map(itself, range(12))}
        for _ in workers.map(sleep, [0, 60, 60, 60]):
            raise KeyboardInterrupt
    assert pids
    wait_for_end(pids)


PARENT = """
import sys
sys.path.insert(0, {tests!r})
from test_workers import itself, process_of, sleep
from gram.workers import workers_with
if __name__ == "__main__":
    with workers_with(process_of, 2) as workers:
        print(*{{pid for _, pid in workers.map(itself, range(12))}}, flush=True)
        list(workers.map(sleep, [60] * 9))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(number: int, tmp_path: Path) -> None:
    """In the midst of a part of a minute."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(tests=str(Path(__file__).parent)), encoding="utf-8")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        children = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
        assert pids and set(pids) <= set(children)
        parent.send_signal(number)
    wait_for_end(children)
