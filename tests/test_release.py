"""What a release says of itself agrees: the version, the changelog, the citation, the Pythons it runs on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from gram.version import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere() -> None:
    """The newest release of the changelog is the one in the code, dated or not yet."""
    changes = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## \[([\d.]+)\] - (.+)$", changes, re.MULTILINE)
    assert releases[0][0] == __version__ and re.fullmatch(r"Unreleased|\d{4}-\d\d-\d\d", releases[0][1])
    numbers = [tuple(map(int, number.split("."))) for number, _ in releases]
    assert len(numbers) > 1 and numbers == sorted(numbers, reverse=True)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_the_pythons_it_is_for() -> None:
    said = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", c)]
    assert said == ["3.11", "3.12", "3.13"] and PROJECT["requires-python"] == f">={said[0]}"
    page = (ROOT / "docs" / "installing.md").read_text()
    assert "**Python** 3.11, 3.12 and 3.13." in page
