"""The wheel is built, and tried in environments that hold what it declares and nothing else.

No network: the libraries are those of the environment that runs the tests, linked into the fresh one as far
as the wheel's own requirements lead to them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from conftest import make_preferences, run
from gram.cli.main import COMMANDS
from gram.version import __version__

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("pip") is None, reason="pip builds and installs the wheel"),
    pytest.mark.skipif(find_spec("setuptools") is None, reason="setuptools builds the wheel"),
]

ROOT = Path(__file__).parent.parent
NAME = "gram-rm"
LARGEST_CODE, LARGEST_WHEEL = 2_000_000, 100_000_000  # bytes; the second is what the Python index takes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    without = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=without)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, folder)
    [built] = folder.glob("*.whl")
    return built


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    assert done.returncode == 0, done.stderr


def clean_environment() -> dict[str, str]:
    """Without a ``PYTHONPATH``, by which the sources here would count as installed."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRAM"))}


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def requirements(wheel: Path, extras: Sequence[str]) -> set[str]:
    """Distributions that an installer would bring along, from the metadata of the wheel and of those here."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(f"{NAME}[{','.join(extras)}]")]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        asked = {"", *wanted.extras}
        if asked <= found.get(name, set()):
            continue
        found.setdefault(name, set()).update(asked)
        listed = metadata(wheel).get_all("Requires-Dist") if name == NAME else distribution(name).requires
        for line in listed or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in asked):
                waiting.append(requirement)
    return set(found) - {NAME}


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel."""

    folder: Path

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "bin" / program), *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=clean_environment()
        )

    def gram(self, *arguments: object) -> str:
        done = self.run("gram", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def environment(folder: Path, wheel: Path, *extras: str) -> Environment:
    """With the wheel installed, and all that it requires with ``extras``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip("--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    [site] = folder.glob("lib/python*/site-packages")
    for name in requirements(wheel, extras):
        files = distribution(name).files
        assert files, name
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            place = site / top
            if not place.exists():
                place.symlink_to(Path(str(distribution(name).locate_file(top))))
    return Environment(folder)


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment(tmp_path_factory.mktemp("core") / "env", wheel)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": item.pair.prompt[-1].content, "chosen": item.pair.a, "rejected": item.pair.b}
        for item in make_preferences(6, seed=3)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_what_the_wheel_holds(wheel: Path) -> None:
    """The package with its templates, pages and shipped models, and nothing beside it."""
    with ZipFile(wheel) as archive:
        entries = [entry for entry in archive.infolist() if "/" in entry.filename]
    names = {entry.filename for entry in entries}
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "gram").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert sources <= names and {name.split("/")[0] for name in names - sources} == {
        f"gram_rm-{__version__}.dist-info"
    }
    code = [entry for entry in entries if not entry.filename.startswith("gram/shipped/")]
    assert sum(entry.file_size for entry in code) < LARGEST_CODE
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_what_the_wheel_says_of_itself(wheel: Path) -> None:
    said = metadata(wheel)
    assert (said["Name"], said["Version"]) == (NAME, __version__)
    core = [line for line in said.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert len(core) == 6 and "torch" not in " ".join(core)
    assert {"torch", "train", "serve", "dev"} <= set(said.get_all("Provides-Extra") or [])
    assert said["Description-Content-Type"] == "text/markdown" and str(said.get_payload()).startswith("# ")


def test_the_core_is_small(wheel: Path) -> None:
    """The six requirements and theirs; no library of tensors, tables or servers."""
    small, large = requirements(wheel, []), requirements(wheel, ["torch"])
    assert {"numpy", "httpx2", "tyro"} <= small and len(small) < 25
    assert not small & {"torch", "transformers", "datasets", "peft", "accelerate", "pandas", "fastapi"}
    assert small | {"torch", "transformers", "peft", "datasets"} <= large


def test_the_core_starts_without_any_library(core: Environment) -> None:
    """``gram --help`` and ``import gram`` load the standard library and ourselves."""
    program = (
        "import sys; before = set(sys.modules); import gram, gram.cli.main; print(gram.__file__); "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = core.run("python", "-c", program)
    assert done.returncode == 0, done.stderr
    place, loaded = done.stdout.splitlines()
    assert Path(place).is_relative_to(core.folder) and loaded.split() == ["gram"]
    overview = core.gram("--help")
    assert all(f"\n  {name} " in overview for name in COMMANDS)
    assert core.gram("--version") == f"gram {__version__}\n"
    assert "--model" in core.gram("score", "--help")


def test_the_core_compares_runs(
    core: Environment, judge_folder: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / "both", tmp_path / "one"]
    for folder, orders in zip(runs, ([], ["--single-order"]), strict=True):
        arguments = ["eval", "--model", judge_folder, "--data", pairs, "--output", folder, *orders]
        assert run(capsys, *arguments)[0] == 0
    result = json.loads(core.gram("report", *runs, "--output", tmp_path / "report"))
    assert list(result["differences"]) == ["one"] and (tmp_path / "report" / "report.html").is_file()


def test_with_torch_it_scores_as_here(
    wheel: Path,
    core: Environment,
    judge_folder: Path,
    pairs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scoring = ["score", "--model", judge_folder, "--input", pairs, "--output"]
    done = core.run("gram", *scoring, tmp_path / "none.jsonl")
    assert (done.returncode, done.stderr) == (
        1,
        "gram score: torch is not installed: pip install 'gram-rm[torch]'\n",
    )
    environment(tmp_path / "env", wheel, "torch").gram(*scoring, tmp_path / "there.jsonl")
    assert run(capsys, *scoring, tmp_path / "here.jsonl")[0] == 0
    here, there = (
        [json.loads(line)["p_a"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("here", "there")
    )
    assert len(here) == 6 and there == pytest.approx(here, abs=1e-6)
