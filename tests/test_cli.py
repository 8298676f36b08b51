"""The command line as a person meets it: exit codes, one JSON line, one clear line for every mistake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import make_preferences
from gram import Message, Pair, Preference
from gram.cli import score as score_command
from gram.cli import train as train_command
from gram.cli.main import COMMANDS, main
from gram.cli.options import ModelOptions
from gram.scoring.judge import JudgeModel
from gram.scoring.scalar import Scorer

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """Exit code, and what stood on stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The one line on stdout of a successful command."""
        assert self.code == 0, self.err
        [line] = self.out.splitlines()
        return json.loads(line)


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return run


def refused(outcome: Outcome, *reasons: str) -> None:
    """Exit 1, nothing on stdout, one line on stderr that holds the reasons."""
    assert (outcome.code, outcome.out) == (1, "")
    lines = [line for line in outcome.err.splitlines() if line.startswith("gram ")]
    assert len(lines) == 1 and "Traceback" not in outcome.err, outcome.err
    for reason in reasons:
        assert reason in lines[0]


def write_rows(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def chat_of(prompt: tuple[Message, ...]) -> Rows:
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def labeled(preferences: list[Preference]) -> Rows:
    return [
        {"prompt": chat_of(item.pair.prompt), "a": item.pair.a, "b": item.pair.b, "p_a": item.p_a}
        for item in preferences
    ]


@pytest.fixture(scope="module")
def training_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", labeled(make_preferences(8)))


@pytest.fixture(scope="module")
def quick(training_file: Path) -> list[str]:
    """Options of a training of one step."""
    options = "--model preset:tiny --vocab-size 400 --max-steps 1 --batch-size 4 --template compact"
    return [*options.split(), "--device", "cpu", "--data", str(training_file)]


# --- The frame: help, exit codes, one line ---


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_lists_every_command(arguments: list[str], command: Command) -> None:
    outcome = command(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert all(f"  {name} " in outcome.out for name in COMMANDS)


def test_the_version(command: Command) -> None:
    outcome = command("--version")
    assert (outcome.code, outcome.out) == (0, f"gram {gram.__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, command: Command) -> None:
    outcome = command(name, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"usage: gram {name}" in outcome.out and "--config FILE.yaml" in outcome.out


@pytest.mark.parametrize(
    ("name", "option"), [("report", "runs: [a, b]"), ("bench", "what: train"), ("fetch", "name: toy")]
)
def test_what_has_no_flag_cannot_stand_in_a_file(
    name: str, option: str, tmp_path: Path, command: Command
) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(option + "\n")
    refused(command(name, "--config", path), f"{path}: '{option.partition(':')[0]}' has no flag")


def test_an_unknown_command_says_which_there_are(command: Command) -> None:
    outcome = command("colour")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"gram: no command 'colour'; there are: {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_named(name: str, command: Command) -> None:
    outcome = command(name, "--colour", "blue")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines()[0].startswith(f"gram {name}: no option --colour")


def test_an_unknown_option_beside_right_ones_is_named(quick: list[str], command: Command) -> None:
    outcome = command("train", *quick, "--output", "never", "--colour", "blue")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines() == [
        "gram train: no option --colour",
        "gram train --help lists all options",
    ]


def test_a_file_that_fails_is_named(
    quick: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and a closed pipe are no bugs of ours; an error without a number may be."""
    raised: OSError = OSError(28, "No space left on device", "s.jsonl.partial")

    def broken(config: object) -> None:
        raise raised

    monkeypatch.setattr(train_command, "run", broken)
    outcome = command("train", *quick, "--output", "never")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "gram train: s.jsonl.partial: No space left on device\n"
    raised = BrokenPipeError(32, "Broken pipe")
    assert command("train", *quick, "--output", "never").err == "gram train: stdout: Broken pipe\n"
    raised = OSError("no file")
    with pytest.raises(OSError, match="no file"):
        command("train", *quick, "--output", "never")


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("train", "--model preset:tiny --data d --output never"),
        ("adapt", "--model m --data d --output never"),
        ("eval", "--model m --data d --output never"),
        ("rank", "--model m --input d"),
        ("mine", "--model m --input d --output never"),
        ("report", "a b"),
        ("demo", "--output never"),
        ("bench", ""),
    ],
)
def test_a_seed_that_no_generator_takes(name: str, flags: str, seed: int, command: Command) -> None:
    refused(
        command(name, *flags.split(), "--seed", seed),
        f"seed must be at least 0 and at most 4294967295, got {seed}",
    )


