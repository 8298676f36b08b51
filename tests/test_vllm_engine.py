"""``vllm:FOLDER``: the judge of a folder on a vLLM that is started for it, by the laws of a judge.

The program is ``vllm_stand_in.py``, which takes vLLM's options and answers in its shapes with the folder's
own weights; ``test_real_vllm.py`` runs the real one where there is one.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import make_preferences, run
from fake_servers import Fake, running
from gram import Pair
from gram.asking import LoadOptions
from gram.errors import CheckpointError, ConfigError, ScoringError
from gram.scoring.judge import JudgeModel
from gram.scoring.remote.source import RemoteSource
from gram.types import RewardModel, ScalarModel

STAND_IN = Path(__file__).with_name("vllm_stand_in.py")
PAIRS = [item.pair for item in make_preferences(8, seed=5)]
Start = Callable[..., JudgeModel]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the program writes its number, and what it is asked; it is found from now on."""
    path = tmp_path / "asked.jsonl"
    monkeypatch.setenv("GRAM_VLLM", f"{sys.executable} {STAND_IN}")
    monkeypatch.setenv("GRAM_VLLM_OPTIONS", f"--asked {path}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return path


def judge(name: str, **options: Any) -> JudgeModel:
    model = gram.load(name, **options)
    assert isinstance(model, JudgeModel)
    return model


def lines(asked: Path) -> list[Any]:
    return [json.loads(line) for line in asked.read_text().splitlines()]


def has_ended(number: int) -> bool:
    """Within the patience of a test."""
    for _ in range(200):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_it_is_the_judge_that_the_folder_is_here(asked: Path, judge_folder: Path) -> None:
    """Log-odds in both orders, mass and what was cut, to rounding in fp32; the laws of every judge: an order
    swap turns the sign, and a pair is judged alike in any company."""
    here = judge(str(judge_folder), device="cpu", dtype="fp32", max_length=80)
    there = judge(f"vllm:{judge_folder}", dtype="fp32", max_length=80)
    assert isinstance(there, RewardModel) and not isinstance(there, ScalarModel)
    expected, told = here.compare(PAIRS), there.compare(PAIRS)
    assert np.ptp(expected.log_odds) > 0.1
    np.testing.assert_allclose(told.log_odds, expected.log_odds, atol=2e-5)
    np.testing.assert_allclose(told.mass, expected.mass, rtol=1e-4)
    assert told.bounded is not None and not told.bounded.any()
    assert told.usage.truncated == expected.usage.truncated > 0
    assert told.usage.judged == expected.usage.judged == 16
    swapped = there.compare([pair.swapped() for pair in PAIRS])
    np.testing.assert_allclose(swapped.log_odds, told.swapped().log_odds, atol=1e-12)
    alone = np.concatenate([there.compare([pair]).log_odds for pair in PAIRS[:3]])
    np.testing.assert_allclose(alone, told.log_odds[:3], atol=1e-12)
    assert len(there.compare([])) == 0
    assert there.template is not None and there.template.hash == here.template.hash  # type: ignore[union-attr]


def test_token_ids_go_out_in_trie_order_with_the_labels_named(asked: Path, judge_folder: Path) -> None:
    """Prompts that begin alike one after the other: a beginning is in the cache when it is met again."""
    pairs = [Pair(f"Question {k % 2}?", f"Answer {k}.", f"Other {k}.") for k in range(6)]
    judge(f"vllm:{judge_folder}", dtype="fp32", connections=1).compare(pairs)
    bodies = lines(asked)[1:]
    prompts = [body["prompt"] for body in bodies]
    assert len(prompts) == 12 and prompts == sorted(prompts)
    assert all(isinstance(token, int) for prompt in prompts for token in prompt)
    assert {len(body["logprob_token_ids"]) for body in bodies} == {2}


def test_an_older_vllm_is_asked_twice_more_where_a_label_is_not_listed(
    asked: Path, judge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAM_VLLM_OPTIONS", f"--asked {asked} --old --max-logprobs 1")
    told = judge(f"vllm:{judge_folder}", dtype="fp32").compare(PAIRS[:2])
    expected = judge(str(judge_folder), device="cpu", dtype="fp32").compare(PAIRS[:2])
    np.testing.assert_allclose(told.log_odds, expected.log_odds, atol=2e-5)
    assert any(body.get("echo") for body in lines(asked)[1:])


def test_the_longest_prompt_leaves_room_for_the_label(asked: Path, judge_folder: Path) -> None:
    """A model of 1,024 positions gets 1,023 tokens at most, and vLLM refuses none of them."""
    long = Pair("what is it ? " * 300, "a bird " * 300, "a fish " * 300)
    there = judge(f"vllm:{judge_folder}", dtype="fp32")
    assert there.compare([long]).usage.truncated == 2
    lengths = [len(body["prompt"]) for body in lines(asked)[1:]]
    assert len(lengths) == 2 and all(1000 < length < 1024 for length in lengths)
    here = judge(str(judge_folder), device="cpu", dtype="fp32", max_length=1023)
    np.testing.assert_allclose(there.compare([long]).log_odds, here.compare([long]).log_odds, atol=2e-5)


def test_it_ends_with_the_model(asked: Path, judge_folder: Path, tmp_path: Path) -> None:
    model = judge(f"vllm:{judge_folder}", dtype="fp32")
    model.compare(PAIRS[:1])
    number = lines(asked)[0]
    assert list(tmp_path.glob("gram-vllm-*.log"))
    del model
    gc.collect()
    assert has_ended(number) and not list(tmp_path.glob("gram-vllm-*.log"))


def test_it_ends_when_we_are_killed(asked: Path, judge_folder: Path) -> None:
    """SIGKILL, which no code of ours sees."""
    code = f"import gram, time; model = gram.load('vllm:{judge_folder}', dtype='fp32')"
    code += "; print('up', flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as ours:
        assert ours.stdout is not None and ours.stdout.readline() == b"up\n"
        ours.send_signal(signal.SIGKILL)
    assert has_ended(lines(asked)[0])


@pytest.mark.slow
def test_a_command_goes_on_where_it_was_and_keeps_answers(
    asked: Path, judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its port is another one each time, and neither the run nor the kept answers depend on it."""
    rows = [{"prompt": f"Question {k}?", "chosen": "Yes.", "rejected": "No."} for k in range(2)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = ["score", "--model", f"vllm:{judge_folder}", "--input", data, "--dtype", "fp32"]
    command += ["--cache", tmp_path / "kept.sqlite"]
    code, _, err = run(capsys, *command, "--output", tmp_path / "one.jsonl")
    assert code == 0, err
    assert "starting vLLM for" in err
    asked_for = len(lines(asked))
    code, _, err = run(capsys, *command, "--output", tmp_path / "two.jsonl")
    assert code == 0, err
    assert len(lines(asked)) == asked_for + 1  # its number alone: all answers were kept
    assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()
    first, second = (RemoteSource(f"vllm:{judge_folder}", LoadOptions(dtype="fp32")) for _ in range(2))
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != RemoteSource(f"vllm:{judge_folder}", LoadOptions()).fingerprint()


def test_another_configuration_is_another_model(
    asked: Path, judge_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Answers that are kept, and runs that go on, are those of the options that vLLM had.

    The last ``--dtype`` counts, so that the second one rounds to bf16: it is asked itself.
    Words behind the program come before all, and count too.
    """
    options = LoadOptions(dtype="fp32", cache=tmp_path / "kept.sqlite")
    first = RemoteSource(f"vllm:{judge_folder}", options)
    in_fp32, mark = first.load().compare(PAIRS[:2]), first.fingerprint()
    monkeypatch.setenv("GRAM_VLLM_OPTIONS", f"--asked {asked} --dtype bfloat16")
    second = RemoteSource(f"vllm:{judge_folder}", options)
    in_bf16 = second.load().compare(PAIRS[:2])
    assert len(lines(asked)) == 2 * (1 + 4)
    assert np.abs(in_bf16.log_odds - in_fp32.log_odds).max() > 1e-4
    assert second.fingerprint() != mark
    monkeypatch.setenv("GRAM_VLLM_OPTIONS", f"--asked {asked}")
    assert first.fingerprint() == mark
    monkeypatch.setenv("GRAM_VLLM", f"{sys.executable} -I {STAND_IN}")
    assert first.fingerprint() != mark


@pytest.mark.parametrize(
    ("program", "options", "says"),
    [
        ("no-such-program", "", "there is no program 'no-such-program': install vLLM"),
        (f"{sys.executable} {STAND_IN}", "--no-such-option", "unrecognized arguments: --no-such-option"),
        (f"{sys.executable} -c 'raise SystemExit(7)'", "", "vLLM ended with status 7"),
    ],
)
def test_a_program_that_does_not_come_up(
    program: str, options: str, says: str, asked: Path, judge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAM_VLLM", program)
    monkeypatch.setenv("GRAM_VLLM_OPTIONS", options)
    with pytest.raises((ConfigError, ScoringError), match=says):
        gram.load(f"vllm:{judge_folder}")


def test_its_environment_is_not_ours(
    asked: Path, judge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PYTHONPATH of ours would give vLLM our packages in place of its own."""
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv(
        "GRAM_VLLM", f"{sys.executable} -c 'import os; raise SystemExit(\"PYTHONPATH\" in os.environ)'"
    )
    with pytest.raises(ScoringError, match="status 0"):
        gram.load(f"vllm:{judge_folder}")


@pytest.mark.parametrize(
    ("model", "says"),
    [("gram-135m", "is an adapter.*gram merge"), ("./nowhere", "nowhere")],
)
def test_what_vllm_cannot_open_is_refused_before_it_starts(
    model: str, says: str, asked: Path, base_of_gram_135m: None
) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=says):
        gram.load(f"vllm:{model}")
    assert not asked.exists()


def test_a_running_one_has_the_tokenizer_of_its_name(judge_folder: Path) -> None:
    """``vllm serve FOLDER`` serves it under its path: with the folder here, nothing more has to be said."""
    with running(Fake("vllm")) as fake:
        judge(f"vllm:{judge_folder}@{fake.url}").compare(PAIRS[:1])
        body = fake.bodies("/v1/completions")[0]
    assert body["model"] == str(judge_folder) and isinstance(body["prompt"], list)
    assert len(body["logprob_token_ids"]) == 2
    with pytest.raises(ConfigError, match="no folder judge here; whose tokens does it read"):
        gram.load("vllm:judge@http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="dtype: not for vllm:"):
        gram.load(f"vllm:{judge_folder}@http://127.0.0.1:9", dtype="fp32")
