"""``--workers N``: the same bytes for every N, kills and interrupts included. Torch has one thread here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import gram.cli.score
from conftest import make_preferences, run, wait_for_end
from gram.asking import LoadOptions
from gram.errors import ConfigError
from gram.evaluation import runner
from gram.modeling.manifest import read_manifest
from gram.ranking import rows as ranking_rows
from gram.scoring.asked import take_share
from gram.workers import WHOLE, Share
from small_models import mostly_right

SMALL = """
import sys, gram.cli.score
gram.cli.score._CHUNK = 4
from gram.__main__ import entry
if __name__ == "__main__":
    sys.exit(entry())
"""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four rows to a part, and as many threads in this process as a worker has."""
    monkeypatch.setattr(gram.cli.score, "_CHUNK", 4)
    monkeypatch.setattr(ranking_rows, "CHUNK", 4)
    defaults = runner.evaluate.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "chunk", 4)
    monkeypatch.setattr(runner, "CHUNK", 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """18 preferences: five parts."""
    return write(
        tmp_path / "pairs.jsonl",
        [
            {"id": str(k), "prompt": x.pair.prompt[-1].content, "chosen": x.pair.a, "rejected": x.pair.b}
            for k, x in enumerate(make_preferences(18))
        ],
    )


@pytest.fixture
def contests(tmp_path: Path) -> Path:
    """18 prompts with two or four candidates."""
    preferences = make_preferences(36)
    return write(
        tmp_path / "contests.jsonl",
        [
            {
                "id": str(k),
                "prompt": x.pair.prompt[-1].content,
                "responses": [x.pair.a, x.pair.b, *([y.pair.a, y.pair.b] if k % 3 else [])],
            }
            for k, (x, y) in enumerate(zip(preferences[:18], preferences[18:], strict=True))
        ],
    )


@pytest.fixture
def mixed(tmp_path: Path, pairs: Path, contests: Path) -> Path:
    """Pairs, candidates and, where ``answer`` is in the id, single answers by turns."""
    rows = []
    for pair, contest in zip(pairs.read_text().splitlines(), contests.read_text().splitlines(), strict=True):
        answer = json.loads(pair)
        single = {"id": "answer", "prompt": answer["prompt"], "response": answer["chosen"]}
        rows += [answer, json.loads(contest), single]
    return write(tmp_path / "mixed.jsonl", rows)


def same_numbers(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal results of two commands, but for the output's name, the time, and the last bits of a sum."""
    for result in (one, other):
        for name in ("output", "seconds"):
            del result[name]
        result["label_mass"] = result["label_mass"] and round(result["label_mass"], 12)
    return one == other


def test_scores_of_all_forms(
    scalar_folder: Path,
    judge_folder: Path,
    mixed: Path,
    contests: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The untrained judge puts little mass on its labels, and that is told once."""
    for model, data, length, count in ((scalar_folder, mixed, 32, 3), (judge_folder, contests, 96, 2)):
        results, told = [], []
        for workers in (1, count):
            caplog.clear()
            output = tmp_path / f"{model.name}-{workers}.jsonl"
            command = ["score", "--model", model, "--input", data, "--max-length", length, "--output", output]
            code, result, err = run(capsys, *command, "--workers", workers)
            assert code == 0, err
            results.append((result, output.read_bytes()))
            told.append([record.getMessage() for record in caplog.records if "labels" in record.getMessage()])
        (one, lines), (several, lines_of_several) = results
        assert lines_of_several == lines and same_numbers(several, one)
        assert told[0] == told[1] and len(told[1]) == (model is judge_folder)
        assert one["truncated_prompts"] > 0


def test_rankings_in_rounds_and_their_costs(
    judge_folder: Path, contests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for workers in (1, 2):
        output = tmp_path / f"{workers}.jsonl"
        command = ["rank", "--model", judge_folder, "--input", contests, "--schedule", "swiss", "--output"]
        code, result, err = run(capsys, *command, output, "--workers", workers)
        assert code == 0, err
        results.append((result, output.read_bytes()))
    assert results[0][1] == results[1][1] and same_numbers(results[0][0], results[1][0])
    assert results[0][0]["tokens"] > 0


def test_an_ensemble_centred_in_each_worker(
    scalar_folder: Path, contests: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokens of centring are in the cost once, and ``mine`` has workers too."""
    ensemble = ["--ensemble-with", scalar_folder, "--ensemble", "uncertainty_weighted", "--centre-on", pairs]
    results = []
    for workers in (1, 2):
        output = tmp_path / f"{workers}.jsonl"
        command = ["mine", "--model", scalar_folder, "--input", contests, *ensemble, "--output", output]
        code, result, err = run(capsys, *command, "--workers", workers)
        assert code == 0, err
        results.append((result, output.read_bytes()))
    assert results[0][1] == results[1][1] and same_numbers(results[0][0], results[1][0])


def test_evaluations_and_their_results(
    judge_folder: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With dressed-up answers, in one order each."""
    command = ["eval", "--model", judge_folder, "--data", pairs, "--perturb", "filler", "--single-order"]
    for workers, name in ((1, "one"), (2, "two")):
        code, _, err = run(capsys, *command, "--output", tmp_path / name, "--workers", workers)
        assert code == 0, err
    for name in ("records.jsonl", "results.json", "report.md", "report.html"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_temperature_from_workers(
    judge_folder: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fitted on log-odds without the temperature that stands there, in every worker."""
    write(pairs, mostly_right(judge_folder, [json.loads(line) for line in pairs.read_text().splitlines()]))
    found = []
    for workers in (1, 2):
        model = tmp_path / f"model-{workers}"
        shutil.copytree(judge_folder, model)
        manifest = read_manifest(model)
        assert manifest is not None
        replace(manifest, calibration={"temperature": 7.0 * workers}).write(model)
        command = ["eval", "--model", model, "--calibrate", pairs, "--output", tmp_path / str(workers)]
        code, result, err = run(capsys, *command, "--workers", workers)
        assert code == 0, err
        found.append({**result, "model": "", "seconds": 0})
    assert found[0] == found[1]


def test_errors_of_workers_are_one_line(
    judge_folder: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A judge cannot score the single answer in the first part."""
    said = []
    for workers in (1, 2):
        command = ["score", "--model", judge_folder, "--input", mixed, "--output", tmp_path / "out.jsonl"]
        code, _, err = run(capsys, *command, "--workers", workers)
        assert code == 1
        said.append(err)
    assert said[0] == said[1] and said[1].startswith("gram score: a judge compares answers")
    assert len(said[1].splitlines()) == 1


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """``gram`` in parts of four rows, in a process group of its own, as a terminal starts it."""
    command = [sys.executable, "-c", SMALL, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_rows(process: subprocess.Popen[str], partial: Path, least: int) -> list[psutil.Process]:
    """Wait for rows in the journal; the processes that the command has started."""
    while not (partial.exists() and partial.read_bytes().count(b"\n") > least):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def many(tmp_path: Path, pairs: Path) -> Path:
    """360 rows: enough to be in the midst of them."""
    file = tmp_path / "many.jsonl"
    file.write_text(pairs.read_text() * 20)
    return file


@pytest.fixture
def whole(judge_folder: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> bytes:
    """The output of one process that nothing stopped."""
    output = tmp_path / "whole.jsonl"
    code, _, err = run(capsys, "score", "--model", judge_folder, "--input", many, "--output", output)
    assert code == 0, err
    return output.read_bytes()


@pytest.mark.slow
def test_stopped_in_any_way_the_run_goes_on_with_other_workers(
    judge_folder: Path, many: Path, whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted from the terminal, a worker killed, killed itself: workers go, no row is lost or double."""
    output, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    command = ["score", "--model", judge_folder, "--input", many, "--output", output, "--workers"]

    with started(*command, 2) as process:
        children = wait_for_rows(process, partial, 1)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    low_mass, *said = err.splitlines()  # the model is untrained
    assert (process.returncode, out, said) == (130, "", ["gram score: interrupted"]), low_mass
    wait_for_end(child.pid for child in children)

    done = partial.read_bytes().count(b"\n")
    with started(*command, 2) as process:
        worker = next(
            child
            for child in wait_for_rows(process, partial, done)
            if "resource_tracker" not in "".join(child.cmdline())
        )
        worker.kill()
        out, err = process.communicate()
    low_mass, *said = err.splitlines()
    assert (process.returncode, out, len(said)) == (1, "", 1), err
    assert said[0].startswith("gram score: a worker died: killed, or out of memory")

    done = partial.read_bytes().count(b"\n")
    with started(*command, 3) as process:
        children = wait_for_rows(process, partial, done)
        process.kill()
        process.communicate()
    wait_for_end(child.pid for child in children)

    code, result, err = run(capsys, *command, 2)
    assert code == 0 and 0 < result["resumed"] < result["rows"], err
    assert output.read_bytes() == whole and not partial.exists()


def test_a_worker_takes_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 threads among 3 are 2 each, and at least one; the token budget does not follow the free memory."""
    threads: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    options = LoadOptions(device="cpu")
    assert take_share(WHOLE, options) == options and threads == []
    assert take_share(Share(1, 3), options).token_budget == 4096
    assert take_share(Share(1, 9), LoadOptions(device="cpu", token_budget=70)).token_budget == 70
    assert threads == [2, 1]


def test_a_worker_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    options = LoadOptions()
    assert take_share(Share(1, 2), options) == options and chosen == [1]
    with pytest.raises(ConfigError, match=r"--workers 3: each takes a GPU.* torch finds 2"):
        take_share(Share(0, 3), options)
