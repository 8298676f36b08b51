"""Each law of CONTRIBUTING.md has a test that ``make quick`` runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.law(9)
def test_every_law_is_held_by_a_test() -> None:
    """The numbers of the page and those of the marks are the same; no test is marked slow as well."""
    page = (
        (ROOT / "CONTRIBUTING.md").read_text().split("## Laws that every change keeps")[1].split("\n## ")[0]
    )
    laws = set(re.findall(r"^(\d+)\. ", page, re.MULTILINE))
    held: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for numbers in re.findall(r"pytest\.mark\.law\(([\d, ]+)\)", path.read_text()):
            for number in numbers.split(", "):
                held.setdefault(number, set()).add(path.name)
    assert len(laws) == 9 and set(held) == laws
