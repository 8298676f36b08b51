"""The house rules that a reader of the code may rely on, checked on the syntax tree of every module.

Imports count wherever they stand: at the top, late inside a function, under ``TYPE_CHECKING``, or as a
module's name handed to ``import_module``. A dependency does not become harmless by being late.
"""

from __future__ import annotations

import ast
import graphlib
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from import_table import MAY_IMPORT

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
SHIPPED_CONFIGS = 14

HEAVY = {"torch", "transformers", "datasets", "matplotlib", "peft", "accelerate", "trl"}
MAY_LOAD_HEAVY_AT_ONCE = {
    "rendering",
    "engine",
    "objectives",
    "modeling",
    "training",
    "scoring",
    "adaptation",
}
MAY_LOAD_HEAVY_AT_ONCE |= {"bench"}


@dataclass(frozen=True)
class Module:
    """One file of the package: its dotted name and its syntax tree."""

    name: str
    is_package: bool
    tree: ast.Module

    @property
    def part(self) -> str:
        return part_of(self.name)

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]


def part_of(name: str) -> str:
    """The part a dotted name belongs to: ``gram.data.rows`` -> ``data``, ``gram`` -> ``gram``."""
    names = name.split(".")
    return names[1] if len(names) > 1 else names[0]


@cache
def modules() -> dict[str, Module]:
    """Every module of the package, by dotted name."""
    by_name = {}
    for file in sorted((SOURCE / "gram").rglob("*.py")):
        names = file.relative_to(SOURCE).with_suffix("").parts
        is_package = names[-1] == "__init__"
        name = ".".join(names[:-1] if is_package else names)
        by_name[name] = Module(name, is_package, ast.parse(file.read_text(encoding="utf-8"), str(file)))
    return by_name


def imported(module: Module, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Absolute dotted names that the given nodes import; ``from m import n`` gives ``m.n``."""
    for node in nodes:
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                above = module.package.split(".")
                prefix = above[: len(above) - level + 1] if level else []
                base = ".".join([*prefix, *([source] if source else [])])
                yield from (f"{base}.{alias.name}" for alias in names)


def named_for_late_import(module: Module) -> Iterator[str]:
    """Strings that name a module of ours, in a module that imports by name (``import_module``)."""
    nodes = list(ast.walk(module.tree))
    if any(isinstance(node, ast.Name) and node.id == "import_module" for node in nodes):
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = module.package + node.value if node.value.startswith(".") else node.value
                if name in modules():
                    yield name


def own_module(name: str) -> str | None:
    """The module of ours that a dotted name lies in, or ``None`` for someone else's."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


@cache
def edges() -> dict[str, set[str]]:
    """Module -> the modules of ours it imports."""
    graph: dict[str, set[str]] = {}
    for module in modules().values():
        names = [*imported(module, ast.walk(module.tree)), *named_for_late_import(module)]
        graph[module.name] = {own for name in names if (own := own_module(name))} - {module.name}
    return graph


def part_edges() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for source, targets in edges().items():
        graph.setdefault(part_of(source), set()).update(part_of(target) for target in targets)
    return {part: targets - {part} for part, targets in graph.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of the graph, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


# --- Imports ---


def test_every_part_is_in_the_import_table() -> None:
    assert set(part_edges()) <= set(MAY_IMPORT), "a new package or module needs a line in MAY_IMPORT"
    assert {"gram", "types", "errors", "objectives"} <= set(part_edges()), "the walk found too little"


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_the_table_allows(part: str) -> None:
    allowed = MAY_IMPORT[part] | {part}
    forbidden = [
        f"{source} imports {target}"
        for source, targets in edges().items()
        for target in sorted(targets)
        if part_of(source) == part and part_of(target) not in allowed
    ]
    assert not forbidden


def test_no_circles_between_parts() -> None:
    assert not circle(part_edges())


def test_no_circles_between_modules() -> None:
    assert not circle(edges())


def test_late_and_relative_imports_are_seen() -> None:
    """The walk itself, on modules made up here: every kind of import is found."""
    text = """
import gram.errors
from gram import types
from .runner import run
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from gram.data import rows
def late():
    from ..scoring import load
"""
    module = Module("gram.evaluation.records", False, ast.parse(text))
    assert set(imported(module, ast.walk(module.tree))) == {
        "gram.errors",
        "gram.types",
        "gram.evaluation.runner.run",
        "typing.TYPE_CHECKING",
        "gram.data.rows",
        "gram.scoring.load",
    }
    lazy = Module("gram", True, ast.parse('import_module(".types", __name__); import_module("gram.errors")'))
    assert list(named_for_late_import(lazy)) == ["gram.types", "gram.errors"]
    assert own_module("gram.types.Pair") == "gram.types"
    assert own_module("torch.nn") is None
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_heavy_libraries_are_imported_late() -> None:
    """Where a newcomer only asks for help or reads records, torch must not cost three seconds."""
    early = [
        f"{module.name} imports {name} at the top"
        for module in modules().values()
        if module.part not in MAY_LOAD_HEAVY_AT_ONCE
        for name in imported(module, iter(module.tree.body))
        if name.split(".")[0] in HEAVY
    ]
    assert not early


def loaded_by(*arguments: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter loads for these arguments."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    messages = [line for line in lines if not line.startswith("import time:")]
    assert done.returncode == 0, "\n".join(messages)
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines if line not in messages}


def test_the_probe_sees_what_is_loaded() -> None:
    assert {"json", "numpy", "gram"} <= loaded_by("-c", "import json, gram.types")


@pytest.mark.law(8)
@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import gram"),
        ("-c", "import gram.data, gram.evaluation, gram.ranking"),
        ("-c", "import gram.scoring.judge"),
        ("-c", "import " + ", ".join(sorted(name for name, m in modules().items() if m.is_package))),
        ("-m", "gram", "--help"),
        ("-m", "gram", "bench", "--help"),
    ],
    ids=[
        "import gram",
        "import light packages",
        "a judge without its backend",
        "import every package",
        "gram --help",
        "gram bench --help",
    ],
)
def test_loads_no_torch(arguments: tuple[str, ...]) -> None:
    heavy = loaded_by(*arguments) & HEAVY
    assert not heavy


