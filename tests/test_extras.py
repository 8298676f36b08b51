"""The core works without any extra, and where a library is missing, the extra that brings it is named."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import make_preferences, run
from gram.cli.main import COMMANDS
from gram.errors import ConfigError, MissingLibraryError
from gram.extras import EXTRA_OF, explained, need
from served import Here, Served, serving
from test_architecture import imported, modules
from without import gram_alone, gram_without, python_without

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Imported by us, and brought by a package that pyproject.toml names.
BROUGHT_BY = {"pyarrow": "datasets", "starlette": "fastapi", "pydantic": "fastapi"}
BROUGHT_BY |= {"huggingface_hub": "transformers"}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {
            "id": item.id,
            "prompt": item.pair.prompt[-1].content,
            "chosen": item.pair.a,
            "rejected": item.pair.b,
        }
        for item in make_preferences(8, seed=6)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def contests(tmp_path: Path) -> Path:
    file = tmp_path / "contests.jsonl"
    answers = [item.pair.a for item in make_preferences(4, seed=5)]
    file.write_text("".join(json.dumps({"prompt": f"{k} ?", "responses": answers}) + "\n" for k in range(3)))
    return file


@pytest.fixture
def served(judge_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(judge_folder), fingerprint="one")) as server:
        yield server


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


# --- The table ---


def requirements(extra: str | None) -> set[str]:
    """The distributions of the core, or of an extra and those that it names."""
    names: set[str] = set()
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    for requirement in listed:
        if inner := re.match(r"gram-rm\[([\w,]+)\]", requirement):
            names = names.union(*map(requirements, inner[1].split(",")))
        else:
            names.add(re.split(r"[\[<>=!~ ]", requirement)[0])
    return names


def test_every_library_comes_with_the_core_or_with_the_extra_of_the_table() -> None:
    """No import of the package is left out, and ``dev`` brings all."""
    distributions = packages_distributions()
    libraries = {name.split(".")[0] for m in modules().values() for name in imported(m, ast.walk(m.tree))}
    libraries -= {*sys.stdlib_module_names, "gram"}
    assert len(libraries) > 20
    for library in libraries:
        package = BROUGHT_BY.get(library, distributions.get(library, [library])[0]).lower().replace("_", "-")
        extra = EXTRA_OF.get(library)
        assert package in requirements(extra), f"{library} is not in {extra or 'the dependencies'}"
        assert extra is None or package in requirements("dev")
    assert set(EXTRA_OF) <= libraries


def test_every_install_command_shown_names_extras_that_exist() -> None:
    """In pages, scripts, docstrings and the files of CI."""
    places = [
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "Makefile", "constraints.txt", "pyproject.toml")
    ]
    for folder in (".ci", ".github", "docs", "src", "examples", "experiments"):
        places += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    shown = [
        (path.name, name)
        for path in places
        if path.suffix in ("", ".md", ".py", ".txt", ".toml", ".yml")
        for names in re.findall(r"(?:gram-rm|'\.|\"\.)\[([\w,]+)\]", path.read_text(encoding="utf-8"))
        for name in names.split(",")
    ]
    assert len(shown) > 20
    assert not [place for place in shown if place[1] not in PROJECT["optional-dependencies"]]


def test_what_is_missing_is_told_once_and_the_rest_is_left() -> None:
    need("json", "numpy")
    with pytest.raises(MissingLibraryError) as told, explained():
        raise ModuleNotFoundError("No module named 'peft.tuners'", name="peft.tuners")
    assert str(told.value) == "peft is not installed: pip install 'gram-rm[torch]'"
    assert isinstance(told.value, ConfigError) and isinstance(told.value, ImportError)
    with pytest.raises(MissingLibraryError) as again, explained():
        raise told.value
    assert again.value is told.value
    with pytest.raises(ModuleNotFoundError, match="of somebody else") as others, explained():
        raise ModuleNotFoundError("of somebody else", name="else")
    assert not isinstance(others.value, MissingLibraryError)


# --- Where something is missing ---

MODEL = ("--model", "JUDGE")
SCORE = ("score", *MODEL, "--output", "OUT", "--input")
TRAIN = ("train", *MODEL, "--data", "PAIRS", "--max-steps", "1", "--output", "OUT")

MISSING = [
    ("torch", "torch", (*SCORE, "PAIRS")),
    ("torch", "torch", ("eval", *MODEL, "--data", "PAIRS", "--output", "OUT")),
    ("torch", "torch", ("rank", *MODEL, "--input", "CONTESTS", "--output", "OUT")),
    ("torch", "torch", ("mine", *MODEL, "--input", "CONTESTS", "--output", "OUT")),
    ("torch", "torch", ("adapt", *MODEL, "--data", "PAIRS", "--output", "OUT")),
    ("torch", "torch", ("demo", "--quick", "--output", "OUT")),
    ("torch", "torch", ("bench", "score", "--quick")),
    ("torch", "torch", ("doctor", *MODEL)),
    ("torch", "torch", ("merge", *MODEL, "--output", "OUT")),
    ("torch", "torch", ("export", "decision", *MODEL, "--output", "OUT")),
    ("torch", "torch", TRAIN),
    ("transformers", "torch", (*SCORE, "PAIRS")),
    ("accelerate", "train", TRAIN),
    ("peft", "torch", (*TRAIN, "--lora")),
    ("pyarrow", "data", (*SCORE, "TABLE")),
    ("datasets", "data", (*SCORE, "owner/name")),
    ("datasets", "data", (*SCORE, "FOLDER")),
    ("fastapi", "serve", ("serve", *MODEL)),
    ("uvicorn", "serve", ("serve", *MODEL)),
    ("gguf", "local", ("export", "gguf", *MODEL, "--output", "OUT")),
    ("matplotlib", "plots", ("demo", "--quick", "--output", "OUT")),
    ("matplotlib", "plots", ("bench", "score", "--quick", "--plot", "OUT")),
]


@pytest.mark.parametrize(
    ("library", "extra", "arguments"),
    MISSING,
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_a_command_names_the_extra(
    library: str,
    extra: str,
    arguments: tuple[str, ...],
    judge_folder: Path,
    pairs: Path,
    contests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line, exit code 1, and nothing written."""
    home = tmp_path / "home"
    monkeypatch.setenv("GRAM_HOME", str(home))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "state.json").write_text("{}")  # as ``save_to_disk`` leaves one
    table = tmp_path / "table.parquet"
    table.write_bytes(b"PAR1")
    output = tmp_path / "out"
    places = {"JUDGE": judge_folder, "PAIRS": pairs, "CONTESTS": contests, "TABLE": table, "OUT": output}
    places["FOLDER"] = tmp_path / "folder"
    done = gram_without([library], *(places.get(argument, argument) for argument in arguments))
    told = f"gram {arguments[0]}: {library} is not installed: pip install 'gram-rm[{extra}]'\n"
    assert (done.returncode, done.stderr.splitlines(keepends=True)[-1:]) == (1, [told])
    assert not done.stdout and not output.exists() and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("library", "program"),
    [
        ("torch", "gram.load('gram-135m')"),
        ("torch", "gram.ensemble"),
        ("torch", "gram.load('gram-135m')"),
        ("transformers", "gram.load('gram-135m')"),
        ("pyarrow", "from gram.data import read_rows; list(read_rows('x.jsonl.zst'))"),
        ("matplotlib", "from gram import plots; plots.canvas()"),
    ],
)
def test_python_names_the_extra(library: str, program: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.zst").write_bytes(b"")
    chdir = f"import os; os.chdir({str(tmp_path)!r})"
    done = python_without([library], f"{chdir}; import gram; {program}")
    told = f"{library} is not installed: pip install 'gram-rm[{EXTRA_OF[library]}]'"
    assert done.stderr.splitlines()[-1] == f"gram.errors.MissingLibraryError: {told}"


# --- The core alone ---


def test_help_needs_no_extra() -> None:
    program = "from gram.cli.main import main; print([main([name, '--help']) for name in sys.argv[1:]])"
    done = python_without(EXTRA_OF, program, *COMMANDS)
    assert not done.stderr and done.stdout.count("usage: gram") == len(COMMANDS)
    assert done.stdout.splitlines()[-1] == str([0] * len(COMMANDS))


def test_two_runs_are_compared_by_the_core(
    judge_folder: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of runs made with all extras become the same numbers as with all extras."""
    runs = []
    for name, orders in (("both", []), ("one", ["--single-order"])):
        folder = tmp_path / name
        runs.append(folder)
        arguments = ["eval", "--model", judge_folder, "--data", pairs, "--output", folder, *orders]
        assert run(capsys, *arguments)[0] == 0
    code, here, _ = run(capsys, "report", *runs, "--output", tmp_path / "here")
    done = gram_alone("report", *runs, "--output", tmp_path / "alone")
    assert (code, done.returncode) == (0, 0), done.stderr
    there = json.loads(done.stdout)
    assert there["differences"] == here["differences"] and there["scores"] == here["scores"]
    assert (tmp_path / "alone" / "report.html").stat().st_size > 1000
    assert (tmp_path / "alone" / "report.md").read_text() == (tmp_path / "here" / "report.md").read_text()


@pytest.mark.parametrize(
    ("command", "rows"), [("rank", "contests"), ("score", "pairs"), ("mine", "contests")]
)
def test_a_served_model_is_asked_by_the_core(
    command: str,
    rows: str,
    served: Served,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [command, "--model", served.url, "--input", request.getfixturevalue(rows), "--output"]
    done = gram_alone(*arguments, tmp_path / "alone.jsonl")
    assert done.returncode == 0, done.stderr
    assert run(capsys, *arguments, tmp_path / "here.jsonl")[0] == 0
    assert rows_of(tmp_path / "alone.jsonl") == rows_of(tmp_path / "here.jsonl") != []


def test_a_served_model_is_evaluated_by_the_core(served: Served, pairs: Path, tmp_path: Path) -> None:
    done = gram_alone("eval", "--model", served.url, "--data", pairs, "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "run" / "records.jsonl")) == 8
    assert (tmp_path / "run" / "report.html").exists()


def test_python_asks_a_served_model_without_an_extra(served: Served, judge_folder: Path) -> None:
    program = """
import gram
judge = gram.RemoteModel(sys.argv[1])
verdicts = judge.compare([gram.Pair("What is 2 + 2?", "4.", "5.")])
best = gram.best_of_n(judge, "What is 2 + 2?", ["4.", "5.", "Fish."])
print(float(verdicts.p_a[0]), best)
"""
    done = python_without(EXTRA_OF, program, served.url)
    assert done.returncode == 0, done.stderr
    here = gram.load(judge_folder).compare([gram.Pair("What is 2 + 2?", "4.", "5.")])
    assert float(done.stdout.split()[0]) == pytest.approx(float(here.p_a[0]), abs=1e-6)


def test_data_is_converted_by_the_core(pairs: Path, tmp_path: Path) -> None:
    done = gram_alone("convert", "--input", pairs, "--to", "hh", "--output", tmp_path / "hh.jsonl")
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "hh.jsonl")) == 8
