"""``gram train`` on several processes makes the folder that one makes, also of what another number began."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from conftest import make_preferences
from gram.errors import ConfigError
from gram.training import pipeline
from gram.training.config import TrainConfig
from gram.training.fit import fit
from gram.training.pipeline import train
from several_processes import SHARDED, divided_by_deepspeed, needs_deepspeed, together

Config = dict[str, Any]


class Killed(BaseException):
    """Stands for a kill: nothing in the trainer catches it."""


def outcome(config: Config, dies_at: int | None = None) -> dict[str, Any] | str:
    """What a run in this process comes to: its summary, or what stopped it; it dies in step ``dies_at``."""

    def observe(step: int) -> None:
        if step == dies_at:
            raise Killed(f"in step {step}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "fit", lambda *given, **more: fit(*given, **more, observe=observe))
        try:
            return train(TrainConfig(**config))
        except (Killed, ConfigError) as stop:
            return str(stop)


def outcomes(works: list[tuple[Config, int | None]]) -> list[dict[str, Any] | str]:
    return [outcome(*work) for work in works]


@pytest.fixture
def make(tmp_path: Path, converted: Path) -> Callable[..., Config]:
    """Four steps of six, a checkpoint and an evaluation after every second; two bad rows, two leaked ones."""
    rows = [
        {"prompt": item.pair.prompt[0].content, "a": item.pair.a, "b": item.pair.b, "p_a": item.p_a}
        for item in make_preferences(30)
    ]
    bad = {"prompt": "who ?", "a": "same", "b": "same", "p_a": 1.0}
    for name, chosen in (("train", [*rows[:24], bad, bad]), ("held_out", rows[22:])):
        text = "".join(json.dumps(row) + "\n" for row in chosen)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")

    def config(output: str, **options: Any) -> Config:
        common: Config = {
            "model": str(converted),
            "data": [str(tmp_path / "train.jsonl")],
            "eval_data": [str(tmp_path / "held_out.jsonl")],
            "output": tmp_path / output,
            "template": "compact",
            "on_error": "skip",
            "max_steps": 4,
            "batch_size": 6,
            "eval_steps": 2,
            "save_steps": 2,
            "log_steps": 1,
            "learning_rate": 1e-3,
            "device": "cpu",
        }
        return common | options

    return config


LORA: Config = {"lora": True, "lora_rank": 4, "adapter": "kept"}
WHOLE: Config = {}


def assert_same_folder(mine: Path, theirs: Path) -> None:
    """Equal files, but for weights that differ by rounding (5e-5), and what is said of them."""
    assert {path.name for path in mine.iterdir()} == {path.name for path in theirs.iterdir()}
    names = {path.name for path in mine.glob("*.safetensors")}
    for path in mine.iterdir():
        other = theirs / path.name
        if path.name in names:
            weights, wanted = load_file(path), load_file(other)
            assert weights.keys() == wanted.keys()
            for key, value in weights.items():
                # Adam makes a large step of a small gradient, so that rounding shows: 5e-6 were seen.
                assert (wanted[key] - value).abs().max().item() < 5e-5, key
        elif path.name == "gram.json":
            one, two = json.loads(path.read_text()), json.loads(other.read_text())
            assert one["training"].pop("train_loss") == pytest.approx(
                two["training"].pop("train_loss"), rel=1e-5
            )
            assert one.pop("evaluation") == pytest.approx(two.pop("evaluation"), rel=1e-4, abs=1e-5)
            digests, wanted = one.pop("files"), two.pop("files")
            assert digests.keys() == wanted.keys()
            assert {key for key in digests if digests[key] != wanted[key]} <= names
            assert one == two
        elif path.name != "gram-train.json":  # that names the folder
            assert path.read_bytes() == other.read_bytes(), path.name


@pytest.mark.slow
def test_a_run_goes_on_with_more_or_fewer_processes(make: Callable[..., Config], tmp_path: Path) -> None:
    """Two processes from the start, two after one, and one after two: the folder that one process makes.

    Killed in step 3, after the checkpoint of step 2; all weights, and a kept adapter. Rejects are written
    once, and leaks counted once, by however many processes.
    """
    for kind, options in (("whole", WHOLE), ("lora", LORA)):
        assert isinstance(outcome(make(f"one-{kind}", **options)), dict)
    assert outcome(make("one-two", **WHOLE), 3) == "in step 3"
    works = [
        (make("two-whole", **WHOLE), None),
        (make("two-one", **WHOLE), 3),
        (make("two-one-lora", **LORA), 3),
        (make("one-two", **WHOLE), None),
    ]
    first, _ = together(2, outcomes, works, folder=tmp_path)
    ends = [found if isinstance(found, str) else found["steps"] for found in first]
    assert ends == [4, "in step 3", "in step 3", 4]
    assert first[0]["rejected"] == 2 and first[0]["leaked"] == 2
    assert len((tmp_path / "two-whole" / "rejects.jsonl").read_text().splitlines()) == 2
    for name, options in (("two-one", WHOLE), ("two-one-lora", LORA)):
        assert (tmp_path / name / "checkpoints" / "checkpoint-2").is_dir()
        assert isinstance(outcome(make(name, **options)), dict)
    for name in ("two-whole", "two-one", "one-two"):
        assert_same_folder(tmp_path / name, tmp_path / "one-whole")
    assert_same_folder(tmp_path / "two-one-lora", tmp_path / "one-lora")


@pytest.mark.slow
def test_a_divided_run_goes_on_with_more_processes(make: Callable[..., Config], tmp_path: Path) -> None:
    """Divided among two, killed in step 3, and then among three: the folder that one process makes.

    The checkpoint holds parts of the weights only; a single process, and processes that hold whole copies,
    say so instead of beginning anew.
    """
    kinds = {"whole": WHOLE, "lora": LORA}
    for kind, options in kinds.items():
        assert isinstance(outcome(make(f"one-{kind}", **options)), dict)
    works: list[Any] = [(make("parts-whole", **WHOLE), None)]
    works += [(make(f"more-{kind}", **options), 3) for kind, options in kinds.items()]
    first, _ = together(2, outcomes, works, folder=tmp_path, **SHARDED)
    ends = [found if isinstance(found, str) else found["steps"] for found in first]
    assert ends == [4, "in step 3", "in step 3"]
    checkpoint = tmp_path / "more-whole" / "checkpoints" / "checkpoint-2"
    parts = list(checkpoint.glob("pytorch_model_fsdp_0/*.distcp"))
    assert len(parts) == 2 and not (checkpoint / "model.safetensors").exists()
    refused = outcome(make("more-whole", **WHOLE))
    assert isinstance(refused, str) and "was saved by processes that divided the model" in refused
    more = [(make(f"more-{kind}", **options), None) for kind, options in kinds.items()]
    assert [found["steps"] for found in together(3, outcomes, more, folder=tmp_path, **SHARDED)[0]] == [4, 4]
    assert_same_folder(tmp_path / "parts-whole", tmp_path / "one-whole")
    for kind in kinds:
        assert_same_folder(tmp_path / f"more-{kind}", tmp_path / f"one-{kind}")


@pytest.mark.slow
@needs_deepspeed
def test_a_run_that_deepspeed_divides_goes_on(make: Callable[..., Config], tmp_path: Path) -> None:
    """Divided among two, killed in step 3, and then among two again: the folder that one process makes.

    Three processes, whose parts would be others, FSDP and a single process say so.
    """
    kinds, divided = {"whole": WHOLE, "lora": LORA}, divided_by_deepspeed(tmp_path)
    for kind, options in kinds.items():
        assert isinstance(outcome(make(f"one-{kind}", **options)), dict)
    works: list[Any] = [(make("parts-whole", **WHOLE), None)]
    works += [(make(f"more-{kind}", **options), 3) for kind, options in kinds.items()]
    first, _ = together(2, outcomes, works, folder=tmp_path, **divided)
    ends = [found if isinstance(found, str) else found["steps"] for found in first]
    assert ends == [4, "in step 3", "in step 3"]
    checkpoint = tmp_path / "more-whole" / "checkpoints" / "checkpoint-2"
    assert len(list(checkpoint.glob("global_step2/*_model_states.pt"))) == 2
    assert not list(checkpoint.glob("*.safetensors"))
    refused = outcome(make("more-whole", **WHOLE))
    assert isinstance(refused, str) and "divided the model among them (ZeRO-3)" in refused
    again = [(make("more-whole", **WHOLE), None)]
    for count, switch, reason in ((3, divided, "cannot go on with 3"), (2, SHARDED, "(ZeRO-3): go on")):
        assert reason in together(count, outcomes, again, folder=tmp_path, **switch)[0][0]
    more = [(make(f"more-{kind}", **options), None) for kind, options in kinds.items()]
    assert [found["steps"] for found in together(2, outcomes, more, folder=tmp_path, **divided)[0]] == [4, 4]
    assert_same_folder(tmp_path / "parts-whole", tmp_path / "one-whole")
    for kind in kinds:
        assert_same_folder(tmp_path / f"more-{kind}", tmp_path / f"one-{kind}")