# --- What is shipped ---


def test_every_shipped_config_loads() -> None:
    from gram.training.config import load_config

    folders = (ROOT / "configs", ROOT / "experiments")
    files = [path for folder in folders for path in sorted(folder.rglob("*.y*ml"))]
    configs = [path for path in files if path.parent.name != "accelerate"]
    assert len(configs) == SHIPPED_CONFIGS
    for config in configs:
        load_config(config)


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is(name: str) -> None:
    docstring = ast.get_docstring(modules()[name].tree) or ""
    assert len(docstring.split()) >= 4, f"{name} has no docstring to speak of"


def test_no_module_names_a_folder_above() -> None:
    """What the package reads is named by its user, or lies within it."""
    outside = [
        f"{module.name}: {node.value!r}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "../" in node.value
    ]
    assert not outside


def test_no_module_attracts_everything() -> None:
    magnets = {"utils", "util", "helpers", "common", "misc"}
    assert not [name for name in modules() if magnets & set(name.split("."))]


# --- Size ---

LONGEST_MODULE, LONGEST_FUNCTION = 300, 60


@pytest.mark.parametrize("name", modules())
def test_a_module_can_be_read_in_one_go(name: str) -> None:
    file = SOURCE / Path(*name.split("."))
    file = file / "__init__.py" if modules()[name].is_package else file.with_suffix(".py")
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_MODULE, f"{name} has {lines} lines: what does it know that another could?"


def test_a_function_can_be_read_in_one_go() -> None:
    long = [
        f"{module.name}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long


def test_the_commands_are_thin() -> None:
    """A file in cli/ is a configuration, a call and a print: the work has a room of its own."""
    files = list((SOURCE / "gram" / "cli").glob("*.py"))
    assert len(files) > 8
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 900


def test_nobody_asks_a_model_what_it_has() -> None:
    """What a loaded model offers is declared in ``types.RewardModel``, and read from there."""
    offers = {"compare", "score", "slope", "usage", "template", "temperature", "tokens_cut"}
    asked = [
        f"{module.name}: {node.args[1].value}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in offers
        and not (
            module.part in ("engine", "modeling") and node.args[1].value == "score"
        )  # a layer's name there
    ]
    assert not asked


# --- The page ---


def test_the_page_names_every_room_and_files_that_are_there() -> None:
    """Four walks of at most twelve steps, none twice through one room; every file named in a step exists."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms_on_page = set(re.findall(r"`(\w+)`", page.split("## Rooms")[1].split("## Four walks")[0]))
    assert set(part_edges()) - {"gram", "__main__"} <= rooms_on_page
    walks = page.split("## Four walks")[1].split("## Where to add")[0].split("### ")[1:]
    assert len(walks) == 4
    for walk in walks:
        steps = re.findall(r"^\d+\. `([\w/]+)\.py`", walk, re.MULTILINE)
        assert 4 <= len(steps) <= 12, walk
        rooms = [step.split("/")[0] for step in steps]
        assert len(set(rooms)) == len(rooms), walk
        for step in steps:
            assert (SOURCE / "gram" / f"{step}.py").is_file(), step


def test_the_picture_is_drawn_from_the_table(tmp_path: Path) -> None:
    """Floors and arrows as the picture shows them, and a chain of arrows for every import that is allowed."""
    script = runpy.run_path(str(ROOT / "docs" / "architecture.py"))
    graph = script["rooms"]()
    height = {name: level for level, names in enumerate(script["floors"](graph)) for name in names}
    assert set(height) == set(graph) and all(height[a] > height[b] for a in graph for b in graph[a])
    links: dict[str, set[str]] = {}
    for above, below in script["arrows"](graph):
        links.setdefault(above, set()).add(below)

    def seen_from(name: str) -> set[str]:
        return links.get(name, set()).union(*(seen_from(below) for below in links.get(name, set())))

    assert all(graph[name] <= seen_from(name) for name in graph)
    script["draw"](tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert (ROOT / "docs" / "images" / "architecture.png").is_file()
