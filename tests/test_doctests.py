"""The examples in docstrings are true: each runs as it stands there."""

from __future__ import annotations

import doctest
import shutil
from importlib import import_module
from pathlib import Path

import pytest

SHIPPED = "gram-135m"
SOURCE = Path(__file__).parent.parent / "src"
MODULES = sorted(
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for file in (SOURCE / "gram").rglob("*.py")
    if ">>>" in file.read_text(encoding="utf-8")
)


def test_examples_are_found() -> None:
    assert {"gram.types", "gram.engine.trie", "gram.scoring.judge"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(
    name: str, tmp_path: Path, judge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # an example that writes files leaves none here
    shutil.copytree(judge_folder, SHIPPED)  # a folder of that name comes first, and needs no fetched base
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed
