"""``--columns`` says what a column is, for every command; what is left out is counted by every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gram.cli.main import main
from gram.config_file import read_values
from gram.data import read_contests, read_language, read_preferences, read_scorables
from gram.data.columns import parse_columns
from gram.data.convert import ConvertOptions
from gram.errors import ConfigError, DataError
from gram.types import Answer, Pair, as_chat

FOREIGN = {"frage": "Why?", "gut": "So.", "schlecht": "No.", "title": "A common question"}
SAYS = "prompt=frage,chosen=gut,rejected=schlecht"


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "columns",
    [
        SAYS,
        " prompt = frage, chosen = gut,rejected=schlecht,ignore=title",
        {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"},
        {"prompt": "frage", "chosen": "gut", "rejected": "schlecht", "ignore": ["title", "note"]},
    ],
)
def test_columns_are_read_under_other_names(columns: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", FOREIGN)
    [row] = read_preferences(path, columns=columns).examples
    assert row.pair == Pair("Why?", "So.", "No.")


@pytest.mark.parametrize(
    ("written", "flag"),
    [
        (
            "{prompt: 'Frage, kurz', ignore: [chosen, rejected]}",
            '"prompt=Frage, kurz",ignore=chosen,ignore=rejected',
        ),
        ("{prompt: 'Die \"Frage\"', ignore: chosen}", 'prompt=Die "Frage",ignore=chosen'),
    ],
)
def test_a_mapping_in_a_file_means_what_it_means_in_python(written: str, flag: str, tmp_path: Path) -> None:
    """Names with a comma or a quote, and several columns to leave out; so does the same as a flag."""
    config = tmp_path / "c.yaml"
    config.write_text(f"columns: {written}\n")
    known = {"prompt"}
    wanted = parse_columns(yaml.safe_load(written), known)
    assert parse_columns(read_values(ConvertOptions, config)["columns"], known) == wanted
    assert parse_columns(flag, known) == wanted


def test_every_reader_takes_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"q": "Why?", "alle": ["So.", "No."], "eine": "So."})
    assert read_contests(path, columns="prompt=q,responses=alle").examples[0].responses == ("So.", "No.")
    assert read_scorables(path, columns={"prompt": "q", "response": "eine"}).examples[0].item == Answer(
        as_chat("Why?"), "So."
    )
    assert read_language(path, columns="text=q").examples[0].id == ""


def test_a_column_may_take_the_place_of_another(tmp_path: Path) -> None:
    """Exchanged names exchange the answers; a name that is taken loses its own column."""
    path = write(
        tmp_path / "x.jsonl", {"prompt": "id 7", "question": "Why?", "chosen": "So.", "rejected": "No."}
    )
    [row] = read_preferences(path, columns="chosen=rejected,rejected=chosen,prompt=question").examples
    assert row.pair == Pair("Why?", "No.", "So.")


def test_ignored_columns_do_not_stop_the_implicit_prompt(tmp_path: Path) -> None:
    row = {"chosen": "Is it 4? Yes.", "rejected": "Is it 4? No.", "note": "a note", "remark": "another"}
    path = write(tmp_path / "x.jsonl", row)
    with pytest.raises(DataError, match=r":1: field 'note': may be the question.*--columns ignore=note"):
        read_preferences(path)
    [read] = read_preferences(path, columns="ignore=note,ignore=remark").examples
    assert read.pair.prompt == as_chat("Is it 4?")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("prompt", "expected NAME=COLUMN,NAME=COLUMN; got 'prompt'"),
        ("prompt=frage,", "got ''"),
        ("=frage", "got '=frage'"),
        ("prompt=", "got 'prompt='"),
        ("frage=prompt", "'frage' is read by no form of row; there are: ignore, a, answer_0"),
        ("prompt=frage,prompt=title", "'prompt' is given twice"),
    ],
)
def test_columns_that_make_no_sense(columns: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_preferences(write(tmp_path / "x.jsonl", FOREIGN), columns=columns)


def test_a_row_without_the_column_is_a_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", FOREIGN, {"prompt": "Why?", "gut": "So.", "schlecht": "No."})
    with pytest.raises(DataError, match=r"x\.jsonl:2: field 'frage': no such column, which --columns names"):
        read_preferences(path, columns=SAYS)
    rejects = tmp_path / "rejects.jsonl"
    read = read_preferences(path, columns=SAYS, on_error="skip", rejects=rejects)
    assert (len(read.examples), read.rejected, read.sources[0].rows) == (1, 1, 2)


# --- Commands ---

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The JSON line of a command, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> dict[str, Any]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out.splitlines()[-1])

    return command


def foreign_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"frage": f"What is {k} + 1?", "gut": f"It is {k + 1}.", "schlecht": f"It is {k}."}
        for k in range(count)
    ]


def test_every_command_that_reads_rows_takes_columns(run: Run, likelihood_folder: Path) -> None:
    model = likelihood_folder
    data = write(Path("pairs.jsonl"), *foreign_rows(12), {"frage": "Why?"})
    contests = write(Path("contests.jsonl"), {"q": "2 + 2?", "alle": ["4", "5"]})
    skip = ("--on-error", "skip")
    scored = run("score", "--model", model, "--input", data, "--output", "s.jsonl", "--columns", SAYS, *skip)
    assert (scored["rows"], scored["rejected"]) == (12, 1)
    measured = run(
        "eval", "--model", model, "--data", data, "--output", "e", "--columns", SAYS, *skip,
        "--max-per-source", 5,
    )  # fmt: skip
    counts = {name: measured[name] for name in ("rows", "rejected", "unpaired", "beyond_limit", "ties")}
    assert counts == {"rows": 5, "rejected": 1, "unpaired": 0, "beyond_limit": 7, "ties": 0}
    assert json.loads(Path("e/results.json").read_text())["beyond_limit"] == 7
    names = "prompt=q,responses=alle"
    for command in ("rank", "mine"):
        got = run(command, "--model", model, "--input", contests, "--output", command, "--columns", names)
        assert (got["prompts"], got["rejected"]) == (1, 0)
    adapted = run(
        "adapt", "--model", model, "--data", data, "--output", "a", "--columns", SAYS, *skip,
        "--folds", 2, "--max-steps", 1, "--learning-rates", 1e-5, "--max-per-source", 11,
    )  # fmt: skip
    counts = {name: adapted[name] for name in ("rows", "rejected", "unpaired", "beyond_limit", "ties")}
    assert counts == {"rows": 11, "rejected": 1, "unpaired": 0, "beyond_limit": 1, "ties": 0}


@pytest.mark.parametrize("value", [SAYS, "{prompt: frage, chosen: gut, rejected: schlecht}"])
def test_training_takes_columns_from_its_file_and_counts_what_it_left_out(run: Run, value: str) -> None:
    """Of 14 rows one is bad; of the 13 good ones 10 are taken; the evaluation data are the same rows."""
    tie = {"frage": "Why?", "gut": "So.", "schlecht": "No.", "p_chosen": 0.5}
    write(Path("pairs.jsonl"), *foreign_rows(12), tie, {"frage": "Why?", "gut": "So.", "schlecht": "So."})
    Path("run.yaml").write_text(
        "model: preset:tiny\ndata: [pairs.jsonl]\neval_data: [pairs.jsonl]\noutput: m\nmax_steps: 1\n"
        f"batch_size: 4\nmax_per_source: 10\non_error: skip\nvocab_size: 300\ncolumns: {value}\n"
    )
    got = run("train", "--config", "run.yaml")
    assert (got["examples"], got["rejected"], got["beyond_limit"], got["unpaired"]) == (10, 1, 3, 0)
    assert (got["eval_rejected"], got["eval_beyond_limit"], got["eval_ties"]) == (1, 0, 1)
