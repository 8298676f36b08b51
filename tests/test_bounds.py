"""Every number among the options of every command has a range, and is checked before anything is loaded.

The walk finds the options by itself: one without a range fails here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import gram
from conftest import run
from gram.adaptation.config import AdaptConfig
from gram.asking import LoadOptions
from gram.bench.settings import BenchSettings
from gram.bounds import LARGEST, Within, check_bounds, numbers_of
from gram.cli.main import COMMANDS, main
from gram.errors import ConfigError
from gram.evaluation.shards import Shard
from gram.training.config import TrainConfig

NEEDED: dict[str, list[str]] = {
    "demo": [],
    "train": ["--model", "m", "--data", "d", "--output", "never"],
    "adapt": ["--model", "m", "--data", "d", "--output", "never"],
    "score": ["--model", "m", "--input", "d", "--output", "never"],
    "bulk": ["--model", "m", "--input", "d", "--output", "never"],
    "eval": ["--model", "m", "--data", "d", "--output", "never"],
    "report": ["a", "b"],
    "rank": ["--model", "m", "--input", "d"],
    "mine": ["--model", "m", "--input", "d", "--output", "never"],
    "bench": [],
    "doctor": ["--model", "m"],
    "plan": ["--model", "m"],
    "convert": ["--input", "d", "--to", "trl", "--output", "never"],
    "fetch": ["m"],
    "merge": ["--model", "m", "--output", "never"],
    "push": ["--model", "m", "--to", "o/n"],
    "export": ["decision", "--model", "m", "--output", "never"],
    "serve": ["--model", "m"],
}
WITHOUT_NUMBERS = {"convert", "fetch", "export", "merge", "push"}
VALUES = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e30",
    "-1e-9",
    "1e400",
    str(10**30),
    "9" * 5000,
    "0x10",
    "true",
    "",
)
NUMBERS = [
    (command, *number)
    for command in COMMANDS
    for number in numbers_of(import_module(f"gram.cli.{command}").Config)
]


def allowed(text: str, kind: type, within: Within) -> bool:
    """Whether the value is one of the range: computed here from the limits alone."""
    try:
        value = float(text) if kind is float else int(text)
    except ValueError:
        return False
    low = -math.inf if within.least is None else within.least
    high = (LARGEST if kind is int else math.inf) if within.most is None else within.most
    inside = low <= value <= high and abs(value) < math.inf
    return inside and not (within.open and value == (low if within.open == "low" else high))


def test_the_walk_finds_the_numbers() -> None:
    found = {(command, name) for command, name, _, _ in NUMBERS}
    assert len(found) == len(NUMBERS) > 60
    assert {("train", "adam_beta2"), ("adapt", "learning_rates"), ("bench", "peer_batch")} <= found
    assert {command for command, _ in found} == set(COMMANDS) - WITHOUT_NUMBERS
    assert set(COMMANDS) == set(NEEDED)


@pytest.mark.parametrize(("command", "name", "kind", "within"), NUMBERS)
def test_every_number_has_a_range_and_keeps_it(
    command: str,
    name: str,
    kind: type,
    within: Within,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """By flag and by file: taken, or refused with the option's name; the work never begins when refused."""
    assert within.least is not None, f"{command}: {name} needs a range, see gram.bounds"
    taken: list[Any] = []
    monkeypatch.setattr(import_module(f"gram.cli.{command}"), "run", taken.append)
    option = f"--{name.replace('_', '-')}"
    for value in VALUES:
        taken.clear()
        code, _, error = run(capsys, command, *NEEDED[command], f"{option}={value}")
        if allowed(value, kind, within):
            assert (code, len(taken)) == (0, 1), (value, error)
        else:
            assert code in (1, 2) and not taken, (value, error)
            assert code == 2 or f"gram {command}: {name} must be" in error, (value, error)
            assert len(error) < 4_000 or code == 2
        if value in ("", "true", "0x10"):
            continue
        listed = f"[{value}]" if name == "learning_rates" else value
        (tmp_path / "o.yaml").write_text(f"{name}: {listed}\n".replace("nan", ".nan").replace("inf", ".inf"))
        taken.clear()
        code = main([command, *NEEDED[command], "--config", str(tmp_path / "o.yaml")])
        assert (code == 0) == (len(taken) == 1) == allowed(value, kind, within), value
        error = capsys.readouterr().err
        assert code == 0 or "must be" in error or "o.yaml: not YAML" in error


ODD_SHARDS = "1/99999999 0/0 0/1 2/1 1/10001 1 1/ /1 1/2/3 -1/2 1.0/2 a/b ²/3 nan/1 1/inf"


@pytest.mark.parametrize("text", [*ODD_SHARDS.split(), "", " 1/2", "1 /2", "1/2\n", "1/" + "9" * 5000])
def test_a_shard_that_makes_no_sense(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, "eval", *NEEDED["eval"], f"--shard={text}")
    assert code == 1 and "expected i/n with 1 <= i <= n <= 10000" in error