def test_the_process_leaves_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gram", "trian"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command 'trian'" in done.stderr


def test_an_interruption_is_no_crash(
    quick: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "run", interrupt)
    outcome = command("train", *quick, "--output", "never")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "gram train: interrupted\n")


def test_the_result_is_json_even_where_a_number_is_not(
    quick: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON has no NaN: it becomes null."""
    monkeypatch.setattr(train_command, "run", lambda config: {"x": float("nan"), "y": [1.0, float("inf")]})
    assert command("train", *quick, "--output", "never").out == '{"x": null, "y": [1.0, null]}\n'


def test_a_bug_of_ours_keeps_its_traceback(
    quick: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(train_command, "run", broken)
    with pytest.raises(ZeroDivisionError):
        command("train", *quick, "--output", "never")


# --- gram train ---


def test_train_and_score(quick: list[str], training_file: Path, command: Command, tmp_path: Path) -> None:
    """From rows to verdicts in two commands; every message of the training goes to stderr."""
    outcome = command("train", *quick, "--output", tmp_path / "judge", "--max-length", "64")
    result = outcome.result
    assert {"output", "stage", "objective", "examples", "steps", "train_loss", "seconds"} <= set(result)
    assert (result["stage"], result["objective"], result["examples"]) == ("finetune", "preference", 8)
    assert 0 < result["truncated"] < 8
    assert f"gram train: samples shortened, of 8: {result['truncated']}\n" in outcome.err
    scored = command(
        "score", "--model", tmp_path / "judge", "--input", training_file, "--output", tmp_path / "s.jsonl"
    )
    assert scored.result["rows"] == len(read_rows(tmp_path / "s.jsonl")) == 8


def test_train_from_a_file_of_options(training_file: Path, command: Command, tmp_path: Path) -> None:
    """Flags win over the file, and a rate without a dot is a number."""
    options = tmp_path / "stage.yaml"
    options.write_text(
        f"model: preset:tiny\nvocab-size: 400\ndata: [{training_file}]\noutput: {tmp_path / 'out'}\n"
        "max-steps: 5\nbatch_size: 4\nlearning_rate: 1e-3\ntemplate: compact\ndevice: cpu\nlora: true\n",
        encoding="utf-8",
    )
    assert command("train", "--config", options, "--max-steps", "1", "--no-lora").result["steps"] == 1
    settings = json.loads((tmp_path / "out" / "gram-train.json").read_text(encoding="utf-8"))
    assert settings["learning_rate"] == 0.001 and settings["lora"] is False
    again = command("train", "--config", options)
    refused(again, "holds a finished model; use --overwrite")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("colour: blue", "unknown option 'colour'; there are: model, data, output"),
        ("batch_size: many", "option 'batch_size': must be int, got 'many'"),
        ("data: rows.jsonl", "option 'data': must be a list"),
        ("stage: third", "option 'stage': 'third' is not one of pretrain, finetune"),
        ("a: [", "not YAML"),
        ("- a", "must map option names to values"),
    ],
)
def test_a_wrong_file_of_options(text: str, reason: str, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text(text, encoding="utf-8")
    outcome = command("train", "--config", path)
    refused(outcome, f"gram train: {path}: ", reason)
    assert len(outcome.err.splitlines()) == 1, "a YAML parser speaks in several lines"


def test_missing_files_and_options(command: Command, quick: list[str], tmp_path: Path) -> None:
    refused(command("train", "--config", tmp_path / "no.yaml"), "no.yaml: no such configuration file")
    refused(command("train", "--config"), "--config needs a file")
    refused(command("train", *quick, "--output", "x", "--freeze", "--lora"), "freeze and lora: choose one")
    outcome = command("train", "--model", "preset:tiny")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--data" in outcome.err and "--output" in outcome.err


BAD_ROWS: dict[str, tuple[str, int, str]] = {
    "not JSON": ('{"prompt": "x", ', 2, "not valid JSON"),
    "unknown form": ('{"question": "x"}', 2, "no known form of row"),
    "empty answer": ('{"prompt": "x", "a": "", "b": "y", "p_a": 1}', 2, "field 'a'"),
    "equal answers": ('{"prompt": "x", "chosen": "y", "rejected": "y"}', 2, "field 'rejected'"),
    "wrong label": ('{"prompt": "x", "a": "u", "b": "v", "p_a": 2}', 2, "field 'p_a'"),
}


@pytest.mark.parametrize(("line", "number", "reason"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_names_file_line_and_field(
    line: str,
    number: int,
    reason: str,
    training_file: Path,
    quick: list[str],
    command: Command,
    tmp_path: Path,
) -> None:
    rows = tmp_path / "bad.jsonl"
    good = training_file.read_text(encoding="utf-8").splitlines(keepends=True)
    rows.write_text(good[0] + line + "\n" + "".join(good[1:]), encoding="utf-8")
    flags = [*quick[:-1], rows, "--output", tmp_path / "out"]
    refused(command("train", *flags), f"{rows}:{number}: ", reason)
    assert not (tmp_path / "out" / "gram.json").exists()
    skipped = command("train", *flags, "--on-error", "skip")
    assert (skipped.result["rejected"], skipped.result["examples"]) == (1, 8)
    assert "gram train: rows rejected, see rejects.jsonl: 1\n" in skipped.err
    [reject] = read_rows(tmp_path / "out" / "rejects.jsonl")
    assert (reject["line"], reject["file"]) == (number, str(rows))


def test_a_missing_file(quick: list[str], command: Command, tmp_path: Path) -> None:
    flags = [*quick[:-1], tmp_path / "none.jsonl", "--output", tmp_path / "out"]
    refused(command("train", *flags), "none.jsonl: no such file or folder")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"name": "x", "text": "{prompt} {a} {b}", "labels": ["first", "second"]}', "must be one token"),
        ('{"name": "x", "text": "{prompt} {a}", "labels": ["A", "B"]}', "{b} stands 0 times, must be once"),
        ('{"name": "x", "text": "{prompt} {a} {b}", "labels": ["A", "A"]}', "two different labels"),
        ('{"name": "x", "labels": ["A", "B"]}', "field 'text' is missing or not a str"),
        ("{prompt}", "not JSON"),
    ],
)
def test_a_wrong_template(
    text: str, reason: str, judge_folder: Path, training_file: Path, command: Command, tmp_path: Path
) -> None:
    """The same words from training and from scoring; a label of two tokens is one of the ways to be wrong."""
    path = tmp_path / "template.json"
    path.write_text(text, encoding="utf-8")
    output = tmp_path / "out"
    model = ["--model", judge_folder, "--template", path, "--device", "cpu"]
    refused(command("train", *model, "--data", training_file, "--output", output), reason)
    refused(command("score", *model, "--input", training_file, "--output", tmp_path / "s.jsonl"), reason)
    assert not (output / "gram.json").exists() and not list(tmp_path.glob("s.jsonl*"))


def test_a_length_that_cannot_hold_the_question(
    judge_folder: Path, training_file: Path, quick: list[str], command: Command, tmp_path: Path
) -> None:
    short = ["--max-length", "9"]
    refused(command("train", *quick, *short, "--output", tmp_path / "out"), "max_length 9 is too small")
    flags = ["--model", judge_folder, "--input", training_file, "--output", tmp_path / "s.jsonl"]
    refused(command("score", *flags, *short), "max_length 9 is too small")
    assert not (tmp_path / "s.jsonl").exists()


def test_a_pair_too_long_to_be_told_apart(quick: list[str], command: Command, tmp_path: Path) -> None:
    pair = {"prompt": "which ?", "p_a": 1.0} | {
        side: " the tower is green" * 30 + word + " and the river is old" * 30
        for side, word in (("a", " bread"), ("b", " music"))
    }
    rows = write_rows(tmp_path / "long.jsonl", [pair, *labeled(make_preferences(4))])
    flags = [*quick[:-1], rows, "--max-length", "64", "--output", tmp_path / "out"]
    refused(command("train", *flags), "1 of 5 pairs have equal answers after truncation", "--max-length")
    skipped = command("train", *flags, "--on-error", "skip")
    assert skipped.result["collapsed"] == 1
    assert "gram train: pairs left out, equal when shortened: 1\n" in skipped.err


def test_a_diverging_training_leaves_no_model(quick: list[str], command: Command, tmp_path: Path) -> None:
    flags = [*quick, "--output", tmp_path / "out", "--max-steps", "20", "--learning-rate", "1"]
    refused(command("train", *flags), "gram train: the loss ", "lower --learning-rate")
    assert not (tmp_path / "out" / "gram.json").exists()


# --- gram score ---


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Preference]]:
    """Twelve rows: pairs and candidates in turn, every other one with an id."""
    items = make_preferences(24, seed=5)[:12]
    rows: Rows = []
    for place, item in enumerate(items):
        named = {"id": f"r{place}"} if place % 2 else {}
        answers: dict[str, Any] = {"a": item.pair.a, "b": item.pair.b}
        if place % 3 == 2:
            answers = {"responses": [item.pair.a, item.pair.b, "the old tower ."]}
        rows.append(named | {"prompt": chat_of(item.pair.prompt)} | answers)
    return write_rows(tmp_path_factory.mktemp("mixed") / "mixed.jsonl", rows), items


def ids(rows: Rows) -> list[str | None]:
    return [row.get("id") for row in rows]


def test_score_with_a_judge(
    judge_folder: Path, mixed: tuple[Path, list[Preference]], command: Command, tmp_path: Path
) -> None:
    """Order and ids are kept among pairs and candidates, and every number is the library's own."""
    source, items = mixed
    flags = ["--model", judge_folder, "--input", source, "--output", tmp_path / "s.jsonl"]
    outcome = command("score", *flags)
    result = outcome.result | {"seconds": 0}
    assert 0 < result.pop("label_mass") < 1
    assert result == {
        "output": str(tmp_path / "s.jsonl"),
        "dtype": "fp32",
        "rows": 12,
        "resumed": 0,
        "rejected": 0,
        "truncated_prompts": 0,
        "seconds": 0,
    }
    rows = read_rows(tmp_path / "s.jsonl")
    assert ids(rows) == [f"r{place}" if place % 2 else None for place in range(12)]
    model = gram.load(judge_folder)
    for place, (row, item) in enumerate(zip(rows, items, strict=True)):
        if place % 3 == 2:
            ranking = gram.rank(model, item.pair.prompt, [item.pair.a, item.pair.b, "the old tower ."])
            assert row["scores"] == pytest.approx(ranking.strengths.tolist(), abs=1e-4)
            assert row["order"] == ranking.order
        else:
            verdicts = model.compare([item.pair])
            assert row["p_a"] == pytest.approx(verdicts.p_a[0], abs=1e-5)
            assert row["log_odds"] == pytest.approx(verdicts.log_odds[0].tolist(), abs=1e-4)
            assert row["position_gap"] == pytest.approx(verdicts.position_gap[0], abs=1e-5)
    assert np.std([row["p_a"] for row in rows if "p_a" in row]) > 0.01, "all alike: nothing was tested"


def test_score_in_one_order(
    judge_folder: Path, mixed: tuple[Path, list[Preference]], command: Command, tmp_path: Path
) -> None:
    """What was not asked is null."""
    flags = ["--model", judge_folder, "--input", mixed[0], "--output", tmp_path / "s.jsonl"]
    assert command("score", *flags, "--single-order").code == 0
    first = read_rows(tmp_path / "s.jsonl")[0]
    assert first["log_odds"][0] is not None
    assert (first["log_odds"][1], first["position_gap"]) == (None, None)


@pytest.mark.parametrize("kind", ["likelihood", "scalar"])
def test_score_with_a_scorer(
    kind: str,
    likelihood_folder: Path,
    scalar_folder: Path,
    mixed: tuple[Path, list[Preference]],
    command: Command,
    tmp_path: Path,
) -> None:
    """Pairs, candidates and single answers in one file; candidates are sorted by their scores."""
    folder = {"likelihood": likelihood_folder, "scalar": scalar_folder}[kind]
    items = mixed[1][:4]
    answers: Rows = [
        {"id": item.id, "prompt": chat_of(item.pair.prompt), "response": item.pair.a} for item in items
    ]
    source = write_rows(tmp_path / "all.jsonl", [*answers, *read_rows(mixed[0])])
    outcome = command("score", "--model", folder, "--input", source, "--output", tmp_path / "s.jsonl")
    assert outcome.result["rows"] == 16
    rows = read_rows(tmp_path / "s.jsonl")
    assert ids(rows)[:4] == [item.id for item in items]
    model = gram.load(folder)
    assert isinstance(model, Scorer)
    wanted = model.score([item.pair.prompt for item in items], [item.pair.a for item in items])
    assert [row["score"] for row in rows[:4]] == pytest.approx(wanted.tolist(), abs=1e-4)
    contest, pair = rows[4 + 2], rows[4 + 0]
    assert contest["order"] == sorted(range(3), key=lambda place: -contest["scores"][place])
    a, b = model.score([mixed[1][0].pair.prompt] * 2, [mixed[1][0].pair.a, mixed[1][0].pair.b])
    assert pair["log_odds"] == pytest.approx([a - b, a - b], abs=1e-3)
    assert pair["position_gap"] == 0.0


def test_a_judge_cannot_score_a_single_answer(judge_folder: Path, command: Command, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "x.jsonl", [{"prompt": "who ?", "response": "me ."}])
    flags = ["--model", judge_folder, "--input", source, "--output", tmp_path / "s.jsonl"]
    refused(command("score", *flags), "a judge compares answers and cannot score a single one")
    assert command("score", *flags, "--kind", "likelihood").result["rows"] == 1


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_killed_scoring_goes_on(
    judge_folder: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten pairs, four per write, killed after two and a half: two pairs are asked, the bytes are equal."""
    monkeypatch.setattr(score_command, "_CHUNK", 4)
    rows = [{"id": str(k), **row} for k, row in enumerate(labeled(make_preferences(10)))]
    source = write_rows(tmp_path / "pairs.jsonl", rows)
    asked: list[Pair] = []
    plain = JudgeModel.compare

    def compare(self: JudgeModel, pairs: Any) -> Any:
        if len(asked) >= limit:
            raise Killed
        asked.extend(pairs)
        return plain(self, pairs)

    monkeypatch.setattr(JudgeModel, "compare", compare)

    def flags(name: str) -> list[object]:
        return ["score", "--model", judge_folder, "--input", source, "--output", tmp_path / name]

    limit = 100
    assert command(*flags("whole.jsonl")).result["resumed"] == 0
    asked.clear()
    limit = 8
    with pytest.raises(Killed):
        command(*flags("s.jsonl"))
    assert not (tmp_path / "s.jsonl").exists()
    with (tmp_path / "s.jsonl.partial").open("a", encoding="utf-8") as torn:
        torn.write('{"id": "8", "p_a": 0.')
    asked.clear()
    limit = 100
    result = command(*flags("s.jsonl")).result
    assert (result["resumed"], result["rows"]) == (8, 10)
    assert asked == [item.pair for item in make_preferences(10)[8:]]
    assert (tmp_path / "s.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert ids(read_rows(tmp_path / "s.jsonl")) == [str(k) for k in range(10)]
    assert not (tmp_path / "s.jsonl.partial").exists()


@pytest.mark.parametrize("change", ["retrained", "another template", "another question"])
def test_only_the_same_scoring_is_continued(
    change: str,
    judge_folder: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stands in the partial file came from another model, template or option: it is not mixed in."""
    monkeypatch.setattr(score_command, "_CHUNK", 2)
    model = tmp_path / "judge"
    shutil.copytree(judge_folder, model)
    template = tmp_path / "template.json"
    text = '{"name": "x", "text": "{prompt}|{a}|{b}|", "labels": ["A", "B"]}'
    template.write_text(text, encoding="utf-8")
    source = write_rows(tmp_path / "pairs.jsonl", labeled(make_preferences(4)))
    flags = ["--model", model, "--input", source, "--output", tmp_path / "s.jsonl", "--template", template]
    plain, calls = JudgeModel.compare, 0

    def compare(self: JudgeModel, pairs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return plain(self, pairs)

    monkeypatch.setattr(JudgeModel, "compare", compare)
    with pytest.raises(Killed):
        command("score", *flags)
    match change:
        case "retrained":
            weights = model / "model.safetensors"
            content = bytearray(weights.read_bytes())
            content[len(content) // 2] ^= 1
            weights.write_bytes(content)
        case "another template":
            template.write_text(text.replace("}|{a}", "} {a}"), encoding="utf-8")
        case "another question":
            flags.append("--single-order")
    assert command("score", *flags).result["resumed"] == 0


def test_rows_to_centre_on_are_known_by_their_content(tmp_path: Path) -> None:
    """Also where only a split of them is taken: then those of another split may change."""
    rows = [
        {"prompt": "q", "response": "one", "split": "test"},
        {"prompt": "q", "response": "two", "split": "train"},
    ]

    def fingerprint() -> dict[str, Any]:
        source = write_rows(tmp_path / "rows.jsonl", rows)
        return ModelOptions(model="hub/name", centre_on=f"{source}::test").source.fingerprint()

    before = fingerprint()
    rows[1]["response"] = "three"
    assert fingerprint() == before
    rows[0]["response"] = "four"
    assert fingerprint() != before


def test_large_weights_are_told_apart_by_samples(tmp_path: Path) -> None:
    """Of 100 MiB, 1 MiB at either end and 64 KiB every 16 MiB are read; a copy has the same fingerprint.

    The file is sparse: only what the test writes takes room.
    """
    size, places = 100 * 2**20, {}
    for name, place in (("base", 0), ("same", 0), ("head", 2**20 - 1), ("middle", 3 * 2**24), ("tail", -1)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(size)
            file.seek(place % size)
            file.write(b"\1" if place else b"\0")
        places[name] = ModelOptions(model=str(tmp_path / name)).source.fingerprint()
    assert places["base"] == places["same"]
    assert all(places[name] != places["base"] for name in ("head", "middle", "tail"))


def test_a_bad_row_is_skipped_on_request(judge_folder: Path, command: Command, tmp_path: Path) -> None:
    """The rest keeps its order and ids; the reject names the line."""
    rows = [{"id": str(k), **row} for k, row in enumerate(labeled(make_preferences(4)))]
    rows[1]["b"] = rows[1]["a"]
    source = write_rows(tmp_path / "pairs.jsonl", rows)
    output = tmp_path / "s.jsonl"
    flags = ["--model", judge_folder, "--input", source, "--output", output]
    refused(command("score", *flags), f"{source}:2: field 'b': the two answers are equal")
    assert not output.exists()
    assert command("score", *flags, "--on-error", "skip").result["rejected"] == 1
    assert ids(read_rows(output)) == ["0", "2", "3"]
    [reject] = read_rows(tmp_path / "s.jsonl.rejects.jsonl")
    assert (reject["line"], reject["field"]) == (2, "b")


def test_an_output_that_would_do_harm_is_refused(
    judge_folder: Path, training_file: Path, command: Command, tmp_path: Path
) -> None:
    source = tmp_path / "rows.jsonl"
    shutil.copy(training_file, source)
    for output, reason in (
        (tmp_path, "is a folder; name a file"),
        (source, "is an input"),
    ):
        refused(command("score", "--model", judge_folder, "--input", source, "--output", output), reason)
    assert source.read_bytes() == training_file.read_bytes()


@pytest.mark.parametrize(
    "name", ["score", "rank", "mine", "convert", "bulk", "adapt", "train", "eval", "merge"]
)
@pytest.mark.parametrize("place", [".", "..", "/"])
def test_an_output_without_a_name_is_refused_in_one_line(
    name: str, place: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip; a folder is a place for those that write folders."""
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    (tmp_path / "rows.jsonl").write_text("none\n", encoding="utf-8")
    source = {"adapt": "--data", "train": "--data", "eval": "--data"}.get(name, "--input")
    flags = [] if name == "merge" else [source, "../rows.jsonl"]
    flags += {"convert": ["--to", "trl"], "bulk": ["--num-actors", 1]}.get(name, [])
    flags += [] if name == "convert" else ["--model", "nothing-here"]
    flags += ["--on-error=skip"] if name == "adapt" else []
    refused(command(name, *flags, f"--output={place}"), f"gram {name}: ")
    refused(command(name, *flags, "--output", ""), "--output is empty")  # as of a variable that is not set
    assert {path.name for path in tmp_path.rglob("*")} <= {"in", "rows.jsonl", "in.rejects.jsonl"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("score", "rows.jsonl/x.jsonl"),
        ("rank", "rows.jsonl/x.jsonl"),
        ("mine", "/proc/nope/x.jsonl"),
        ("eval", "rows.jsonl"),
        ("adapt", "rows.jsonl/x"),
        ("train", "rows.jsonl/x"),
        ("demo", "rows.jsonl"),
        ("bench", "rows.jsonl/x.json"),
    ],
)
def test_an_output_that_cannot_be_made_is_refused_before_any_model_is_asked(
    name: str, place: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model here is of no kind, and the rows are none: neither is looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("none\n", encoding="utf-8")
    (tmp_path / "model").mkdir()
    data = "--input" if name in ("score", "rank", "mine") else "--data"
    flags = [] if name in ("demo", "bench") else ["--model", "model", data, "rows.jsonl"]
    refused(command(name, *flags, "--output", place), "output ", "cannot be a folder")


def test_the_rejects_never_replace_an_input(
    judge_folder: Path, training_file: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that is read beside the rows, or later than those it would hold."""
    monkeypatch.chdir(tmp_path)
    good = ["--on-error", "skip", "--model", judge_folder]
    candidates = write_rows(tmp_path / "c.jsonl", [{"prompt": "q", "responses": ["a", "b"]}])
    bad = '{"bad": 1}\n'

    def kept(place: str, *arguments: object) -> None:
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(bad, encoding="utf-8")
        refused(command(*arguments), f"{path.name}: is an input")
        assert path.read_text(encoding="utf-8") == bad

    kept("rejects.jsonl", "rank", *good, "--input", "rejects.jsonl")
    kept("rejects.jsonl", "rank", *good, "--input", candidates, "--centre-on", "rejects.jsonl")
    beside = "out.jsonl.rejects.jsonl"
    for name in ("rank", "mine", "score"):
        kept(beside, name, *good, "--input", beside, "--output", "out.jsonl")
    kept("adapted.rejects.jsonl", "adapt", *good, "--data", "adapted.rejects.jsonl", "--output", "adapted")
    later = "out/rows.rejects.jsonl"
    kept(later, "eval", *good, "--data", training_file, later, "--output", "out")


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded as a model"),
    "half the weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{"),
        "cannot be loaded as a model",
    ),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "no config.json in this folder"),
    "no tokenizer": (
        lambda folder: [path.unlink() for path in folder.glob("tokenizer*")],
        "no tokenizer in this folder",
    ),
    "a torn manifest": (
        lambda folder: (folder / "gram.json").write_text('{"kind": "ju', encoding="utf-8"),
        "gram.json: not JSON",
    ),
    "an edited template": (
        lambda folder: (folder / "gram.json").write_text(
            re.sub(r'"text": "', '"text": "Please: ', (folder / "gram.json").read_text(encoding="utf-8")),
            encoding="utf-8",
        ),
        "the template does not match its hash",
    ),
    "all of it": (lambda folder: shutil.rmtree(folder), "no such folder"),
}


@pytest.mark.parametrize(("break_it", "reason"), BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_broken_checkpoint(
    break_it: Callable[[Path], object],
    reason: str,
    judge_folder: Path,
    training_file: Path,
    command: Command,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(judge_folder, folder)
    break_it(folder)
    flags = ["--model", folder, "--input", training_file, "--output", tmp_path / "s.jsonl"]
    refused(command("score", *flags), str(folder), reason)
    assert not list(tmp_path.glob("s.jsonl*"))


def test_a_model_of_another_kind(
    judge_folder: Path, scalar_folder: Path, training_file: Path, command: Command, tmp_path: Path
) -> None:
    rest = ["--input", training_file, "--output", tmp_path / "s.jsonl"]
    refused(
        command("score", "--model", judge_folder, "--kind", "scalar", *rest), "has no trained scalar head"
    )
    refused(command("score", "--model", scalar_folder, "--kind", "judge", *rest), "a scalar model has no")
