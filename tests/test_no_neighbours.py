"""Nothing in the repository reads outside of it, but experiments that say which public files they read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from experiments.public_files import LIST, faults, listed

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".ci", ".github", "benchmarks", "configs", "docs", "examples", "experiments", "src", "tests")
KINDS = ("", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ".cff")
UPWARDS = re.compile(r"(?<![\w./])(?:\.\./)+[\w./-]+")
BESIDE = re.compile(r"\bROOT\.parent\b|\bparents\[[3-9]\]")
DIARY = Path("experiments/LOG.md")
"""What was run once, as it was run."""


def files() -> list[Path]:
    """Texts of the repository; what is built is elsewhere (``.gitignore``)."""
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found = [path for path in (*below, *ROOT.glob("*")) if path.is_file() and path.suffix in KINDS]
    return sorted(path for path in found if path != Path(__file__) and "__pycache__" not in path.parts)


def leaving(path: Path, text: str) -> Iterator[str]:
    """Paths in ``text`` that lead out: from the repository's folder, on pages from their own too.

    Tests give names like ``../x`` to what refuses them: there, such a path has two parts at least.
    """
    places = (ROOT, path.parent) if path.suffix == ".md" else (ROOT,)
    for found in UPWARDS.finditer(text):
        a_name = "tests" in path.parts and found[0].count("/") == 1
        if not a_name and not any((place / found[0]).resolve().is_relative_to(ROOT) for place in places):
            yield found[0]
    yield from BESIDE.findall(text)


def test_what_leads_out_is_found() -> None:
    page = ROOT / "docs" / "page.md"
    assert list(leaving(page, "[a](../README.md) `../../shared/x.jsonl` .../x ../../docs/../x")) == [
        "../../shared/x.jsonl",
        "../../docs/../x",
    ]
    recipe = ROOT / "configs" / "recipe.yaml"
    assert list(leaving(recipe, "data: [../data/x.jsonl, ./data/x.jsonl]")) == ["../data/x.jsonl"]
    test = ROOT / "tests" / "test_x.py"
    assert list(leaving(test, "ROOT.parent / '../x' / '../x/y'")) == ["../x/y", "ROOT.parent"]


def test_no_file_reads_outside_the_repository() -> None:
    """But in experiments, whose scripts and recipes then name the list of public files."""
    found = files()
    assert len(found) > 300
    for path in found:
        name, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        if name == DIARY or name.name == "public_files.py":
            continue
        if name.parts[0] != "experiments":
            assert list(leaving(path, text)) == [], name
        elif list(leaving(path, text)) and path.suffix == ".py":
            assert "public_files.py" in text, f"{name}: say where the files are from"


def test_every_public_file_that_is_named_is_on_the_list() -> None:
    """With where it is from, its licence and its sum; and the list is read by eye: a file a line."""
    entries = {entry["file"]: entry for entry in listed()}
    assert len(entries) == len(listed()) == len(LIST.read_text().splitlines()) - 2
    for name, entry in entries.items():
        assert all(entry[field] for field in ("repository", "commit", "licence")), name
        for field in ("sha256", "rows_sha256"):
            assert re.fullmatch(r"[0-9a-f]{64}", entry[field]), name
    named = 0
    for path in (ROOT / "experiments").rglob("*"):
        if path.suffix in ("", ".py", ".yaml") and path.is_file():
            for file in re.findall(r"\.\./shared/data/(\w+/\w+\.jsonl\.gz)", path.read_text()):
                named += 1
                assert file in entries, f"{path.name}: {file}"
    assert named > 15


def test_missing_and_other_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of an empty file is known: e3b0c442..."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    rows = [
        {
            "file": f"pref/{name}.jsonl.gz",
            "repository": "o/r",
            "commit": "c",
            "licence": "MIT",
            "sha256": empty,
            "rows_sha256": empty,
        }
        for name in ("same", "other", "gone")
    ]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    monkeypatch.setattr("experiments.public_files.LIST", tmp_path / "list.json")
    (tmp_path / "pref").mkdir()
    (tmp_path / "pref" / "same.jsonl.gz").write_bytes(b"")
    (tmp_path / "pref" / "other.jsonl.gz").write_bytes(b"x")
    assert faults(tmp_path) == [
        "pref/other.jsonl.gz: another file than that of our numbers, which was made from o/r at c",
        "pref/gone.jsonl.gz: not there; made from o/r at c",
    ]