def test_a_shard_that_makes_sense() -> None:
    assert Shard.parse("10000/10000") == Shard(10_000, 10_000) and Shard.parse("01/4") == Shard(1, 4)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that gets as far as loading a model fails."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("gram.training.start.model_source", never)


@pytest.mark.parametrize(
    ("trackers", "reason"),
    [
        (["nosuch"], "report_to nosuch: nosuch is not supported"),
        (["none", "nosuch"], "report_to none, nosuch"),
        (["none", "none"], "report_to none, none"),
        (["clearml"], "report_to clearml: .*requires"),
    ],
)
def test_a_tracker_is_looked_for_before_a_model_is(
    trackers: list[str],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_model: None,
) -> None:
    check_stops(["--report-to", *trackers], reason, tmp_path, capsys)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--max-steps", "100000000", "--batch-size", "2"], "more than 100,000,000 examples"),
        (["--epochs", "1000000", "--batch-size", "1000000", "--max-steps", "101"], "more than 100,000,000"),
    ],
)
def test_combinations_are_checked_before_a_model_is_loaded(
    flags: list[str],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_model: None,
) -> None:
    check_stops(flags, reason, tmp_path, capsys)


def check_stops(flags: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    (data := tmp_path / "rows.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    code, _, error = run(
        capsys, "train", "--model", "preset:tiny", "--data", data, "--output", tmp_path / "out",
        "--device", "cpu", *flags,
    )  # fmt: skip
    assert code == 1 and re.search(reason, error), error


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig("m", ["d"], Path("o"), adam_beta2=2.0),
        lambda: TrainConfig("m", ["d"], Path("o"), batch_size=2.5),  # type: ignore[arg-type]
        lambda: TrainConfig("m", ["d"], Path("o"), batch_size="4"),  # type: ignore[arg-type]
        lambda: TrainConfig("m", ["d"], Path("o"), batch_size=True),
        lambda: TrainConfig("m", ["d"], Path("o"), beta=10**400),
        lambda: TrainConfig("m", ["d"], Path("o"), seed=10**5000),
        lambda: AdaptConfig("m", ["d"], Path("o"), learning_rates=[1e-4, math.nan]),
        lambda: AdaptConfig("m", ["d"], Path("o"), learning_rates=["1e-4"]),  # type: ignore[list-item]
        lambda: BenchSettings(rounds=0),
        lambda: LoadOptions(max_length=-1),
        lambda: gram.load("gram-135m", token_budget=0),
        lambda: gram.load("gram-135m", "likelihood", length_power=1e30),
        lambda: gram.load("gram-135m", max_length="long"),  # type: ignore[arg-type]
    ],
)
def test_python_callers_meet_the_same_ranges(make: Any) -> None:
    with pytest.raises(ConfigError, match="must be"):
        make()


def test_ranges_by_hand() -> None:
    @dataclass
    class Options:
        count: Annotated[int, Within(1, 3)] | None = None
        rates: list[Annotated[float, Within(0, 1, open="low")]] = field(default_factory=list)
        share: Annotated[float, Within(0, 1, open="high")] = 0.5
        free: float = 0.0
        name: str = "x"

    assert [name for name, _, _ in numbers_of(Options)] == ["count", "rates", "share", "free"]
    for good in (Options(), Options(3, [1.0, 1e-9], 0.0, -1e30), Options(np.int64(1), [], np.float32(0.25))):  # type: ignore[arg-type]
        check_bounds(good)
    for bad, reason in (
        (Options(0), "count must be at least 1 and at most 3, got 0"),
        (Options(4), "count must be at least 1 and at most 3, got 4"),
        (Options(2.0), "count must be a whole number, got 2.0"),  # type: ignore[arg-type]
        (Options(None, [0.5, 0.0]), r"rates must be in \(0, 1\], got 0.0"),
        (Options(share=1.0), r"share must be in \[0, 1\), got 1.0"),
        (Options(free=math.inf), "free must be a finite number, got inf"),
        (Options(free="1"), "free must be a number, got '1'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=reason):
            check_bounds(bad)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("batch_size: 2\nbatch_size: 4", "option 'batch_size' stands there 2 times"),
        ("batch_size: 2\nbatch-size: 4", "option 'batch_size' stands there 2 times"),
        ("seed: 0x" + "f" * 5000, "option 'seed': is a number beyond all measure"),
        ("beta: 1" + "0" * 400, "option 'beta': must be float"),
        ("[" * 5000, "not YAML"),
        ("beta: " + "[" * 5000 + "]" * 5000, "not YAML"),
    ],
)
def test_a_file_that_nobody_can_mean(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o.yaml").write_text(text)
    code, _, error = run(capsys, "train", *NEEDED["train"], "--config", tmp_path / "o.yaml")
    assert code == 1 and reason in error, error[:300]
